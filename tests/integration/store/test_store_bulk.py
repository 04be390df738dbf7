"""A night of size: its rows become a leaf, and nobody who reads or stages meanwhile sees anything of it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from threading import Event
from time import monotonic

import pytest
from sqlalchemy import text

from sentiment_core.domain import ScoredBatch
from sentiment_core.errors import Transient
from sentiment_core.store import publish as module
from sentiment_core.store.engine import connect
from sentiment_core.store.ledger import stage
from sentiment_core.store.publish import MIN_BULK_ROWS, is_bulk, publish

DAY = date(2026, 11, 1)
LEAF, STAGED = "sentiment.scored_reviews_20261101", "sentiment.staged_reviews_20261101"


@pytest.fixture(autouse=True)
def _bulk(monkeypatch):
    monkeypatch.setattr(module, "is_bulk", lambda *_: True)


def storage(store, relation):
    """The file that holds a table's rows: another one when they have been written again."""
    [[name]] = store.rows("select pg_relation_filepath(:relation)", relation=relation)
    return name


def test_a_new_leaf_pays_from_a_number_of_rows_on_and_not_beside_many_that_stay():
    assert [is_bulk(MIN_BULK_ROWS - 1, 0), is_bulk(MIN_BULK_ROWS, 0)] == [False, True]
    assert [is_bulk(200, 10**7), is_bulk(10**6, 10**6), is_bulk(10**6, 10**7)] == [False, True, False]


def test_a_fresh_date_becomes_current_without_being_written_again(store):
    store.deliver("a", ["r1", "r2"])
    store.deliver("b", ["r3"])
    before = storage(store, STAGED)
    store.publish()
    assert storage(store, LEAF) == before != storage(store, STAGED)
    assert set(store.current()) == {(DAY, "r1"), (DAY, "r2"), (DAY, "r3")}
    assert store.current("row_number") == {(DAY, "r1"): 0, (DAY, "r2"): 1, (DAY, "r3"): 0}
    assert store.rows("select count(*) from sentiment.staged_reviews") == [(0,)]


def test_the_old_leaf_of_a_date_that_is_scored_anew_becomes_history_without_being_written_again(store, reader_url):
    obj = store.obj("a")
    store.deliver(obj, ["r1", "r2"], run_id="one")
    store.publish()
    before = storage(store, LEAF)
    store.deliver(obj, ["r1"], run_id="two", force=True)
    [done] = store.publish()
    assert (done.n_inserted, done.n_updated, done.n_deleted, done.n_retired) == (0, 1, 1, 2)
    assert store.current("run_id") == {(DAY, "r1"): "two"}
    with connect(reader_url).connect() as reader:
        history = "select review_id, run_id, retired_at >= scored_at, tableoid::regclass::text from sentiment.score_history"
        found = [tuple(row) for row in reader.execute(text(history + " order by review_id"))]
    assert [row[:3] for row in found] == [("r1", "one", True), ("r2", "one", True)]
    assert storage(store, found[0][3]) == before


def test_rows_that_stay_go_into_the_new_leaf_and_not_into_the_history(store):
    store.deliver("a", ["r1", "r2", "r3", "r4", "r5"], run_id="one")
    store.deliver("b", ["s1"], run_id="one")
    store.publish()
    store.deliver("a", ["r1", "r2", "r3"], run_id="two")
    [done] = store.publish()
    assert (done.n_inserted, done.n_updated, done.n_deleted, done.n_retired) == (0, 3, 2, 5)
    assert store.current("run_id") == {(DAY, "s1"): "one"} | {(DAY, f"r{number}"): "two" for number in (1, 2, 3)}
    store.deliver("c", ["s1", "t1"], run_id="three")
    [done] = store.publish()
    assert (done.n_inserted, done.n_updated, done.n_deleted, done.n_retired) == (1, 1, 0, 1)
    retired = store.rows("select review_id, run_id from sentiment.score_history order by review_id")
    assert retired == [*((f"r{number}", "one") for number in (1, 2, 3, 4, 5)), ("s1", "one")]


def test_whoever_stages_into_the_date_meanwhile_loses_nothing(store):
    store.deliver("a", ["r1"])
    model = store.model(1)
    with stage(store.engine, store.obj("b"), window_date=DAY, model=model, run_id="run", lease_seconds=60) as staging:
        staging.add(ScoredBatch(table=store.batch(["r2"]), model=model))
        before = storage(store, STAGED)
        store.publish()
        assert storage(store, STAGED) == before
        assert set(store.current()) == {(DAY, "r1")}
        more = store.batch(["zero", "r3"]).slice(1)
        staging.add(ScoredBatch(table=more, model=model))
    store.publish()
    assert set(store.current()) == {(DAY, "r1"), (DAY, "r2"), (DAY, "r3")}
    assert store.rows("select distinct status from sentiment.source_objects") == [("scored",)]


def test_rows_that_a_later_staging_has_replaced_do_not_come_along(store):
    obj = store.obj("a")
    store.deliver(obj, ["r1", "r2"], run_id="one")
    store.deliver(obj, ["r2"], run_id="two", force=True)
    store.publish()
    assert store.current("run_id") == {(DAY, "r2"): "two"}
    assert store.rows("select count(*) from sentiment.staged_reviews") == [(0,)]


def test_readers_find_every_row_once_while_leaves_are_swapped(store, reader_url):
    obj, n = store.obj("a"), 3000
    reviews = [f"r{number}" for number in range(n)]
    store.deliver(obj, reviews)
    store.publish()
    is_over, seen = Event(), set()

    def read():
        count = text("select count(*), count(distinct review_id), count(distinct run_id) from sentiment.scored_reviews")
        n_reads = 0
        with connect(reader_url).connect() as reader:
            while not is_over.is_set():
                seen.add(tuple(reader.execute(count).one()))
                reader.rollback()
                n_reads += 1
        return n_reads

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read) for _ in range(2)]
        try:
            for number in range(8):
                store.deliver(obj, reviews, run_id=f"run-{number}", force=True)
                assert [done.n_updated for done in store.publish()] == [n]
        finally:
            is_over.set()
        assert min(item.result(timeout=60) for item in reading) > 8
    assert seen == {(n, n, 1)}


def test_beside_a_reader_who_stays_the_rows_are_merged_into_the_old_leaf(store, reader_url):
    store.deliver("a", ["r1"])
    store.publish()
    before = storage(store, LEAF)
    count = text("select count(*) from sentiment.scored_reviews")
    with connect(reader_url).begin() as reader:
        assert reader.execute(count).scalar_one() == 1
        store.deliver("b", ["r2"])
        store.publish()
        assert reader.execute(count).scalar_one() == 2
    assert storage(store, LEAF) == before
    assert set(store.current()) == {(DAY, "r1"), (DAY, "r2")}


@pytest.mark.parametrize(("looks_first", "expected"), [(False, []), (True, [("one",)])])
def test_a_transaction_of_one_moment_keeps_its_date_if_it_has_looked_before(store, reader_url, looks_first, expected):
    """What the README tells analysts who want several statements to agree."""
    obj = store.obj("a")
    store.deliver(obj, ["r1"], run_id="one")
    store.publish()
    with connect(reader_url).connect().execution_options(isolation_level="REPEATABLE READ") as reader:
        reader.execute(text("select count(*) from sentiment.scored_reviews" if looks_first else "select 1 from sentiment.labels"))
        store.deliver(obj, ["r1"], run_id="two", force=True)
        store.publish()
        assert reader.execute(text("select run_id from sentiment.scored_reviews")).all() == expected
        reader.rollback()
        assert reader.execute(text("select run_id from sentiment.scored_reviews")).all() == [("two",)]


def test_a_fresh_date_is_attached_beside_a_reader_who_stays(store, reader_url):
    store.deliver("a", ["r1"])
    store.publish()
    tomorrow = DAY + timedelta(days=1)
    with connect(reader_url).begin() as reader:
        reader.execute(text("select count(*) from sentiment.scored_reviews"))
        store.deliver("b", [{"review_id": "r2", "review_date": tomorrow}])
        before = storage(store, "sentiment.staged_reviews_20261102")
        store.publish()
        assert storage(store, "sentiment.scored_reviews_20261102") == before


def test_a_server_process_killed_in_the_middle_of_a_swap_leaves_what_was_there(store, owner):
    obj = store.obj("a")
    store.deliver(obj, ["r1", "r2"], run_id="one")
    store.publish()
    before = storage(store, LEAF)
    store.deliver(obj, ["r1"], run_id="two", force=True)
    with ThreadPoolExecutor(1) as pool, owner.begin() as blocker:
        blocker.execute(text("lock table sentiment.scored_reviews in access share mode"))
        publishing = pool.submit(publish, store.engine, DAY, run_id="two")
        _kill(owner, "%swap_leaf%", publishing)
        with pytest.raises(Transient):
            publishing.result(timeout=30)
    assert store.current("run_id") == {(DAY, "r1"): "one", (DAY, "r2"): "one"}
    assert storage(store, LEAF) == before
    assert store.rows("select count(*) from sentiment.score_history") == [(0,)]
    store.publish()
    assert store.current("run_id") == {(DAY, "r1"): "two"}


def _kill(owner, query, future):
    deadline = monotonic() + 30
    found = text(
        "select pg_terminate_backend(pid) from pg_stat_activity where query like :query and pid <> pg_backend_pid()"
        " and state = 'active' and datname = current_database()"
    )
    while monotonic() < deadline:
        with owner.begin() as connection:
            if connection.execute(found, {"query": query}).all():
                return
        assert not future.done(), "it was over before it could be killed"
    pytest.fail(f"no session came to {query}")


CATALOGUES = {
    "columns": """
        select attname, format_type(atttypid, atttypmod), attnotnull, attcollation, attinhcount, attislocal, atthasdef,
            attstorage, attacl::text, col_description(attrelid, attnum)
        from pg_attribute where attrelid = cast(:leaf as regclass) and attnum > 0 and not attisdropped order by attnum""",
    "constraints": """
        select conname, contype, pg_get_constraintdef(oid), coninhcount, conislocal, convalidated
        from pg_constraint where conrelid = cast(:leaf as regclass) order by conname""",
    "indexes": """
        select pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisvalid, pg_get_indexdef(h.inhparent)
        from pg_index i left join pg_inherits h on h.inhrelid = i.indexrelid
        where i.indrelid = cast(:leaf as regclass) order by 1""",
    "table": """
        select c.relkind, c.relpersistence, c.relacl::text, c.relowner, c.reloptions, c.relispartition,
            obj_description(c.oid, 'pg_class'), pg_get_expr(c.relpartbound, c.oid)
        from pg_class c where c.oid = cast(:leaf as regclass)""",
}


@pytest.mark.parametrize("catalogue", CATALOGUES)
@pytest.mark.parametrize("history", [["first"], ["first", "anew"], ["beside"]])
def test_a_leaf_that_was_swapped_in_is_like_one_that_was_made_empty(store, catalogue, history):
    other = DAY - timedelta(days=1)
    obj = store.obj("a")
    for run_id in history:
        store.deliver(obj, ["r1"], run_id=run_id, force=True)
        if run_id == "beside":  # another object is being staged: the rows are copied into the new leaf
            model = store.model(1)
            with stage(store.engine, store.obj("b"), window_date=DAY, model=model, run_id="run", lease_seconds=60) as staging:
                staging.add(ScoredBatch(table=store.batch(["r2"]), model=model))
                store.publish()
        store.publish()
    with store.engine.begin() as connection:
        connection.execute(text("select sentiment.ensure_leaf(:day)"), {"day": other})

    def look(day):
        rows = store.rows(CATALOGUES[catalogue], leaf=f"sentiment.scored_reviews_{day:%Y%m%d}")
        names = {f"{day:%Y%m%d}": "<day>", f"{day}": "<day>", f"{day + timedelta(days=1)}": "<next>"}
        found = repr(rows)
        for name, stands_for in names.items():
            found = found.replace(name, stands_for)
        return found

    assert look(DAY) == look(other) != "[]"


def test_staged_rows_are_no_matter_for_autovacuum_until_they_are_current(store):
    options = "select reloptions from pg_class where oid = cast(:leaf as regclass)"
    store.deliver("a", ["r1"])
    spared = [(["autovacuum_vacuum_insert_threshold=-1", "autovacuum_analyze_threshold=2147483647"],)]
    assert store.rows(options, leaf=STAGED) == spared
    store.publish()
    assert store.rows(options, leaf=LEAF) == [(None,)]
    assert store.rows(options, leaf=STAGED) == spared


@pytest.fixture
def eager_autovacuum(postgres_server):
    """Autovacuum that looks every second for what to do."""
    with postgres_server.session() as cursor:
        cursor.execute("alter system set autovacuum_naptime = '1s'")
        cursor.execute("select pg_reload_conf()")
    yield postgres_server
    with postgres_server.session() as cursor:
        cursor.execute("alter system reset autovacuum_naptime")
        cursor.execute("select pg_reload_conf()")


@pytest.mark.parametrize("leaf", [STAGED, LEAF])
def test_autovacuum_lets_go_of_a_leaf_that_a_publication_wants(store, owner, eager_autovacuum, leaf):
    obj, reviews = store.obj("a"), [f"r{number}" for number in range(5_000)]
    store.deliver(obj, reviews, run_id="one")
    if leaf == LEAF:
        store.publish()
        store.deliver(obj, reviews, run_id="two", force=True)
    _slow_down_autovacuum(owner, leaf)
    _await_autovacuum(store, eager_autovacuum, leaf)
    staged = storage(store, STAGED)
    store.publish()
    assert storage(store, LEAF) == staged


def _slow_down_autovacuum(owner, leaf):
    """Give autovacuum dead rows of a leaf to clear away, a page in a tenth of a second."""
    options = "autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_limit = 1"
    with owner.begin() as connection:
        connection.execute(text(f"alter table {leaf} set ({options}, autovacuum_vacuum_cost_delay = 100)"))
        connection.execute(text(f"update {leaf} set text_excerpt = 'other words'"))
    owner.dispose()  # a session that stays tells of its rows seconds later


def _await_autovacuum(store, server, leaf):
    deadline = monotonic() + 60
    [[relid]] = store.rows("select cast(:leaf as regclass)::oid", leaf=leaf)
    with server.session() as cursor:
        while True:
            cursor.execute("select 1 from pg_stat_progress_vacuum where relid = %s and heap_blks_scanned > 0", (relid,))
            if cursor.fetchall():
                return
            assert monotonic() < deadline, f"autovacuum did not come to {leaf}"

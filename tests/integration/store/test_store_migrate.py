"""The schema: applied once, in order, by anyone, and the same in PostgreSQL as in `schema`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import text

from sentiment_core.domain import ModelRef, ObjectVersion
from sentiment_core.errors import Permanent
from sentiment_core.schema import RELATIONS, SCHEMA_MIGRATIONS
from sentiment_core.store import migrate as module
from sentiment_core.store.engine import connect
from sentiment_core.store.ledger import stage
from sentiment_core.store.migrate import Migration, latest_version, migrate, migrations, schema_version
from sentiment_core.store.publish import publish

DAY = date(2026, 11, 1)
TYPES = {"timestamptz": "timestamp with time zone"}
CATALOGUE = """
    select c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        obj_description(c.oid, 'pg_class'), col_description(c.oid, a.attnum)
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = 'sentiment'::regnamespace and c.relkind in ('r', 'p', 'v')
        and not exists (select from pg_inherits i where i.inhrelid = c.oid)
    order by c.relname, a.attnum"""


def execute(url, statement, **values):
    with connect(url, role=None).begin() as connection:
        result = connection.execute(text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []


def test_the_live_catalogue_is_what_the_schema_module_says(database_url):
    found = execute(database_url, CATALOGUE)
    assert {row[0] for row in found} == {relation.name for relation in RELATIONS}
    for relation in RELATIONS:
        rows = [row for row in found if row[0] == relation.name]
        assert [(row[2], row[3]) for row in rows] == [(field.name, TYPES.get(field.sql, field.sql)) for field in relation.fields]
        assert {row[1] for row in rows} == ({"v"} if relation.is_view else {"p"} if relation.name == "scored_reviews" else {"r"})
        assert {row[5] for row in rows} == {relation.comment}
        assert [row[6] for row in rows] == [field.comment for field in relation.fields]
        if not relation.is_view:
            assert {row[2]: not row[4] for row in rows} == {field.name: field.nullable for field in relation.fields}, (
                relation.name
            )


def test_leaves_carry_the_comments_too(store):
    store.deliver("a", ["r1"])
    store.publish()
    undescribed = """
        select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        where c.oid in (select inhrelid from pg_inherits) and c.relkind = 'r'
            and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)"""
    assert store.rows("select count(*) from pg_inherits i join pg_class c on c.oid = i.inhrelid and c.relkind = 'r'") == [(2,)]
    assert store.rows(undescribed) == []


def test_migrating_again_does_nothing(empty_database_url):
    assert schema_version(connect(empty_database_url, role=None)) == 0
    assert migrate(empty_database_url) == [migration.name for migration in migrations()]
    assert migrate(empty_database_url) == []
    assert schema_version(connect(empty_database_url)) == latest_version()


def test_two_migrations_at_once_apply_every_file_once(empty_database_url):
    with ThreadPoolExecutor(2) as pool:
        applied = list(pool.map(migrate, [empty_database_url] * 2))
    assert sorted(applied[0] + applied[1]) == [migration.name for migration in migrations()]


def test_a_later_file_is_applied_alone_and_a_failing_one_leaves_nothing(database_url, monkeypatch):
    number = latest_version() + 1
    good = Migration(version=number, name=f"{number:04}_more.sql", sql="create table sentiment.more (n integer)")
    broken = Migration(version=number + 1, name=f"{number + 1:04}_broken.sql", sql="create table sentiment.other (); select 1/0")
    monkeypatch.setattr(module, "migrations", lambda: (*migrations(), good, broken))
    with pytest.raises(Permanent, match="division by zero"):
        migrate(database_url)
    versions = f"select max(version) from sentiment.{SCHEMA_MIGRATIONS.name}"
    assert execute(database_url, versions) == [(number,)]
    assert execute(database_url, "select to_regclass('sentiment.more') is null, to_regclass('sentiment.other') is null") == [
        (False, True)
    ]


def test_a_changed_file_is_refused(database_url, monkeypatch):
    changed = (replace(migrations()[0], sql="select 1"), *migrations()[1:])
    monkeypatch.setattr(module, "migrations", lambda: changed)
    with pytest.raises(Permanent, match=r"0001_relations\.sql.*as it was applied.*another content"):
        migrate(database_url)


def test_a_database_newer_than_the_code_is_refused(database_url):
    execute(database_url, "insert into sentiment.schema_migrations values (999, '0999_future.sql', 'x', now())")
    with pytest.raises(Permanent, match="newer than this code"):
        migrate(database_url)


def test_a_comment_that_was_changed_comes_back(database_url):
    execute(database_url, "comment on column sentiment.labels.label is 'nonsense'")
    assert migrate(database_url) == []
    assert execute(database_url, "select col_description('sentiment.labels'::regclass, 3)") == [
        ("negative, neutral or positive",)
    ]


def test_roles_that_may_not_be_made_are_asked_for_by_name(empty_database_url, monkeypatch):
    monkeypatch.setattr(module, "WRITER", "sentiment_nobody_made_this")
    with pytest.raises(Permanent, match="CREATE ROLE sentiment_nobody_made_this"):
        migrate(empty_database_url)


def test_the_reader_reads_what_is_public_and_changes_nothing(store, reader_url):
    store.deliver("a", ["r1"])
    store.publish()
    rights = """
        select c.relname, has_table_privilege('sentiment_reader', c.oid, 'select'),
            has_table_privilege('sentiment_reader', c.oid, 'insert, update, delete, truncate, references, trigger, maintain')
        from pg_class c where c.relnamespace = 'sentiment'::regnamespace and c.relkind in ('r', 'p', 'v')"""
    public = {relation.name for relation in RELATIONS if relation.is_public} | {"scored_reviews_20261101"}
    assert {name: (may_read, may_change) for name, may_read, may_change in store.rows(rights)} == {
        name: (name in public, False)
        for name in (*[relation.name for relation in RELATIONS], "scored_reviews_20261101", "staged_reviews_20261101")
    }
    reader = connect(reader_url)
    for relation in RELATIONS:
        with reader.connect() as connection:
            if relation.is_public:
                connection.execute(text(f"select * from sentiment.{relation.name}"))
                continue
            with pytest.raises(Permanent, match="permission denied"):
                connection.execute(text(f"select * from sentiment.{relation.name}"))


@pytest.mark.parametrize(
    "forbidden",
    [
        "delete from sentiment.labels",
        "create temporary table mine (n integer)",
        "create table sentiment.mine (n integer)",
        "create table public.mine (n integer)",
        "select sentiment.ensure_leaf('2026-11-01')",
    ],
)
def test_the_reader_makes_nothing(forbidden, reader_url):
    with pytest.raises(Permanent, match="permission denied"), connect(reader_url).begin() as connection:
        connection.execute(text(forbidden))


@pytest.mark.parametrize(
    "forbidden",
    [
        "create table sentiment.mine (n integer)",
        "drop table sentiment.labels",
        "alter table sentiment.labels add mine integer",
        "truncate sentiment.labels",
        "drop table sentiment.scored_reviews_20261101",
        "delete from sentiment.schema_migrations",
    ],
)
def test_the_writer_changes_rows_and_no_relation(forbidden, store):
    store.deliver("a", ["r1"])
    store.publish()
    assert store.rows("select current_user") == [("sentiment_writer",)]
    with pytest.raises(Permanent, match=r"permission denied|must be owner"), store.engine.begin() as connection:
        connection.execute(text(forbidden))


BEFORE_LEAVES = """
insert into sentiment.source_objects (bucket, key, sequence, etag, size, last_modified, window_date, status, scored_at)
values
    ('reviews', 'early', 1, 'x', 1, '2026-11-02 08:00Z', '2026-11-01', 'scored', now()),
    ('reviews', 'late', 1, 'x', 1, '2026-11-02 09:00Z', '2026-11-01', 'scored', now()),
    ('reviews', 'waiting', 1, 'x', 1, '2026-11-02 10:00Z', '2026-11-01', 'staged', null);
select sentiment.ensure_leaf('2026-11-01');
insert into sentiment.object_dates values (1, '2026-11-01', 3, true), (2, '2026-11-01', 1, true), (3, '2026-11-01', 1, false);
insert into sentiment.staged_reviews (review_date, review_id, label, p_negative, p_positive, confidence, model_name,
    model_version, scored_at, run_id, object_id, row_number)
select '2026-11-01', review_id, 'positive', 0, 1, 1, 'sentiment', 1, '2026-11-02 12:00Z', 'run', object_id, row_number
from (values ('r1', 1, 0), ('r2', 1, 1), ('r2', 1, 2), ('r1', 2, 0), ('r3', 3, 0)) v (review_id, object_id, row_number);
insert into sentiment.scored_reviews
select review_date, review_id, product_id, source, label, p_negative, p_neutral, p_positive, confidence, model_name,
    model_version, scored_at, run_id, object_id, text_excerpt
from sentiment.staged_reviews where (object_id, row_number) in ((1, 2), (2, 0))"""


def test_a_database_of_the_first_version_keeps_its_rows_and_what_they_outrank(empty_database_url, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "migrations", lambda: migrations()[:1])
        patch.setattr(module, "_comment", lambda _: None)  # comments are those of the latest version
        migrate(empty_database_url)
    execute(empty_database_url, BEFORE_LEAVES)
    assert "0002_leaves.sql" in migrate(empty_database_url)

    def places(relation):
        rows = execute(empty_database_url, f"select review_id, object_id, row_number from sentiment.{relation} order by 1")
        return sorted(rows)

    assert places("scored_reviews") == [("r1", 2, 0), ("r2", 1, 2)]
    assert places("runner_ups") == [("r1", 1, 0)]
    assert places("staged_reviews") == [("r3", 3, 0)]
    engine = connect(empty_database_url)
    assert publish(engine, DAY, run_id="run").n_inserted == 1
    assert places("scored_reviews") == [("r1", 2, 0), ("r2", 1, 2), ("r3", 3, 0)]
    rewritten = ObjectVersion(bucket="reviews", key="late", etag="y", size=1, last_modified=datetime(2026, 11, 3, tzinfo=UTC))
    ref = ModelRef(name="sentiment", version=1, digest="x")
    with stage(engine, rewritten, window_date=DAY, model=ref, run_id="run", lease_seconds=60):
        pass  # the object is empty now
    publish(engine, DAY, run_id="run")
    assert places("scored_reviews") == [("r1", 1, 0), ("r2", 1, 2), ("r3", 3, 0)]
    assert places("runner_ups") == []
    engine.dispose()

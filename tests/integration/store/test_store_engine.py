"""Connections: who one is, and what errors mean."""

import os
from datetime import UTC, timedelta
from hashlib import md5

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url, text

from sentiment_core.errors import Permanent, Transient
from sentiment_core.local.processes import free_port
from sentiment_core.store import copy
from sentiment_core.store.copy import copy_table
from sentiment_core.store.engine import connect

PIDS = """select pid from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()"""


def test_a_session_is_the_writer_in_utc(store):
    for _ in range(2):  # a returned connection stays the writer
        assert store.rows("select current_user, current_setting('timezone')") == [("sentiment_writer", "UTC")]


def test_a_login_that_may_not_become_the_role_stays_itself(reader_url):
    with connect(reader_url).connect() as connection:
        assert connection.execute(text("select current_user")).scalar_one() == "sentiment_reader"


def test_a_wrong_password_is_permanent_and_is_not_told(database_url):
    wrong = make_url(database_url).set(password="my-other-password").render_as_string(hide_password=False)
    with pytest.raises(Permanent, match="password authentication failed") as caught:
        connect(wrong).connect()
    assert "my-other-password" not in str(caught.value)


def test_a_database_that_does_not_exist_is_permanent(database_url):
    with pytest.raises(Permanent, match="does not exist"):
        connect(make_url(database_url).set(database="nowhere").render_as_string(hide_password=False)).connect()


def test_a_server_that_is_away_is_transient():
    with pytest.raises(Transient, match="a server that answers"):
        connect(f"postgresql://me@127.0.0.1:{free_port()}/reviews").connect()


def test_an_address_that_is_none_is_permanent():
    with pytest.raises(Permanent, match="database address"):
        connect("not an address")


def test_a_lost_connection_is_transient_and_the_next_one_works(store, owner):
    with pytest.raises(Transient), store.engine.begin() as connection:  # noqa: PT012 (the loss needs a connection)
        connection.execute(text("select 1"))
        with owner.begin() as other:
            other.execute(text(f"select pg_terminate_backend(pid) from ({PIDS}) s"))
        connection.execute(text("select 1"))
    assert store.rows("select 1") == [(1,)]


def test_a_connection_lost_while_idle_is_not_noticed(store, owner):
    assert store.rows("select 1") == [(1,)]
    with owner.begin() as other:
        other.execute(text(f"select pg_terminate_backend(pid, 5000) from ({PIDS}) s"))
    assert store.rows("select 1") == [(1,)]


def test_a_lock_that_is_not_had_in_time_is_transient(store):
    with store.engine.begin() as holder, store.engine.begin() as other:
        holder.execute(text("lock table sentiment.labels in share mode"))
        other.execute(text("set local lock_timeout = '50ms'"))
        with pytest.raises(Transient, match="lock timeout"):
            other.execute(text("delete from sentiment.labels"))


def test_a_wrong_statement_is_permanent(store):
    with pytest.raises(Permanent, match='column "nonsense" does not exist'):
        store.rows("select nonsense")


TYPES = {
    "flag": ("smallint", pa.int8(), st.integers(1, 5)),
    "small": ("integer", pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "big": ("bigint", pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "share": ("real", pa.float32(), st.floats(width=32, allow_nan=False)),
    "p": ("double precision", pa.float64(), st.floats(allow_nan=False)),
    "day": ("date", pa.date32(), st.dates()),
    "moment": ("timestamptz", pa.timestamp("us", tz="UTC"), st.datetimes(timezones=st.just(UTC))),
    "words": ("text", pa.string(), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))),
    "large": ("text", pa.large_string(), st.text(st.characters(codec="utf-8", exclude_characters="\x00"))),
    "content": ("bytea", pa.binary(), st.binary()),
}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, (_, _, values) in TYPES.items()}), max_size=20)


@settings(
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "60")),
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=ROWS, cut=st.integers(0, 5), many=st.booleans(), piece_bytes=st.sampled_from([1, 500, 8 << 20]))
def test_what_is_copied_in_comes_out_again(store, monkeypatch, *, rows, cut, many, piece_bytes):
    monkeypatch.setattr(copy, "_PIECE_BYTES", piece_bytes)
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, kind) for name, (_, kind, _) in TYPES.items()])).slice(cut)
    if many:
        table = pa.concat_tables([table, table.slice(1)])
    columns = ", ".join(f"{name} {sql}" for name, (sql, _, _) in TYPES.items())
    with store.engine.begin() as connection:
        connection.execute(
            text(f"create temporary table copied (place bigint generated always as identity, {columns}, run text) on commit drop")
        )
        copy_table(connection, "pg_temp.copied", table, {"run": ("text", "r")})
        found = connection.execute(text(f"select {', '.join(TYPES)} from copied where run = 'r' order by place")).mappings()
        given_back = [
            {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()} for row in found
        ]
    assert pa.Table.from_pylist(given_back, schema=table.schema).equals(table)


def test_long_texts_are_copied_in_piece_by_piece(store):
    texts = [f"{number}" * 700_000 for number in range(40)]
    table = pa.table({"words": pa.array([*texts, None, "last"], pa.large_string())})
    with store.engine.begin() as connection:
        connection.execute(text("create temporary table copied (words text) on commit drop"))
        copy_table(connection, "pg_temp.copied", table)
        found = connection.execute(text("select md5(words) from copied")).scalars().all()
    assert found == [value and md5(value.encode(), usedforsecurity=False).hexdigest() for value in [*texts, None, "last"]]


def test_a_nul_character_is_a_clear_permanent_error(store):
    with pytest.raises(Permanent, match="without NUL characters"):
        store.deliver("a", ["bad\x00id"])
    assert store.statuses("a") == []

"""Who may do what in PostgreSQL: passwords are never sent, nobody may more than the work needs, pages only read."""

import sys
from datetime import date

import psycopg2
import pytest
from sqlalchemy import make_url, text

from sentiment_core.errors import Permanent
from sentiment_core.settings import REPOSITORY
from sentiment_core.store.engine import connect

DAY = date(2026, 11, 1)
LOGINS = ("sentiment_owner", "sentiment_reader")


def rows(url, query, role=None):
    engine = connect(url, role=role)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    finally:
        engine.dispose()


@pytest.mark.usefixtures("migrated_template")
def test_every_login_is_scram_and_no_way_in_is_without_a_password(postgres_server):
    with postgres_server.session() as cursor:
        cursor.execute("show password_encryption")
        assert cursor.fetchall() == [("scram-sha-256",)]
        cursor.execute("select rolname, rolpassword like 'SCRAM-SHA-256$%' from pg_authid where rolcanlogin")
        logins = dict(cursor.fetchall())
        cursor.execute("select distinct auth_method from pg_hba_file_rules")
        assert cursor.fetchall() == [("scram-sha-256",)]
    assert logins.keys() >= {"postgres", *LOGINS}
    assert set(logins.values()) == {True}


def test_without_a_password_or_with_a_wrong_one_nobody_comes_in(postgres_server):
    for user in ("postgres", *LOGINS):
        for password in (None, "", "postgres", user):
            with pytest.raises(psycopg2.OperationalError, match=r"no password supplied|authentication failed"):
                psycopg2.connect(host="127.0.0.1", port=postgres_server.port, user=user, password=password, dbname="postgres")


@pytest.mark.usefixtures("migrated_template")
def test_no_login_of_the_product_rules_the_server(postgres_server):
    with postgres_server.session() as cursor:
        cursor.execute("""select rolname from pg_roles where rolname like 'sentiment%'
                          and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)""")
        assert cursor.fetchall() == []
        cursor.execute("""select r.rolname, m.rolname from pg_auth_members a join pg_roles r on r.oid = a.roleid
                          join pg_roles m on m.oid = a.member where r.rolname like 'pg\\_%' and m.rolname like 'sentiment%'""")
        assert cursor.fetchall() == []


def test_functions_that_change_relations_are_the_writers_alone(database_url):
    query = """
        select p.proname, has_function_privilege('sentiment_reader', p.oid, 'execute'),
            has_function_privilege('sentiment_writer', p.oid, 'execute'), p.prosecdef, p.proconfig::text
        from pg_proc p where p.pronamespace = 'sentiment'::regnamespace"""
    found = {name: row for name, *row in rows(database_url, query)}
    assert {"ensure_leaf", "swap_leaf", "drop_scored_leaf", "drop_history_leaf"} <= found.keys()
    for name, (reader_may, writer_may, is_definer, settings) in found.items():
        assert not reader_may, name
        # What runs with the owner's rights looks names up where nobody else can put any.
        assert not is_definer or "search_path=pg_catalog, pg_temp" in settings, name
        assert is_definer or not writer_may, f"{name} is called by others of its kind only"


def test_what_runs_with_the_owners_rights_cannot_be_talked_into_another_table(database_url):
    for call in (
        "select sentiment.drop_history_leaf('scored_reviews')",
        "select sentiment.drop_history_leaf('x; drop table sentiment.labels')",
        "select sentiment.drop_scored_leaf('infinity', true)",
        "select sentiment.swap_leaf('2026-11-01', true)",
    ):
        engine = connect(database_url)
        with pytest.raises(Permanent), engine.begin() as connection:
            connection.execute(text(call))
        engine.dispose()
    assert rows(database_url, "select count(*) from sentiment.labels") == [(0,)]


def test_the_reader_cannot_become_anybody_else(reader_url):
    for role in ("sentiment_writer", "sentiment_owner", "postgres"):
        with pytest.raises(Permanent, match="permission denied"):
            rows(reader_url, f"set role {role}")


@pytest.mark.parametrize("server_file", ["select pg_read_file('/etc/passwd')", "copy sentiment.labels to '/tmp/x'", "select lo_import('/etc/passwd')"])  # fmt: skip
@pytest.mark.parametrize("role", [None, "sentiment_writer", "sentiment_reader"])
def test_nobody_reaches_the_servers_files(database_url, role, server_file):
    with pytest.raises(Permanent, match=r"permission denied|must be superuser"):
        rows(database_url, server_file, role=role)


@pytest.fixture
def pages_engine(monkeypatch, database_url):
    """What the pages ask with, made out of a connection that is the owner's."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "plugins"))
    for name in [name for name in sys.modules if name.startswith("sentiment_pages")]:
        monkeypatch.delitem(sys.modules, name)
    from sentiment_pages.connections import _engine

    engine = _engine(database_url)
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    "change",
    [
        "delete from sentiment.scored_reviews",
        "insert into sentiment.labels values (current_date, 'r', 'positive', 5, now())",
        "update sentiment.model_events set reason = 'forged'",
        "create table sentiment.mine (n integer)",
        "select sentiment.ensure_leaf('2026-11-01')",
        "select * from sentiment.staged_reviews",
        "select nextval('sentiment.drift_checks_check_id_seq')",
    ],
)
def test_pages_are_the_reader_and_only_read_though_their_connection_is_the_owners(pages_engine, change):
    with pages_engine.connect() as connection:
        assert connection.execute(text("select current_user, current_setting('transaction_read_only')")).one() == (
            "sentiment_reader",
            "on",
        )
    with pytest.raises(Permanent, match=r"permission denied|read-only transaction"), pages_engine.begin() as connection:
        connection.execute(text(change))


def test_addresses_are_shown_without_their_passwords(database_url, reader_url):
    secret = make_url(database_url).password
    for url in (database_url, reader_url):
        engine = connect(url)
        assert secret not in repr(engine)
        assert secret not in str(engine.url)
        for statement in ("select nonsense", "select 1/0"):
            with pytest.raises(Permanent) as caught, engine.connect() as connection:
                connection.execute(text(statement))
            assert secret not in str(caught.value)
        engine.dispose()

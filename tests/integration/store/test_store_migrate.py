"""The schema: applied once, in order, by anyone, and the same in PostgreSQL as in `schema`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import text

from sentiment_core.errors import Permanent
from sentiment_core.schema import RELATIONS, SCHEMA_MIGRATIONS
from sentiment_core.store import migrate as module
from sentiment_core.store.engine import connect
from sentiment_core.store.migrate import Migration, latest_version, migrate, migrations, schema_version

TYPES = {"timestamptz": "timestamp with time zone"}
CATALOGUE = """
    select c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        obj_description(c.oid, 'pg_class'), col_description(c.oid, a.attnum)
    from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace = 'sentiment'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
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
        assert {row[1] for row in rows} == (
            {"v"} if relation.is_view else {"p"} if relation.name in ("scored_reviews", "staged_reviews") else {"r"}
        )
        assert {row[5] for row in rows} == {relation.comment}
        assert [row[6] for row in rows] == [field.comment for field in relation.fields]
        if not relation.is_view:
            assert {row[2]: not row[4] for row in rows} == {field.name: field.nullable for field in relation.fields}, (
                relation.name
            )


def test_leaves_carry_the_comments_too(store):
    store.deliver("a", ["r1"])
    undescribed = """
        select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        where c.relispartition and c.relkind = 'r'
            and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)"""
    assert store.rows("select count(*) from pg_class where relispartition and relkind = 'r'") == [(2,)]
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
    assert store.rows("select current_user") == [("sentiment_writer",)]
    with pytest.raises(Permanent, match=r"permission denied|must be owner"), store.engine.begin() as connection:
        connection.execute(text(forbidden))

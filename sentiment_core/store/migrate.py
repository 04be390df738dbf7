"""Bringing the schema `sentiment` up to date: numbered, forward-only SQL files, the two roles, the comments.

A file that has been applied never changes; a change is a new file. Relations are defined there, their names and
comments in `schema`, and a test compares the two.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

from sentiment_core.errors import Permanent
from sentiment_core.schema import RELATIONS, SCHEMA
from sentiment_core.store.engine import READER, WRITER, connect, statement

# MERGE ... RETURNING old.* is what makes publishing one statement.
_OLDEST_SERVER = 180_000


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the file, by which a later change is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """The files of `sql/migrations`, in order, numbered from 1 without gaps."""
    found = [
        Migration(version=int(entry.name[:4]), name=entry.name, sql=entry.read_text(encoding="utf-8"))
        for entry in files("sentiment_core.store").joinpath("sql", "migrations").iterdir()
        if re.fullmatch(r"\d{4}_\w+\.sql", entry.name)
    ]
    return tuple(sorted(found, key=lambda migration: migration.version))


def latest_version() -> int:
    """The version of the schema that this code is written for."""
    return migrations()[-1].version


def schema_version(engine: Engine) -> int:
    """The version of the schema in the database; 0 where there is none."""
    with engine.connect() as connection:
        return len(_applied(connection))


def migrate(url: str) -> list[str]:
    """Apply what is missing and return the names of the files applied; two at once are safe.

    Raises:
        Permanent: the server is too old, an applied file has changed, the database is newer than the code, or the
            roles are missing and may not be made.
        Transient: a lock was not had in time, or the server is away.
    """
    engine = connect(url, role=None)
    try:
        with engine.connect() as connection:
            pending = _pending(connection)
            is_done = not pending and not _stale_comments(connection) and _has_temporary(connection)
        if is_done:
            return []
        _ensure_roles(engine)
        _ensure_temporary(engine)
        names = []
        while name := _apply_next(engine):
            names.append(name)
        _comment(engine)
        return names
    finally:
        engine.dispose()


def _applied(connection: Connection) -> list[tuple[int, str, str]]:
    server = connection.execute(statement("migrate.server")).one()
    if server.version < _OLDEST_SERVER:
        raise Permanent(
            "PostgreSQL", expected="version 18 or later", found=f"version {server.version // 10_000}", remedy="use a newer server"
        )
    return [tuple(row) for row in connection.execute(statement("migrate.applied"))] if server.is_migrated else []


def _pending(connection: Connection) -> tuple[Migration, ...]:
    applied, known = _applied(connection), migrations()
    if len(applied) > len(known):
        raise Permanent(
            f"schema {SCHEMA}",
            expected=f"version {latest_version()} or older",
            found=f"version {applied[-1][0]} ({applied[-1][1]}): the database is newer than this code",
            remedy="update this code",
        )
    for (_, name, sha256), migration in zip(applied, known, strict=False):
        if (name, sha256) != (migration.name, migration.sha256):
            raise Permanent(
                f"migration {migration.name}",
                expected=f"the file as it was applied ({name}, sha256 {sha256[:12]})",
                found=f"another content (sha256 {migration.sha256[:12]})",
                remedy="restore the file, and put the change into a new one",
            )
    return known[len(applied) :]


def _apply_next(engine: Engine) -> str | None:
    with engine.begin() as connection:
        connection.execute(statement("migrate.lock"))
        pending = _pending(connection)
        if not pending:
            return None
        # Something that stands in the way shall not make every reader queue behind this.
        connection.execute(text("set local lock_timeout = '20s'"))
        connection.exec_driver_sql(pending[0].sql.replace("%", "%%"))
        connection.execute(
            statement("migrate.record"),
            {"version": pending[0].version, "name": pending[0].name, "sha256": pending[0].sha256},
        )
        return pending[0].name


def _ensure_roles(engine: Engine) -> None:
    with engine.connect() as connection:
        missing = connection.execute(statement("migrate.missing_roles"), {"roles": [WRITER, READER]}).scalars().all()
    for role in missing:
        try:
            with engine.begin() as connection:
                # Roles belong to the whole server: a migration of another database may make them at this moment.
                connection.execute(
                    text(
                        f"do $$ begin create role {role} nologin; grant {role} to current_user;"
                        " exception when duplicate_object or unique_violation then null; end $$"
                    )
                )
        except Permanent as error:
            raise Permanent(
                f"role {role}",
                expected="a role, or the right to create it",
                found="neither",
                remedy=f"run as an administrator: CREATE ROLE {role}; GRANT {role} TO <the login of database_url>;",
            ) from error


def _has_temporary(connection: Connection) -> bool:
    return bool(connection.execute(statement("migrate.has_temporary"), {"role": WRITER}).scalar_one_or_none())


def _ensure_temporary(engine: Engine) -> None:
    """Let the writer make temporary tables, through which bulk loads pass; a right of the database, not of the schema."""
    with engine.begin() as connection:
        if _has_temporary(connection):
            return
        connection.execute(statement("migrate.grant_temporary"))  # only warns where the login may not grant it
        if not _has_temporary(connection):
            raise Permanent(
                f"role {WRITER}",
                expected="the right to make temporary tables",
                found="neither it nor the right to grant it",
                remedy=f"run as an administrator: GRANT TEMPORARY ON DATABASE {engine.url.database} TO {WRITER};",
            )


def _wanted_comments() -> dict[tuple[str, str | None], str]:
    wanted: dict[tuple[str, str | None], str] = {}
    for relation in RELATIONS:
        wanted[relation.name, None] = relation.comment
        wanted.update({(relation.name, field.name): field.comment for field in relation.fields})
    return wanted


def _stale_comments(connection: Connection) -> dict[tuple[str, str | None], str]:
    rows = connection.execute(statement("migrate.comments"), {"relations": [relation.name for relation in RELATIONS]})
    found = {(row.relation, row.field): row.comment for row in rows}
    return {place: comment for place, comment in _wanted_comments().items() if found.get(place) != comment}


def _comment(engine: Engine) -> None:
    views = {relation.name for relation in RELATIONS if relation.is_view}
    with engine.begin() as connection:
        connection.execute(statement("migrate.lock"))
        for (relation, column), comment in _stale_comments(connection).items():
            kind = "view" if relation in views else "table"
            target = f"{kind} {SCHEMA}.{relation}" if column is None else f"column {SCHEMA}.{relation}.{column}"
            connection.execute(text(f"comment on {target} is :comment"), {"comment": comment})

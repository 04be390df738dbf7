"""Connections to PostgreSQL, and what its errors mean.

One place makes engines, loads the named statements of `sql/`, and translates driver errors into Transient and
Permanent. No statement of its own beyond the session's set-up.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg2
from sqlalchemy import TextClause, create_engine, event, text
from sqlalchemy.engine import URL, Connection, Engine, ExceptionContext, make_url
from sqlalchemy.exc import ArgumentError

from sentiment_core.errors import Permanent, SentimentError, Transient

WRITER = "sentiment_writer"
READER = "sentiment_reader"
SEARCH_SCHEMA = "sentiment_search"

# SQLSTATE classes and codes after which the same statement may succeed: lost connections, rollbacks, exhausted
# resources, a server that starts or stops, a lock not had in time, a statement cancelled from outside.
_TRANSIENT_STATES = ("08", "40", "53", "57P", "55P03", "57014", "25P03", "25P04", "58030")
# psycopg2 gives no SQLSTATE for a failed login; these parts of libpq's message mean that a retry will not help.
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|does not exist|permission denied|invalid"
)
_NAMED = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def connect(url: str, *, role: str | None = WRITER) -> Engine:
    """An engine whose sessions run in UTC, as `role` where the login may become it.

    Args:
        url: SQLAlchemy URL, or a bare `postgresql://`, which is taken as psycopg2's.
        role: role to switch to; None stays with the login.

    Returns:
        An engine that connects on first use; its errors are Transient or Permanent.
    """
    engine = create_engine(
        _address(url),
        pool_size=4,
        max_overflow=8,
        pool_pre_ping=True,  # a server that was restarted between two tasks costs a round trip, not a retry
        pool_recycle=1800,
        connect_args={
            "connect_timeout": 10,
            # A server that has vanished without a word (a machine, a network) is given up after a minute, not after the
            # hours of the operating system.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
            "application_name": "sentiment",
            "options": "-c timezone=UTC -c client_encoding=UTF8",
        },
    )
    event.listen(engine, "handle_error", _raise_translated)
    if role:
        event.listen(engine, "connect", lambda connection, _: _become(connection, role))
    return engine


def search_storage(url: str) -> str:
    """The address under which a search for a model keeps its trials: the same database, a schema of its own.

    >>> search_storage("postgresql://me:secret@host/db")
    'postgresql+psycopg2://me:secret@host/db?options=-c+search_path%3Dsentiment_search'
    """
    address = _address(url).update_query_dict({"options": f"-c search_path={SEARCH_SCHEMA}"})
    return address.render_as_string(hide_password=False)


def _address(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Permanent(
            "database address",
            expected="postgresql+psycopg2://user:password@host:port/database",
            found="something else",
            remedy="correct SENTIMENT_DATABASE_URL or the connection sentiment_db",
        ) from error
    return parsed.set(drivername="postgresql+psycopg2") if parsed.drivername in ("postgres", "postgresql") else parsed


def _become(connection: Any, role: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "select 1 from pg_roles where rolname = %s and rolname <> current_user and pg_has_role(current_user, oid, 'SET')",
            (role,),
        )
        if cursor.fetchone():
            cursor.execute(f'set role "{role}"')
    connection.commit()  # a rollback would take SET ROLE back


def _raise_translated(context: ExceptionContext) -> None:
    if context.is_pre_ping:
        return  # the pool answers by connecting anew
    if isinstance(context.original_exception, psycopg2.Error):
        url = context.engine.url if context.engine else None
        raise translate(context.original_exception, _place(url)) from context.original_exception


def _place(url: URL | None) -> str:
    return f"PostgreSQL at {url.host}:{url.port or 5432}/{url.database}" if url else "PostgreSQL"


def translate(error: psycopg2.Error, place: str = "PostgreSQL") -> SentimentError:
    """The Transient or Permanent that a driver error means; chain the error as its cause.

    >>> type(translate(psycopg2.OperationalError("server closed the connection unexpectedly"))).__name__
    'Transient'
    >>> type(translate(psycopg2.OperationalError('password authentication failed for user "x"'))).__name__
    'Permanent'
    """
    found = " ".join(str(error).split()) or type(error).__name__
    state = error.pgcode or ""
    if state.startswith(_TRANSIENT_STATES):
        return Transient(place, expected="the statement to finish", found=found, remedy="try again later")
    if not state and isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        if _REFUSED.search(found):
            return Permanent(
                place, expected="a login that is let in", found=found, remedy="correct the address, the user or the password"
            )
        return Transient(
            place, expected="a server that answers", found=found, remedy="see that it runs (`sentiment status`), then try again"
        )
    remedy = "run `sentiment doctor`; the rights of the login and the version of the schema are the usual causes"
    if "0x00" in found or state == "22021":
        remedy = "validate the text before it is stored: PostgreSQL takes valid UTF-8 without NUL characters"
    return Permanent(place, expected="a statement that PostgreSQL accepts", found=found, remedy=remedy)


@contextmanager
def translated(connection: Connection) -> Iterator[Any]:
    """The psycopg2 connection underneath, for what SQLAlchemy has no word for (COPY); its errors are translated."""
    raw = connection.connection.driver_connection
    try:
        yield raw
    except psycopg2.Error as error:
        if raw is None or raw.closed:
            connection.invalidate(error)
        raise translate(error, _place(connection.engine.url)) from error


@cache
def statements(name: str) -> dict[str, str]:
    """The statements of `sql/<name>.sql`, each under its `-- name: x` line."""
    parts = _NAMED.split(files("sentiment_core.store").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))


@cache
def statement(name: str) -> TextClause:
    """One named statement, `file.name`, ready to execute."""
    file, _, part = name.partition(".")
    return text(statements(file)[part])

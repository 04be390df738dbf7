"""An analyst's session: statements as typed, results as PostgreSQL prints them. It reads and never writes.

Knows nothing of terminals; `cli.sql` draws what comes out of here.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Self

import psycopg2
import psycopg2.extensions
from sqlalchemy.engine import make_url

from sentiment_core.errors import Permanent, Transient, printable
from sentiment_core.store.engine import connect, statements, translate

_NUMBERS = {20, 21, 23, 26, 700, 701, 790, 1700}  # OIDs of integers, oid, floats, money, numeric
_TEXTS = {18, 19, 25, 1042, 1043}  # char, name, text, character(n), varchar
_JSON = {114, 3802}
_BOOLEAN = 16
_TOKEN = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | '(?:[^']|'')*(?:'|\Z) | "(?:[^"]|"")*(?:"|\Z)
    | --[^\n]* | /\*.*?(?:\*/|\Z) | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z) | (?P<end>;)""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


class Refused(Permanent):
    """A statement that PostgreSQL refused; its message is PostgreSQL's own."""

    def __init__(self, message: str) -> None:
        super().__init__("statement", expected="SQL that the analyst may run", found=message, remedy="correct it")
        self.message = message

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a result."""

    name: str
    oid: int

    @property
    def is_number(self) -> bool:
        """Whether its values stand at the right."""
        return self.oid in _NUMBERS

    @property
    def is_text(self) -> bool:
        """Whether its values are words, which anybody may have written."""
        return self.oid in _TEXTS

    def to_json(self, value: str | None) -> Any:
        """A value as JSON has it; what JSON does not know stays text.

        >>> Column(name="n", oid=20).to_json("7"), Column(name="d", oid=1082).to_json("2026-11-01")
        (7, '2026-11-01')
        """
        if value is None:
            return None
        if self.oid == _BOOLEAN:
            return value == "t"
        if self.oid in _JSON or (self.is_number and re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", value)):
            return json.loads(value)
        return value


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a statement gave: columns and rows as text, or a status alone (no columns)."""

    columns: tuple[Column, ...]
    rows: list[tuple[str | None, ...]]
    status: str
    """PostgreSQL's command tag, such as SET or SELECT 5."""


class Analyst:
    """A read-only session; statements are transactions of their own."""

    def __init__(self, url: str) -> None:
        """Connect; raises Transient or Permanent as `engine.translate` judges."""
        self._session = connect(url, role=None).connect()
        raw: Any = self._session.connection.driver_connection
        self._connection = raw
        self._connection.set_session(readonly=True, autocommit=True)
        # Every type as the text that the server sent.
        oids = tuple(psycopg2.extensions.string_types)
        as_sent = psycopg2.extensions.new_type(oids, "AS_SENT", lambda value, _: value)
        psycopg2.extensions.register_type(as_sent, self._connection)
        self.run("set search_path = sentiment, public")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.invalidate()
        self._session.close()
        self._session.engine.dispose()

    def run(self, statement: str, **values: str) -> Result:
        """Run one statement; raises Refused for what PostgreSQL refuses, Transient when it went away."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                columns = tuple(Column(name=item.name, oid=item.type_code) for item in cursor.description or ())
                return Result(columns=columns, rows=cursor.fetchall() if columns else [], status=cursor.statusmessage or "")
        except psycopg2.Error as error:
            if isinstance(translated := translate(error), Transient) and not isinstance(
                error, psycopg2.extensions.QueryCanceledError
            ):
                raise translated from error
            raise Refused(f"ERROR:  {printable(str(error).strip())}") from error

    def cancel(self) -> None:
        """End the statement that runs in another thread; `run` raises Refused there."""
        self._connection.cancel()

    def relations(self) -> Result:
        """The relations that can be read, with their comments."""
        return self.run(statements("analyst")["relations"])

    def columns(self, relation: str) -> Result:
        """The columns of a relation, with their comments; raises Refused when there is none of that name."""
        result = self.run(statements("analyst")["columns"], relation=relation)
        if not result.rows:
            raise Refused(f'ERROR:  there is no relation named "{relation}"; \\d lists them')
        return result


def address(url: str) -> str:
    """The address as psql and other programs take it, with the password.

    >>> address("postgresql+psycopg2://reader:secret@127.0.0.1:5432/reviews")
    'postgresql://reader:secret@127.0.0.1:5432/reviews'
    """
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def split_statements(text: str) -> tuple[list[str], str]:
    r"""Cut at the semicolons that end statements; the second value is what stands behind the last.

    >>> split_statements("select ';' -- a; b\n; select $$;$$; select")
    (["select ';' -- a; b", 'select $$;$$'], 'select')
    >>> split_statements("select 1; -- done")
    (['select 1'], '')
    """
    ends = [found.start() for found in _TOKEN.finditer(text) if found["end"]]
    starts = [0, *(end + 1 for end in ends)]
    pieces = [text[start:end].strip() for start, end in zip(starts, [*ends, len(text)], strict=True)]
    pieces = [piece if _COMMENT.sub("", piece).strip() else "" for piece in pieces]
    return [piece for piece in pieces[:-1] if piece], pieces[-1]

"""`sentiment sql`: a psql-like session of the read-only analyst. Only reading lines and drawing tables."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from sentiment_core.cli import load_settings
from sentiment_core.errors import Permanent, printable

if TYPE_CHECKING:
    from sentiment_core.store.analyst import Analyst, Result

_HELP = r"""\d            lists the relations
\d RELATION   shows the columns of one, and what they mean
\q            leaves
Statements end with a semicolon. Everything can be read, nothing can be changed."""


_QUOTE, _SPECIAL = '"', re.compile(r'[",\r\n]|^\s|\s$')
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four are full-width


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sql)


def sql(
    query: Annotated[str | None, typer.Option("-c", "--command", metavar="QUERY", help="Run this and leave.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print results as CSV.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results as a list of JSON objects.")] = False,
    url: Annotated[bool, typer.Option("--url", help="Print the address of the database, for psql and the like.")] = False,
) -> None:
    r"""Ask the reviews database in SQL, as the read-only analyst; without -c a session (\d, \q)."""
    from sentiment_core.store.analyst import Analyst, address

    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json exclude each other")
    reader_url = load_settings().reader_url
    if not reader_url:
        raise Permanent(
            "setting SENTIMENT_READER_URL",
            expected="the database's address as sentiment_reader",
            found="nothing",
            remedy="set it, or start the embedded stack with `make up`",
        )
    if url:
        typer.echo(address(reader_url))
        return
    draw = draw_csv if as_csv else draw_json if as_json else draw_table
    with Analyst(reader_url) as analyst:
        if query is not None:
            _run_all(analyst, query, draw)
        elif sys.stdin.isatty():
            _converse(analyst, draw)
        else:
            _run_all(analyst, sys.stdin.read(), draw)


def _run_all(analyst: "Analyst", text: str, draw: Callable[["Result"], str]) -> None:
    for statement in _statements(text):
        typer.echo(draw(_run(analyst, statement)), nl=False)


def _statements(text: str) -> Iterator[str]:
    r"""Statements and backslash commands of a script; a command stands alone on its line, as in psql.

    >>> list(_statements("\\d\nselect 1;\nselect\n2"))
    ['\\d', 'select 1', 'select\n2']
    """
    from sentiment_core.store.analyst import split_statements

    rest = ""
    for line in text.splitlines(keepends=True):
        if not rest.strip() and line.startswith("\\"):
            yield line.strip()
            continue
        found, rest = split_statements(rest + line)
        yield from found
        rest += "\n" if rest else ""
    if rest.strip():
        yield rest.strip()


def _run(analyst: "Analyst", statement: str) -> "Result":
    """Run a statement or a backslash command; ^C ends the statement, not the session."""
    from sentiment_core.store.analyst import Refused

    if not statement.startswith("\\"):
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(analyst.run, statement)
            try:
                return future.result()
            except KeyboardInterrupt:
                analyst.cancel()
                return future.result()
    command, _, name = statement.rstrip(";").partition(" ")
    if command != "\\d":
        raise Refused(f"invalid command {command}; there are \\d, \\d RELATION and \\q")
    return analyst.columns(name.strip()) if name.strip() else analyst.relations()


def _converse(analyst: "Analyst", draw: Callable[["Result"], str]) -> None:
    """The session on a terminal: an error ends a statement, not the session."""
    import readline  # noqa: F401  # gives input() its editing and history

    from sentiment_core.store.analyst import Refused, split_statements

    typer.echo("The reviews database, to be read. \\d lists the relations, \\? helps, \\q leaves.\n")
    pending = ""
    while True:
        try:
            line = input("sentiment-> " if pending else "sentiment=> ")
            if not pending and line.strip() in ("\\q", "quit", "exit"):
                return
            if not pending and line.strip() == "\\?":
                typer.echo(_HELP)
                continue
            is_command = not pending and line.startswith("\\")
            found, pending = ([line.strip()], "") if is_command else split_statements(pending + line)
            pending += "\n" if pending else ""
            for statement in found:
                typer.echo(draw(_run(analyst, statement)))
        except Refused as error:
            typer.echo(error, err=True)
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.echo()
            pending = ""


def draw_table(result: "Result") -> str:
    """The result as psql aligns it: numbers at the right, a long value's lines marked with +."""
    from rich.cells import cell_len

    if not result.columns:
        return f"{result.status}\n"
    names = [printable(column.name) for column in result.columns]
    cells = [[printable(value or "").split("\n") for value in row] for row in result.rows]
    widths = [
        max(cell_len(names[place]), *(cell_len(line) for row in cells for line in row[place]), 0) for place in range(len(names))
    ]
    header = "|".join(_centred(name, width + 2) for name, width in zip(names, widths, strict=True))
    lines = [header.rstrip(), "+".join("-" * (width + 2) for width in widths)]
    for row in cells:
        for number in range(max(len(cell) for cell in row)):
            fields = []
            for cell, column, width in zip(row, result.columns, widths, strict=True):
                line = cell[number] if number < len(cell) else ""
                blank = " " * (width - cell_len(line))
                end = "+" if number + 1 < len(cell) else " "
                fields.append(f" {blank}{line}{end}" if column.is_number else f" {line}{blank}{end}")
            lines.append("|".join(fields).rstrip())
    n_rows = len(result.rows)
    return "\n".join([*lines, f"({n_rows} row{'' if n_rows == 1 else 's'})\n"])


def _centred(word: str, width: int) -> str:
    from rich.cells import cell_len

    free = width - cell_len(word)
    return " " * (free // 2) + word + " " * (free - free // 2)


def draw_csv(result: "Result") -> str:
    """The result as CSV with a header; null is empty. A statement without a result gives nothing.

    A text that a spreadsheet would run as a formula has an apostrophe before it: who wrote the review decides what is
    in it, and who opens the file does not expect to run anything. `--json` gives every value as it is.
    """
    if not result.columns:
        return ""
    rows = (
        [(_tamed(value) if column.is_text else value) or "" for column, value in zip(result.columns, row, strict=True)]
        for row in result.rows
    )
    lines = chain([[column.name for column in result.columns]], rows)
    return "".join(",".join(_field(cell) for cell in line) + "\n" for line in lines)


def _field(value: str) -> str:
    """A field after RFC 4180. The csv module leaves a lone carriage return as it is, which ends a line to many readers.

    >>> _field("plain"), _field("a, b")
    ('plain', '"a, b"')
    """
    return f'"{value.replace(_QUOTE, _QUOTE * 2)}"' if _SPECIAL.search(value) else value


def _tamed(value: str | None) -> str | None:
    """A text that begins like a formula made a text to spreadsheets too (OWASP, "CSV Injection").

    >>> _tamed("=1+1"), _tamed("fine"), _tamed(None)
    ("'=1+1", 'fine', None)
    """
    return f"'{value}" if value and value.startswith(_FORMULA) else value


def draw_json(result: "Result") -> str:
    """The result as a list of objects. A statement without a result gives nothing."""
    if not result.columns:
        return ""
    rows = [
        {column.name: column.to_json(value) for column, value in zip(result.columns, row, strict=True)} for row in result.rows
    ]
    return json.dumps(rows, ensure_ascii=False) + "\n"

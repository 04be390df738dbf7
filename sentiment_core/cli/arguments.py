"""What several commands take and give alike: which model is meant, and results as JSON.

No commands here, and no work: only what stands between a person's words and a value.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

_VERSION = re.compile(r"[1-9][0-9]*")


def version_or(*names: str) -> Callable[[str], str]:
    """A parser of a model's version number, or one of these names.

    >>> version_or("champion", "challenger")("12")
    '12'
    """
    known = " or ".join([", ".join(names), "a version number"])

    def parse(text: str) -> str:
        if text not in names and not _VERSION.fullmatch(text):
            raise typer.BadParameter(f"expected {known}, found {text!r}")
        return text

    return parse


def calendar_day(text: str) -> date:
    """A parser of a date.

    >>> calendar_day("2026-11-20")
    datetime.date(2026, 11, 20)
    """
    complaint = f"expected a date such as 2026-11-20, found {text!r}"
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise typer.BadParameter(complaint)
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(complaint) from error


registered = version_or("champion", "challenger")
Model = Annotated[str, typer.Option("--model", parser=registered, metavar="M", help="champion, challenger or a version number.")]
AnyModel = Annotated[
    str,
    typer.Option(
        "--model",
        parser=version_or("champion", "challenger", "as-of"),
        metavar="M",
        help="champion, challenger, as-of (the version of that night) or a version number.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def dump(value: Any) -> str:
    """A result as a line of JSON, times in UTC."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)

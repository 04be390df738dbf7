"""What several commands take and give alike: which model is meant, and results as JSON.

No commands here, and no work: only what stands between a person's words and a value.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
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


registered = version_or("champion", "challenger")
Model = Annotated[str, typer.Option("--model", parser=registered, metavar="M", help="champion, challenger or a version number.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def dump(value: Any) -> str:
    """A result as a line of JSON, times in UTC."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)

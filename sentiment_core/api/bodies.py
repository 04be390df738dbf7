"""What is asked: the body of a request, bounded while it is read, and the questions that it may hold.

FastAPI's own reading is not used: it parses before it asks who is there, takes bodies of any length, and answers in
another shape. Words and limits only; what is done with a question is `app`'s.
"""

import json
from typing import Annotated, Any

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError
from starlette.requests import ClientDisconnect

_SHOWN_CHARS = 200  # of what was sent, repeated in a complaint


class Question(BaseModel):
    """A text to judge."""

    model_config = ConfigDict(extra="forbid")
    text: StrictStr = Field(description="The text to judge.", examples=["A wonderful film."])


class Questions(BaseModel):
    """Several texts to judge."""

    model_config = ConfigDict(extra="forbid")
    texts: list[StrictStr] = Field(
        min_length=1, description="The texts to judge.", examples=[["A wonderful film.", "Dull and far too long."]]
    )


class Wish(BaseModel):
    """Which model is to answer from now on."""

    model_config = ConfigDict(extra="forbid")
    alias: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")] | None = Field(
        default=None,
        description="An alias or a version number of the registry; left out, what was asked for last is looked up anew.",
        examples=["champion"],
    )


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body of a request that says it is JSON.

    Raises:
        HTTPException: 415 where it is something else, 413 where it is longer (no more than that is ever read), 400 where
            its sender leaves before its end.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a page elsewhere can make a browser send anything but this without asking first
        raise HTTPException(415, f"body: expected Content-Type: application/json, found {_shown(kind) or 'none'}")
    too_large = HTTPException(
        413,
        f"body: expected at most {max_bytes:,} bytes. Send fewer texts at a time, or score them as a file (`sentiment score-file`)",
        headers={"Connection": "close"},  # what is still on its way is not read
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > max_bytes:
                raise too_large
    except ClientDisconnect as error:  # nobody reads the answer; it is counted, and no failure of ours
        raise HTTPException(400, "body: expected all of it, found that its sender had left") from error
    return bytes(body)


def parse[Asked: BaseModel](kind: type[Asked], body: bytes) -> Asked:
    """A body as the question that it has to be; raises HTTPException 422 with what is wrong first."""
    try:
        value = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"body: expected JSON in UTF-8, found {_complaint(error)}") from error
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise HTTPException(422, _first_problem(kind, error)) from error


def _complaint(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return {UnicodeDecodeError: "bytes that are none", RecursionError: "it nested too deep"}.get(type(error), "a number too long")


def _first_problem(kind: type[BaseModel], error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_context=False, include_input=True)[0]
    place = ".".join(_shown(str(part)) for part in problem["loc"])
    names = ", ".join(kind.model_fields)
    if problem["type"] == "extra_forbidden":
        return f"body: expected the key {names} and no other, found {place}"
    if problem["type"] == "missing":
        return f"body: expected the key {names}, found none"
    if problem["type"] == "too_short":
        return f"{place}: expected one text or more, found none"
    if problem["type"] == "string_pattern_mismatch":
        return f"{place}: expected an alias or a version number, found {_shown(repr(problem['input']))}"
    if problem["type"] == "string_unicode":
        return f"{place or 'body'}: expected valid Unicode, found half a surrogate pair"
    return f"{place or 'body'}: expected {_expected(problem['type'])}, found {_kind(problem['input'])}"


def _expected(type_of_problem: str) -> str:
    return {"string_type": "a string", "list_type": "a list of strings"}.get(type_of_problem, "an object")


def _kind(value: Any) -> str:
    """A value as JSON calls it.

    >>> _kind(None), _kind(3), _kind({})
    ('null', 'a number', 'an object')
    """
    kinds: dict[type, str] = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else kinds.get(type(value), "an object")


def _shown(words: str) -> str:
    return words if len(words) <= _SHOWN_CHARS else words[:_SHOWN_CHARS] + "…"

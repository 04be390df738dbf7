"""What comes back: the shapes of answers, and every error as {"detail": why}, never a stack trace.

Nothing of a text that was sent stands in an error or a log.
"""

import json
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from sentiment_core import __version__
from sentiment_core.api.headers import COMMON_HEADERS
from sentiment_core.errors import Permanent, SentimentError, Transient, printable
from sentiment_core.policy import Serving
from sentiment_core.stages.explaining import RefusedText
from sentiment_core.stages.serving import ServedModel

UNPROCESSABLE, UNAVAILABLE = 422, 503
RETRY_AFTER = {"Retry-After": "5"}


class Prediction(BaseModel):
    """What the model makes of a text."""

    text: str
    sentiment: str = Field(description="negative, neutral or positive", examples=["positive"])
    confidence: float = Field(description="Probability of this sentiment.", examples=[0.97])
    scores: dict[str, float] = Field(description="Probability of every class.", examples=[{"negative": 0.03, "positive": 0.97}])
    model_name: str = Field(examples=["sentiment"])
    model_version: int = Field(examples=[3])
    latency_ms: float = Field(description="Time that scoring took, of a batch all of it.", examples=[0.4])


class Predictions(BaseModel):
    """What the model makes of several texts, in their order."""

    predictions: list[Prediction] = Field(description="Each as of /predict.")
    model_name: str = Field(examples=["sentiment"])
    model_version: int = Field(examples=[3])
    latency_ms: float = Field(description="Time that scoring all of them took.", examples=[3.1])


class Health(BaseModel):
    """That there is a model and it answers."""

    status: str = Field(description="ok; or degraded: MLflow was away, and the last known good model answers", examples=["ok"])
    model_name: str = Field(examples=["sentiment"])
    model_version: int = Field(examples=[3])


class Limits(BaseModel):
    """What is refused above."""

    max_text_chars: int
    max_batch_texts: int
    max_body_bytes: int


class Info(BaseModel):
    """The model that answers, and what may be asked of it."""

    model_name: str = Field(examples=["sentiment"])
    model_version: int = Field(examples=[3])
    alias: str = Field(description="The alias or number that was asked for.", examples=["champion"])
    classes: list[str] = Field(examples=[["negative", "positive"]])
    digest: str = Field(description="SHA-256 over its files, which were checked against it.")
    snapshot: str | None = Field(description="Key of its training set.")
    is_degraded: bool
    loaded_at: str = Field(examples=["2026-11-20T02:00:00+00:00"])
    code_version: str
    limits: Limits


class Problem(BaseModel):
    """Why not."""

    detail: str


class Answer(JSONResponse):
    """JSON with the headers that every answer carries."""

    def __init__(self, content: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(content, status_code, COMMON_HEADERS | (headers or {}))

    def render(self, content: Any) -> bytes:
        """In UTF-8; half a surrogate pair, which UTF-8 has no bytes for, as the escape that JSON has."""
        words = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return words.encode("utf-8", "backslashreplace")


def describe(served: ServedModel) -> dict[str, Any]:
    """Name and version, as every answer has them."""
    return {"model_name": served.ref.name, "model_version": served.ref.version}


def describe_whole(served: ServedModel, limits: Serving) -> dict[str, Any]:
    """All that is told of a version, and what may be asked of it."""
    return {
        **describe(served),
        "alias": served.which,
        "classes": served.classes,
        "digest": served.ref.digest,
        "snapshot": served.ref.snapshot,
        "is_degraded": served.ref.is_degraded,
        "loaded_at": served.loaded_at.isoformat(timespec="seconds"),
        "code_version": __version__,
        "limits": {name: getattr(limits, name) for name in Limits.model_fields},
    }


def refuse(_: Request, error: Exception) -> Response:
    """The answer to what is refused in terms of HTTP."""
    assert isinstance(error, HTTPException)  # noqa: S101 (what it is registered for)
    return Answer({"detail": printable(str(error.detail))}, error.status_code, dict(error.headers or {}))


def apologise(_: Request, error: Exception) -> Response:
    """The answer where there is no model, or a text is none."""
    assert isinstance(error, SentimentError)  # noqa: S101 (what it is registered for)
    if isinstance(error, RefusedText):
        return Answer({"detail": str(error)}, UNPROCESSABLE)
    return Answer({"detail": explain(error)}, UNAVAILABLE, RETRY_AFTER)


def refused_reload(error: SentimentError, kept: ServedModel | None) -> HTTPException:
    """A reload that has failed: why, and who answers now."""
    from sentiment_core.registry import NoModel

    status = 404 if isinstance(error, NoModel) else 409 if isinstance(error, Permanent) else UNAVAILABLE
    who = f"Version {kept.ref.version} of {kept.ref.name} goes on answering." if kept else "No model answers."
    return HTTPException(status, f"{explain(error)}. {who}", RETRY_AFTER if status == UNAVAILABLE else None)


def explain(error: SentimentError) -> str:
    """An error for whoever asks: of a server that is away only that, and not how its client says so."""
    cause = error.__cause__ if isinstance(error.__cause__, SentimentError) else error
    if isinstance(cause, Transient) and cause.__cause__ is not None:
        return f"{error.thing}: expected {error.expected}, found none. To mend it: {error.remedy}"
    return str(error)

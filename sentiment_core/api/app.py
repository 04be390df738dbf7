"""The routes of the API, and who is asked before each: whoever mounts it says by which dependencies.

Endpoints that score or reload are plain functions, which run on threads; only a body is awaited. Nothing is open when
the application is made, so that what is off is an answer and not a server that does not start.
"""

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

from sentiment_core import __version__
from sentiment_core.api import answers, docs
from sentiment_core.api.answers import Answer, Health, Info, Prediction, Predictions, Problem, describe
from sentiment_core.api.bodies import Question, Questions, Wish, parse, read_body
from sentiment_core.api.edge import Edge
from sentiment_core.api.headers import COMMON_HEADERS
from sentiment_core.api.metrics import CONTENT_TYPE, Metrics
from sentiment_core.errors import SentimentError
from sentiment_core.stages.serving import ModelService, ServedModel

READING = ("GET", "HEAD")
METHODS = {
    "/predict": ("POST",),
    "/predict/batch": ("POST",),
    "/health": READING,
    "/info": READING,
    "/reload": ("POST",),
    "/metrics": READING,
    "/docs": READING,
    "/openapi.json": READING,
    "/": READING,
}
_ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_REFUSALS: dict[int, str] = {
    413: "The body is too large.",
    415: "The body does not say that it is JSON.",
    422: "The body is not what is asked for, or a text is blank or too long.",
    503: "There is no model, or it is being loaded.",
}
_OF_RELOADS: dict[int, str] = {
    404: "There is no such alias or version.",
    409: "The version is not to be trusted, or cannot be loaded.",
    503: "MLflow is away.",
}


def service_of(request: Request) -> ModelService:
    """The service of the application, opened on a thread where this is the first request."""
    service: ModelService = request.app.state.open_service()
    return service


async def body_of(request: Request, service: Annotated[ModelService, Depends(service_of)]) -> bytes:
    """The body of a request, within the policy's bounds."""
    return await read_body(request, service.limits.max_body_bytes)


Body = Annotated[bytes, Depends(body_of)]


class Api:
    """The endpoints over one model; the model is opened by the first who needs it."""

    def __init__(self, open_service: Callable[[], ModelService]) -> None:
        self.open_service = open_service
        self.metrics = Metrics()

    def predict(self, body: Body) -> Response:
        """Judge one text."""
        (found,) = self._score([parse(Question, body).text])
        return Answer(found)

    def predict_batch(self, body: Body) -> Response:
        """Judge several texts at once; where one is refused, all are."""
        texts = parse(Questions, body).texts
        most = self.open_service().limits.max_batch_texts
        if len(texts) > most:
            found = f"found {len(texts):,}. Send them in parts, or score them as a file (`sentiment score-file`)"
            raise HTTPException(422, f"texts: expected at most {most:,}, {found}")
        predictions = self._score(texts)
        common = {name: predictions[0][name] for name in ("model_name", "model_version", "latency_ms")}
        return Answer({"predictions": predictions, **common})

    def _score(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        service = self.open_service()
        service.check(texts)
        served = service.served()  # once: a swap in between changes nothing for these texts
        began = time.perf_counter()
        predictions = served.score(texts)
        latency_ms = round((time.perf_counter() - began) * 1000, 3)
        self.metrics.count_scored(found["sentiment"] for found in predictions)
        return [{**found, **describe(served), "latency_ms": latency_ms} for found in predictions]

    def health(self) -> Response:
        """Say whether there is a model that answers; 503 where there is none."""
        served = self.open_service().served()
        return Answer({"status": "degraded" if served.ref.is_degraded else "ok", **describe(served)})

    def info(self) -> Response:
        """Say which model answers, and what may be asked of it."""
        service = self.open_service()
        return Answer(answers.describe_whole(service.served(), service.limits))

    def reload(self, body: Body) -> Response:
        """Let another version answer, or what the alias means by now; where that fails, the one before goes on."""
        alias = parse(Wish, body).alias
        service = self.open_service()
        try:
            served = service.reload(alias)
        except SentimentError as error:
            self.metrics.count_reload(is_done=False)
            raise answers.refused_reload(error, service.in_memory) from error
        self.metrics.count_reload(is_done=True)
        return Answer(answers.describe_whole(served, service.limits))

    def show_metrics(self) -> Response:
        """Counts for Prometheus; they need no model."""
        served = self.open_service().in_memory
        return PlainTextResponse(
            self.metrics.to_text(_labels(served) if served else None), headers=COMMON_HEADERS, media_type=CONTENT_TYPE
        )


def _labels(served: ServedModel) -> dict[str, str]:
    ref = served.ref
    return {
        "name": ref.name,
        "version": str(ref.version),
        "alias": served.which,
        "digest": ref.digest,
        "is_degraded": str(ref.is_degraded).lower(),
    }


def make_app(
    open_service: Callable[[], ModelService], *, everywhere: Sequence[Any] = (), to_reload: Sequence[Any] = ()
) -> FastAPI:
    """The application.

    Args:
        open_service: gives the service, the same one every time; what it raises is answered as 503.
        everywhere: dependencies of every path, also of those that do not exist; who they let in has a token of Airflow's.
        to_reload: dependencies of /reload beside them.
    """
    app = FastAPI(
        title="Sentiment", version=__version__, dependencies=list(everywhere),
        docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False,
    )  # fmt: skip
    api = Api(open_service)
    app.state.open_service = open_service
    app.add_middleware(Edge, metrics=api.metrics, paths=METHODS)
    _add_questions(app, api, to_reload)
    _add_looks(app, api, is_guarded=bool(everywhere))
    app.add_exception_handler(StarletteHTTPException, answers.refuse)
    app.add_exception_handler(SentimentError, answers.apologise)
    return app


def _add_questions(app: FastAPI, api: Api, to_reload: Sequence[Any]) -> None:
    """What takes a body."""
    for path, endpoint, asked, answer, refusals, guards in (
        ("/predict", api.predict, Question, Prediction, _REFUSALS, ()),
        ("/predict/batch", api.predict_batch, Questions, Predictions, _REFUSALS, ()),
        ("/reload", api.reload, Wish, Info, _REFUSALS | _OF_RELOADS, to_reload),
    ):
        app.add_api_route(
            path, endpoint, methods=list(METHODS[path]), response_model=answer, dependencies=list(guards),
            summary=endpoint.__doc__, openapi_extra={"requestBody": _body_of(asked)}, responses=_problems(refusals),
        )  # fmt: skip


def _add_looks(app: FastAPI, api: Api, *, is_guarded: bool) -> None:
    """What only looks, the page for a person, and what answers for every other path."""

    def show_docs(request: Request) -> Response:
        address = f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
        page = docs.render(app.openapi(), address, is_guarded=is_guarded)
        return HTMLResponse(page, headers=docs.HEADERS)

    def show_openapi() -> Response:
        return Answer(app.openapi())

    unseen: dict[str, Any] = {"include_in_schema": False}
    no_model = _problems({503: _REFUSALS[503]})
    for path, endpoint, told in (
        ("/health", api.health, {"response_model": Health, "responses": no_model}),
        ("/info", api.info, {"response_model": Info, "responses": no_model}),
        ("/metrics", api.show_metrics, {"response_class": PlainTextResponse}),
        ("/docs", show_docs, unseen),
        ("/", show_docs, unseen),
        ("/openapi.json", show_openapi, unseen),
    ):
        app.add_api_route(path, endpoint, methods=["GET"], summary=endpoint.__doc__, **told)
        app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/{path:path}", show_nothing, methods=list(_ANY), include_in_schema=False)


def show_nothing(request: Request) -> Response:
    """Say that there is no such path, or that it is asked for in another way."""
    path = f"/{request.path_params['path']}"
    if path in METHODS:
        allowed = ", ".join(METHODS[path])
        raise HTTPException(405, f"{path} takes {allowed}, not {request.method}.", headers={"Allow": allowed})
    raise HTTPException(404, "There is no such path; /docs says which there are.")


def _body_of(asked: type[BaseModel]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": asked.model_json_schema()}}}


def _problems(refusals: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": why} for status, why in sorted(refusals.items())}

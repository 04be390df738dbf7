"""The routes under /sentiment, and what every answer carries: a login before it, a content security policy on it.

Endpoints are plain functions, which FastAPI runs on threads: none of them holds up Airflow's event loop. What
cannot be shown becomes a page that says so, never a stack trace.
"""

import gzip
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException as StarletteHTTPException

from sentiment_core.api.headers import COMMON_HEADERS, page_headers
from sentiment_core.errors import SentimentError, Transient
from sentiment_core.reviews.bucket import Bucket, ObjectMissing
from sentiment_core.store.overview import Check, find_check, list_events, list_gates, list_nights, list_trials
from sentiment_pages import charts, connections, models, views
from sentiment_pages.login import LOGIN_REQUIRED, is_navigation, to_login

log = logging.getLogger(__name__)

NIGHTS_A_PAGE = 60
EVENTS_SHOWN = 1_000  # of three a retrain: years of them
TEMPLATES = Path(__file__).with_name("templates")
STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")

PAGE_HEADERS = page_headers(STYLE)
# A report brings scripts of its own. The sandbox gives them an origin of their own too: they reach neither Airflow's
# cookies nor its API, and nothing outside.
REPORT_HEADERS = COMMON_HEADERS | {
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'",
}


def make_app() -> FastAPI:
    """The application that Airflow mounts under /sentiment."""
    app = FastAPI(title="Sentiment", dependencies=[LOGIN_REQUIRED], docs_url=None, redoc_url=None, openapi_url=None)
    pages: dict[str, Callable[..., Response]] = {
        "/": show_nights,
        "/models": show_models,
        "/models/{number:int}": show_model,
        "/checks/{check_id:int}": show_check,
        "/reports/{check_id:int}": show_report,
        "/{path:path}": show_nothing,  # so that what does not exist asks for a login as well
    }
    for path, page in pages.items():
        app.add_api_route(path, page, methods=["GET", "HEAD"], response_class=HTMLResponse)
    app.add_exception_handler(StarletteHTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _reject)
    app.add_exception_handler(SentimentError, _apologise)
    app.add_exception_handler(Exception, _apologise)
    return app


def show_nights(before: date | None = None) -> Response:
    """A page of nights, newest first, those before a date where one is given."""
    nights = list_nights(connections.reading_engine(), before=before, limit=NIGHTS_A_PAGE + 1)
    shown = nights[:NIGHTS_A_PAGE]
    return _page(
        "nights.html",
        nights=shown,
        older_than=shown[-1].window_date if len(nights) > len(shown) else None,
        is_first_page=before is None,
        today=datetime.now(UTC).date(),
        trends={"wide": charts.draw_trend(shown, width=1080), "narrow": charts.draw_trend(shown, width=360)} if shown else {},
    )


def show_models() -> Response:
    """Every version, the gates of the latest comparison, and what was tried for the latest version."""
    found = models.versions(list_events(connections.reading_engine(), limit=EVENTS_SHOWN))
    compared = max((version for version in found if version.decision), key=_decided, default=None)
    searched = next((version for version in found if version.search), None)
    return _page("models.html", found=found, compared=compared, searched=searched, **_parts_of(compared, searched))


def _decided(version: models.Version) -> int:
    return version.decision.event_id if version.decision else 0


def _parts_of(compared: models.Version | None, searched: models.Version | None) -> dict[str, Any]:
    """The gates of one version and the recipes of one, the only ones that a page shows."""
    engine = connections.reading_engine()
    decision, search = compared and compared.decision, searched and searched.search
    return {
        "gates": models.gate_rows(list_gates(engine, decision.event_id)) if decision else [],
        "recipes": models.recipe_rows(list_trials(engine, search.event_id)) if search else [],
    }


def show_model(number: int) -> Response:
    """One version: what happened to it, its gates, and what was tried for it."""
    found = models.versions(list_events(connections.reading_engine(), limit=EVENTS_SHOWN))
    version = next((version for version in found if version.number == number), None)
    if version is None:
        raise HTTPException(404, f"There is no model version {number}.")
    return _page("model.html", version=version, **_parts_of(version, version))


def show_check(check_id: int) -> Response:
    """A drift check in words and figures, with its report below."""
    return _page("check.html", check=_check(check_id))


def show_report(request: Request, check_id: int) -> Response:
    """The report of a drift check as it lies in S3."""
    check = _check(check_id)
    bucket, key = _place(check)
    try:
        report = Bucket(connections.s3_client(), bucket).get(key)
    except ObjectMissing as error:
        raise HTTPException(
            404, f"The report of drift check {check_id} has expired or was removed from S3. Its figures are kept."
        ) from error
    headers = dict(REPORT_HEADERS)
    if "gzip" in request.headers.get("accept-encoding", ""):
        report = gzip.compress(report, compresslevel=5)  # here, on a thread: Airflow's middleware would do it on the event loop
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(report, media_type="text/html; charset=utf-8", headers=headers)


def show_nothing() -> Response:
    """The page for an address that has none."""
    raise HTTPException(404, "There is no such page.")


def _check(check_id: int) -> Check:
    check = find_check(connections.reading_engine(), check_id)
    if check is None:
        raise HTTPException(404, f"There is no drift check {check_id}.")
    return check


def _place(check: Check) -> tuple[str, str]:
    """Bucket and key of a report; what does not lie under reports/ is none, whatever the database says."""
    scheme, _, place = (check.report_url or "").partition("://")
    bucket, _, key = place.partition("/")
    if scheme != "s3" or not bucket or not key.startswith("reports/"):
        raise HTTPException(404, f"Drift check {check.check_id} has no report.")
    return bucket, key


def _page(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    content = _templates().get_template(template).render(values)
    return HTMLResponse(content, status_code=status, headers=PAGE_HEADERS)


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.globals.update(style=Markup(STYLE), views=views, models=models, mark=charts.mark)  # noqa: S704 (our own file)
    return templates


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 (what it is registered for)
    if (login := to_login(request, error)) is not None:
        return login
    if error.status_code in (401, 403) and not is_navigation(request):
        return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=COMMON_HEADERS)
    titles = {403: "Not for this login", 404: "Not found"}
    return _problem(request, error.status_code, titles.get(error.status_code, "This cannot be shown"), str(error.detail))


def _reject(request: Request, _: Exception) -> Response:
    return _problem(request, 400, "Not a date", "A page of nights is asked for with before=YYYY-MM-DD.")


def _apologise(request: Request, error: Exception) -> Response:
    if isinstance(error, Transient):
        log.warning("%s", error)
        what = f"{error.thing} does not answer, or not in time. The nights themselves are not affected: what runs is tried again."
        return _problem(request, 503, "Not available at the moment", what, remedy=error.remedy)
    log.error("%s", error, exc_info=error)
    if isinstance(error, SentimentError):
        return _problem(request, 500, "This needs mending", f"{error.thing} is not as it should be.", remedy=error.remedy)
    return _problem(request, 500, "This went wrong", "The api-server's log has the details.")


def _problem(request: Request, status: int, title: str, what: str, remedy: str | None = None) -> HTMLResponse:
    below = request.url.path.removeprefix(request.scope.get("root_path", "")).lstrip("/")
    answer = _page("problem.html", status=status, title=title, what=what, remedy=remedy, home="../" * below.count("/") or "./")
    if status == 503:  # noqa: PLR2004
        answer.headers["Retry-After"] = "30"
    return answer

"""Airflow's own login in front of every page; a person is sent to it, a program is told 401.

No users, roles or passwords of our own.
"""

from urllib.parse import urlencode

from airflow.api_fastapi.app import get_cookie_path
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response

from sentiment_core.api.headers import COMMON_HEADERS

# Whoever may see Airflow's plugins may see these pages: every role from viewer up.
LOGIN_REQUIRED = Depends(requires_access_view(AccessView.PLUGINS))


def root_path() -> str:
    """Where Airflow itself is mounted, without the last slash: "" or a prefix of [api] base_url."""
    return get_cookie_path().rstrip("/")


def is_navigation(request: Request) -> bool:
    """Whether a person's browser asked for a page, in a tab or in a frame."""
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def to_login(request: Request, error: Exception) -> Response | None:
    """The way to the login where an error means that nobody is logged in and a person asks; else None."""
    status, detail = getattr(error, "status_code", None), getattr(error, "detail", None)
    is_anonymous = status == 401 or detail == "Invalid JWT token"  # noqa: PLR2004 (the latter: of an earlier stack)
    if is_anonymous and is_navigation(request):
        return RedirectResponse(login_url(request), status_code=303, headers=COMMON_HEADERS)
    return None


def login_url(request: Request) -> str:
    """Airflow's login, which comes back to the page that was asked for."""
    path = root_path() + request.url.path.removeprefix(root_path())
    wanted = f"{path}?{request.url.query}" if request.url.query else path
    return f"{root_path()}/api/v2/auth/login?{urlencode({'next': wanted})}"

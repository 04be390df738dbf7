"""What Airflow loads: the nav entry "Sentiment", the pages mounted under /sentiment and the API under /sentiment/api.

Airflow reads this file in every process, a task's own included, so nothing of FastAPI or of Airflow's API is
imported before the api-server asks for it. The pages themselves are the package `sentiment_pages`.
"""

from functools import cached_property
from typing import Any
from urllib.parse import quote

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/sentiment"
# A chart whose last bar falls, in 20 pixels.
ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 20' fill='{}'>"
    "<rect x='2' y='9' width='4' height='9' rx='1'/><rect x='8' y='3' width='4' height='15' rx='1'/>"
    "<rect x='14' y='12' width='4' height='6' rx='1'/></svg>"
)


class AddSlash:
    """Sends /sentiment to /sentiment/: a mount answers only below its prefix, and Airflow's UI takes what is left."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Redirect that one path; every other request passes untouched."""
        if scope["type"] != "http" or scope["path"].removeprefix(scope.get("root_path", "")) != PREFIX:
            await self.app(scope, receive, send)
            return
        location = PREFIX.strip("/").encode() + b"/"  # relative, so that it holds behind a proxy that cuts a prefix off
        headers = [(b"location", location), (b"content-length", b"0"), (b"content-security-policy", b"default-src 'none'")]
        await send({"type": "http.response.start", "status": 307, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


class SentimentPlugin(AirflowPlugin):
    """Nights and drift reports, behind Airflow's own login."""

    name = "sentiment"
    fastapi_root_middlewares = [{"name": "sentiment: add the slash", "middleware": AddSlash}]  # noqa: RUF012 (Airflow's name)

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """The API and the pages, made when the api-server mounts them: the API first, for the pages answer all paths below theirs."""
        from sentiment_pages.api import make_api
        from sentiment_pages.app import make_app

        return [
            {"name": "Sentiment API", "app": make_api(), "url_prefix": f"{PREFIX}/api"},
            {"name": "Sentiment", "app": make_app(), "url_prefix": PREFIX},
        ]

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:
        """The nav entry: /plugin/sentiment shows the pages in a frame of Airflow's UI, /plugin/sentiment/PATH one of them."""
        from sentiment_pages.login import root_path

        return [
            {
                "name": "Sentiment",
                "href": f"{root_path()}{PREFIX}/",
                "destination": "nav",
                "url_route": "sentiment",
                "nav_top_level": True,
                "icon": "data:image/svg+xml," + quote(ICON.format("#6b83aa")),
                "icon_dark_mode": "data:image/svg+xml," + quote(ICON.format("#a1a1aa")),
            }
        ]

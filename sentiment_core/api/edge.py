"""The outermost layer of the API: every request is counted here, and answered where nothing else answers.

What fails unforeseen is logged by where it failed and as what: its message may hold what was sent, and stays out.
"""

import logging
import time
import traceback
from collections.abc import Container

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sentiment_core.api.answers import Answer
from sentiment_core.api.metrics import Metrics

log = logging.getLogger(__name__)


class Edge:
    """Counts requests by path, status and time; answers 500 for what raises."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Container[str]) -> None:
        """`paths` are those that are counted by name; others are one."""
        self.app = app
        self.metrics = metrics
        self.paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and look at how it is answered."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        began, status = time.perf_counter(), None

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note)
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__))
            log.error("a request for %s failed: %s\n%s", path, type(error).__name__, where)  # noqa: TRY400 (not its message)
            if status is not None:
                raise  # half an answer is on its way: the server has to break it off
            await Answer({"detail": "This went wrong; the server's log has the details."}, 500)(scope, receive, note)
        finally:
            self.metrics.count_request(path if path in self.paths else "other", status or 500, time.perf_counter() - began)

"""Where a history may be cut short: before a statement, before or after a commit, in the midst of a COPY, before a call of S3.

A cut is an exception that nothing in the product catches, or the end of the server's session; what was not committed by
then is undone by PostgreSQL, as it is when the process is killed.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, event, text

from sentiment_core.stages.services import Services
from sentiment_core.store import copy

# The places, and how many of each a task of a few tiny objects passes at most.
N_PLACES = {"statement": 60, "severed": 60, "commit": 9, "committed": 9, "copy": 8, "s3": 5}


class Cut(BaseException):
    """The process has been killed here."""


@dataclass
class Trouble:
    """Counts the places passed, and cuts at the one that has been chosen."""

    kind: str | None = None
    n_left: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, kind: str, n_left: int) -> None:
        self.kind, self.n_left = kind, n_left

    def disarm(self) -> None:
        self.kind = None

    def is_due(self, kind: str) -> bool:
        """Whether this place is the one; asked once a place."""
        with self._lock:
            if self.kind != kind:
                return False
            self.n_left -= 1
            if self.n_left >= 0:
                return False
            self.kind = None  # from here on nothing of the killed process happens
            return True

    def cut(self, kind: str) -> None:
        if self.is_due(kind):
            raise Cut(kind)

    def install(self, services: Services, owner: Engine) -> None:
        """Put the places into the services' engine and client; the owner may end its sessions."""
        engine = services.engine
        committed = engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            self.cut("commit")
            committed(connection)
            self.cut("committed")

        engine.dialect.do_commit = do_commit
        event.listen(engine, "before_cursor_execute", lambda connection, *_: self._before(connection, owner))
        services.bucket._client.meta.events.register("before-send.s3", lambda **_: self.cut("s3"))

    def _before(self, connection: Any, owner: Engine) -> None:
        self.cut("statement")
        if self.is_due("severed"):
            pid = connection.connection.driver_connection.info.backend_pid
            with owner.connect() as other:
                other.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    def payload(self) -> type:
        """What COPY reads from, with a place before every piece."""
        trouble = self

        class Payload(copy._Payload):
            def read(self, size: int) -> bytes:
                trouble.cut("copy")
                return super().read(size)

        return Payload

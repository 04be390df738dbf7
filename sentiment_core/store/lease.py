"""Leases: who may stage an object, for how long, and how one who has overstayed is kept from writing.

A lease is held three ways. Its holder's session keeps a lock, so that what a dead worker held is free at once. It has an
end, which a thread puts off while the worker works, so that a worker that lives and does not stir (a machine that is
suspended, a process that is stopped) is overtaken. And it is a token that has to be handed back in the transaction that
writes, so that one who was overtaken and wakes up cannot commit. A lock alone would make everybody wait for the sleeper,
a time alone for the dead, and neither stops a sleeper's last statement.

What is read and written under a lease is not known here.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2.errors
from sqlalchemy.engine import Connection, Engine

from sentiment_core.errors import Permanent, SentimentError, Transient
from sentiment_core.store.engine import statement

# Of its length after which a lease is renewed: two renewals may fail before it ends.
_RENEWED_AFTER = 0.3

log = logging.getLogger(__name__)


class LeaseLost(Transient):
    """Somebody else stages the object by now; what was staged under this lease is not committed."""


@dataclass
class Lease:
    """The right to stage one object; made by `leased`."""

    bucket: str
    key: str
    run_id: str
    token: int
    seconds: float
    _is_lost: threading.Event = field(default_factory=threading.Event, repr=False)
    _is_over: threading.Event = field(default_factory=threading.Event, repr=False)
    _renewing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def place(self) -> dict[str, Any]:
        """As the statements name it."""
        return {"bucket": self.bucket, "key": self.key, "token": self.token, "seconds": self.seconds}

    def check(self) -> None:
        """Raise LeaseLost when it is known to be lost: what comes after would be for nothing."""
        if self._is_lost.is_set():
            raise self._lost()

    def hand_back(self, connection: Connection) -> None:
        """Give the lease up in the transaction that it was for; raises LeaseLost when it was somebody else's by then.

        From here to the commit whoever wants the key waits, so that the server ends the session if it falls asleep.
        """
        self._is_over.set()
        with self._renewing:  # a renewal under way would wait for this transaction, and its end for the renewal
            _execute(connection, "bound_idleness")
            if not _execute(connection, "hand_back", **self.place).rowcount:
                raise self._lost()

    def keep(self, engine: Engine) -> None:
        """Renew it until it is over; to be run by a thread of its own."""
        while not self._is_over.wait(self.seconds * _RENEWED_AFTER):
            with self._renewing:
                if not self._is_over.is_set():
                    self._renew(engine)

    def _renew(self, engine: Engine) -> None:
        try:
            with engine.begin() as connection:
                if not _execute(connection, "renew", **self.place).rowcount:
                    self._is_lost.set()
        except SentimentError as error:  # a server that does not answer is asked again; the one that stages notices too
            log.warning("the lease of %s was not renewed: %s", self.key, error)

    def drop(self, engine: Engine) -> None:
        """Give it up without having staged anything."""
        if not self._is_over.is_set():
            with engine.begin() as connection:
                _execute(connection, "hand_back", **self.place)

    def end(self) -> None:
        """Renew it no more."""
        self._is_over.set()

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"lease of s3://{self.bucket}/{self.key}",
            expected=f"to hold it, renewed every {self.seconds * _RENEWED_AFTER:.0f} s",
            found="another run has taken it over meanwhile",
            remedy="nothing: what this one had staged is dropped, and a new try finds what the other has done",
        )


@contextmanager
def leased(engine: Engine, connection: Connection, *, bucket: str, key: str, run_id: str, seconds: float) -> Iterator[Lease]:
    """The lease of a key; waits for whoever holds it, as long as they live and renew it.

    Args:
        engine: for short transactions beside the one that stages.
        connection: the transaction that stages; the lease is held while it lasts, and no longer.
        bucket: of the object.
        key: of the object.
        run_id: tells people who holds it.
        seconds: how long it holds without being renewed.
    """
    token = int(_execute(connection, "draw").scalar_one())
    _execute(connection, "lock_token", token=token)  # before anybody can see the token and find its lock free
    lease = Lease(bucket=bucket, key=key, run_id=run_id, token=token, seconds=seconds)
    while not _take(engine, lease):
        pass
    renewing = threading.Thread(target=lease.keep, args=(engine,), name="lease", daemon=True)
    renewing.start()
    try:
        yield lease
    except Permanent:  # of no use to whoever comes next; after anything else the end of the session says so
        lease.drop(engine)
        raise
    finally:
        lease.end()
        renewing.join()


def _take(engine: Engine, lease: Lease) -> bool:
    """Take the lease when it is free; else wait until that may have changed."""
    with engine.begin() as connection:
        found = _execute(connection, "found", **lease.place).one_or_none()
        if found is None or found.is_left or found.is_over:
            if found is not None and not found.is_left:
                log.warning("run %s has not stirred over %s for too long, it is staged anew", found.run_id, lease.key)
            values = {**lease.place, "run_id": lease.run_id, "found": found.token if found else None}
            return bool(_execute(connection, "take", **values).rowcount)
    _await(engine, found.token, found.seconds_left)
    return False


def _await(engine: Engine, token: int, seconds: float) -> None:
    """Until the session that holds the token has ended, or the lease's time is over."""
    try:
        with engine.begin() as connection:
            _execute(connection, "patience", milliseconds=f"{max(50, int(seconds * 1000) + 50)}ms")
            _execute(connection, "wait", token=token)
    except Transient as error:
        if not isinstance(error.__cause__, psycopg2.errors.LockNotAvailable):
            raise


def _execute(connection: Connection, name: str, **values: Any) -> Any:
    return connection.execute(statement(f"lease.{name}"), values)

"""The API as a program of its own: a socket that is ours before a model is loaded, and an end that is clean.

On loopback only names of this machine are answered to: a page elsewhere could else point a name of its own at it and
read what is answered. All of uvicorn is here.
"""

import errno
import ipaddress
import signal
import socket
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from sentiment_core.api.answers import Answer
from sentiment_core.errors import Permanent

_PATIENCE_S = 10  # for answers under way at the end: a full batch takes a tenth of a second, a reload some


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address of this machine; port 0 takes a free one.

    Raises:
        Permanent: the port is taken or not for this user, or the host is none of this machine.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port of an API that has just ended is free
        try:
            bound.bind(address)
            bound.listen(0)  # where somebody else is bound but has not listened yet, this is who comes second
        except OSError:
            bound.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        raise _refused(host, port, error) from error
    return bound


def _refused(host: str, port: int, error: Exception) -> Permanent:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        remedy = "stop what listens there, or name another with --port (0: any that is free)"
        return Permanent(f"port {port}", expected=f"a free port of {host}", found="it taken", remedy=remedy)
    if isinstance(error, PermissionError):
        return Permanent(f"port {port}", expected="one for this user", found=str(error), remedy="name one above 1023 with --port")
    return Permanent(f"host {host}", expected="an address of this machine", found=str(error), remedy="name another with --host")


def address_of(bound: socket.socket) -> str:
    """Where a person reaches it."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def is_loopback(bound: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def run(app: ASGIApp, bound: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM; then end what is under way, and return."""
    guarded = LocalNames(app) if is_loopback(bound) else app
    config = uvicorn.Config(
        guarded, log_config=None, access_log=False, server_header=False, lifespan="off", ws="none",
        timeout_graceful_shutdown=_PATIENCE_S,
    )  # fmt: skip
    # uvicorn raises the signal once more when all is done, for whoever was there before it: here nobody is.
    before = {number: signal.signal(number, _do_nothing) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _do_nothing(*_: Any) -> None:
    return


class LocalNames:
    """Refuses requests for another host than this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at the Host header, and pass the request on."""
        if scope["type"] == "http" and not is_local_name(dict(scope["headers"]).get(b"host", b"").decode("latin-1")):
            detail = "This API answers to localhost alone. Ask for http://127.0.0.1, or start it with another --host."
            await Answer({"detail": detail}, 421)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def is_local_name(host: str) -> bool:
    """Whether a Host header means this machine, as far as its words say.

    >>> [is_local_name(host) for host in ("localhost:8000", "127.0.0.1", "[::1]:8000", "", "evil.example:8000", "127.0.0.1.evil.example")]
    [True, True, True, True, False, False]
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name in ("", "localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

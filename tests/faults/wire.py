"""A wire between the product and a server, on which a test puts faults: it holds, cuts, slows, shortens and repeats.

It knows bytes and, of HTTP, where an answer's head ends; what goes over it stays as it is. That the statements of
PostgreSQL's clients and the requests of S3's can be read on the wire is what lets a test stop a program at a step
without a hook in the program.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Link = tuple[socket.socket, socket.socket]
_CHUNK = 1 << 16


@dataclass
class Fault:
    """What happens when words have gone by on one link, one after the other."""

    kind: str
    """hold: the words do not arrive, until `let_go` · hold_answer: they do, the answer does not · hold_after: half of
    what follows them arrives · reset: the connection breaks · cut: of an answer's body half arrives, and then the end."""
    words: tuple[bytes, ...]
    times: int = 1
    """On so many links."""
    reached: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)


@dataclass
class _State:
    """What a link knows of a fault."""

    seen: int = 0
    tail: bytes = b""
    is_due: bool = False
    is_answer_held: bool = False


class Wire:
    """Listens on a port of its own and passes on to a server's."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._links: set[Link] = set()
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._is_closed = False
        self.delay_s = 0.0
        """Before every request, as a server far away has it."""
        self.bytes_per_s: float | None = None
        self._kept: dict[bytes, bytes] = {}
        self._keeping: bytes | None = None
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    def on(self, kind: str, *words: bytes, times: int = 1) -> Fault:
        fault = Fault(kind, words, times)
        with self._lock:
            self._faults.append(fault)
        return fault

    def keep(self, words: bytes) -> None:
        """Keep the answers to requests with these words, and from now on give them whatever the server would say."""
        self._keeping = words

    def heal(self) -> None:
        """No fault any more; what is held goes on."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.let_go.set()
        self.delay_s, self.bytes_per_s, self._keeping = 0.0, None, None
        self._kept.clear()

    def drop_links(self) -> None:
        with self._lock:
            links = list(self._links)
        for link in links:
            self._end(link, is_reset=True)

    def close(self) -> None:
        self._is_closed = True
        self.heal()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the one who accepts
        self._listener.close()
        self.drop_links()

    def _accept(self) -> None:
        while not self._is_closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.server_port), timeout=5)
            except OSError:  # the server is away: so is this, for the client
                _reset(client)
                continue
            server.settimeout(None)
            link = (client, server)
            with self._lock:
                self._links.add(link)
                states = {}
            for name, pump in (("up", self._up), ("down", self._down)):
                threading.Thread(target=self._guarded, args=(pump, link, states), name=f"wire {name}", daemon=True).start()

    def _guarded(self, pump: Callable[[Link, dict[int, _State]], None], link: Link, states: dict[int, _State]) -> None:
        with contextlib.suppress(OSError):
            pump(link, states)
        self._end(link)

    def _end(self, link: Link, *, is_reset: bool = False) -> None:
        with self._lock:
            if link not in self._links:
                return
            self._links.discard(link)
        for end in link:
            if is_reset:
                _reset(end)
            else:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _up(self, link: Link, states: dict[int, _State]) -> None:
        client, server = link
        while chunk := client.recv(_CHUNK):
            time.sleep(self.delay_s)
            if (answer := self._repeated(chunk)) is not None:
                client.sendall(answer)
                continue
            for fault in list(self._faults):
                chunk = self._pass(fault, states.setdefault(id(fault), _State()), chunk, link)
            server.sendall(chunk)

    def _repeated(self, chunk: bytes) -> bytes | None:
        if self._keeping is None or self._keeping not in chunk:
            return None
        request = chunk.split(b"\r\n", 1)[0]
        if request not in self._kept:
            self._kept[request] = _ask(self.server_port, chunk)
        return self._kept[request]

    def _pass(self, fault: Fault, state: _State, chunk: bytes, link: Link) -> bytes:
        """Do what is due now; gives what of the chunk is still to be sent."""
        if state.is_due:
            if fault.kind == "hold_after" and not fault.reached.is_set():
                half = len(chunk) // 2
                link[1].sendall(chunk[:half])
                fault.reached.set()
                fault.let_go.wait()
                return chunk[half:]
            return chunk
        looked_at = state.tail + chunk
        while state.seen < len(fault.words) and (place := looked_at.find(fault.words[state.seen])) >= 0:
            looked_at = looked_at[place + len(fault.words[state.seen]) :]
            state.seen += 1
        state.tail = looked_at[-200:]
        if state.seen < len(fault.words) or fault.times <= 0:
            return chunk
        state.is_due, fault.times = True, fault.times - 1
        if fault.kind == "hold":
            fault.reached.set()
            fault.let_go.wait()
        elif fault.kind == "reset":
            fault.reached.set()
            self._end(link, is_reset=True)
            raise OSError("reset")
        elif fault.kind in ("hold_answer", "cut"):
            state.is_answer_held = True
        return chunk

    def _down(self, link: Link, states: dict[int, _State]) -> None:
        client, server = link
        while chunk := server.recv(_CHUNK if self.bytes_per_s is None else 4096):
            for fault in list(self._faults):
                state = states.get(id(fault))
                if state is None or not state.is_answer_held:
                    continue
                state.is_answer_held = False
                if fault.kind == "cut":
                    body = chunk.find(b"\r\n\r\n") + 4
                    client.sendall(chunk[: body + (len(chunk) - body) // 2])
                    fault.reached.set()
                    return
                fault.reached.set()
                fault.let_go.wait()
            if self.bytes_per_s:
                time.sleep(len(chunk) / self.bytes_per_s)
            client.sendall(chunk)


def _ask(port: int, request: bytes) -> bytes:
    """The whole answer to a request; the connection is asked to end with it."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as server:
        server.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
        return b"".join(iter(lambda: server.recv(_CHUNK), b"")).replace(b"Connection: close\r\n", b"")


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RD)
    end.close()

"""Model versions on this machine's disk, by digest; and which version an alias meant last.

Safe with several processes and threads at once: a folder appears complete or not at all, and is checked against its digest every
time it is used. May be deleted at any time. Nothing here talks to a server.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sentiment_core.domain import ModelRef
from sentiment_core.registry.artefact import DIGEST, UntrustedModel, check_digest, digest_of

_N_KNOWN = 20
_ABANDONED_SECONDS = 86_400  # a download that old belongs to a process that was killed

log = logging.getLogger(__name__)


class ModelCache:
    """A folder of model folders."""

    def __init__(self, directory: Path, place: str) -> None:
        """`place` names the server and the model, so that a cache is never taken for another MLflow's."""
        self.directory = directory
        self._known_file = directory / f"known-{hashlib.sha256(place.encode()).hexdigest()[:16]}.json"

    def find(self, ref: ModelRef) -> Path | None:
        """The files of a version, when they lie here unchanged."""
        folder = self._folder(ref)
        if not folder.is_dir():
            return None
        if digest_of(folder) == ref.digest:
            return folder
        log.warning("the cached files of version %s have changed, they are fetched anew", ref.version)
        _discard(folder)
        return None

    @contextlib.contextmanager
    def room(self) -> Iterator[Path]:
        """An empty folder to download into, gone afterwards."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._sweep()
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.directory))
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def add(self, ref: ModelRef, files: Path) -> Path:
        """Take over downloaded files; raises UntrustedModel when they have another digest."""
        check_digest(files, ref)
        folder = self._folder(ref)
        with contextlib.suppress(OSError):  # somebody else was quicker: what they put there is checked below
            files.rename(folder)
        check_digest(folder, ref)
        return folder

    def _folder(self, ref: ModelRef) -> Path:
        if not DIGEST.fullmatch(ref.digest):
            raise UntrustedModel(
                f"model {ref.name} version {ref.version}",
                expected="a SHA-256 digest",
                found=repr(ref.digest),
                remedy="resolve the model anew",
            )
        return self.directory / ref.digest

    def _sweep(self) -> None:
        for folder in self.directory.glob(".partial-*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    def _known(self) -> list[dict[str, Any]]:
        try:
            known: list[dict[str, Any]] = json.loads(self._known_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return []
        return known

    def remember(self, which: str, ref: ModelRef) -> None:
        """Note what an alias or a number meant just now."""
        entry = {"which": which, "ref": ref.to_json()}
        known = self._known()
        if entry in known[:1]:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        partial = self._known_file.with_suffix(f".{_unique()}.tmp")
        partial.write_text(json.dumps([entry, *(other for other in known if other != entry)][:_N_KNOWN]), encoding="utf-8")
        partial.replace(self._known_file)

    def last_known(self, which: str | int) -> ModelRef | None:
        """What it meant last, among the versions whose files lie here."""
        for entry in self._known():
            ref = ModelRef.from_json(entry["ref"])
            if str(which) in (entry["which"], str(ref.version)) and self.find(ref):
                return ref
        return None


def _unique() -> str:
    """A name that no other process or thread uses at the same time."""
    return f"{os.getpid()}-{threading.get_ident()}"


def _discard(folder: Path) -> None:
    # Renamed first, so that nobody opens a half-deleted folder.
    with contextlib.suppress(OSError):
        doomed = folder.with_name(f".partial-{_unique()}-{folder.name[:8]}")
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

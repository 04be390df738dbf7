"""What a stack remembers in its folder: secrets, ports, which processes are its own, how far they are.

Everything survives a reboot. Folders are 0700 and files 0600; every write is all or nothing.
"""

import base64
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sentiment_core.local import processes
from sentiment_core.local.processes import Identity

PORTS = ("postgres", "s3", "mlflow", "api-server")


@dataclass(frozen=True)
class StateDir:
    """The folder, `.local` of a clone."""

    path: Path

    def create(self) -> None:
        """Make the folder, for its owner alone."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)
        for name in ("logs", "state"):
            (self.path / name).mkdir(exist_ok=True, mode=0o700)

    def secrets(self) -> dict[str, str]:
        """Every generated secret by name; made on first use, kept from then on."""
        path = self.path / "secrets.json"
        known = processes.read_json(path)
        made = {name: make() for name, make in _SECRETS.items() if name not in known}
        if made:
            processes.write_private(path, processes.to_json({**known, **made}))
        return {**known, **made}

    def ports(self, *, kept: Iterable[str] = ()) -> dict[str, int]:
        """The port of each server: the remembered one unless a stranger has it. `kept` names those that are ours and run."""
        path = self.path / "ports.json"
        known: dict[str, int] = processes.read_json(path)
        chosen = dict(known)
        for name in PORTS:
            if name in kept and name in known:
                continue
            while name not in chosen or not processes.is_port_free(chosen[name]) or list(chosen.values()).count(chosen[name]) > 1:
                chosen[name] = processes.free_port()
        if chosen != known:
            processes.write_private(path, processes.to_json(chosen))
        return chosen

    def log(self, name: str) -> Path:
        """Where a component writes."""
        return self.path / "logs" / f"{name}.log"

    @property
    def up_lock(self) -> Path:
        """Held while somebody starts or stops the stack."""
        return self.path / "state" / "up.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.path / "state" / "supervisor.lock"

    def supervisor(self) -> Identity | None:
        """The supervisor, if it lives."""
        return _identity(processes.read_json(self.path / "state" / "supervisor.json"))

    def write_supervisor(self, identity: Identity) -> None:
        """Record who the supervisor is."""
        processes.write_private(self.path / "state" / "supervisor.json", processes.to_json(vars(identity)))


def _identity(record: dict[str, Any]) -> Identity | None:
    if not record.get("pid"):
        return None
    identity = Identity(pid=record["pid"], created=record["created"])
    return identity if identity.is_alive() else None


@dataclass
class Ledger:
    """Which processes are ours and how far each component is; the file is the truth for whoever comes after."""

    directory: StateDir
    _records: dict[str, dict[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._records = processes.read_json(self._path)

    @property
    def _path(self) -> Path:
        return self.directory.path / "state" / "components.json"

    def reload(self) -> "Ledger":
        """What the file says now."""
        self._records = processes.read_json(self._path)
        return self

    def record(self, name: str, **values: Any) -> None:
        """Change what is known of a component."""
        with self._lock:
            before = dict(self._records.get(name, {}))
            self._records[name] = {**before, **values}
            if self._records[name] != before:
                processes.write_private(self._path, processes.to_json(self._records))

    def known(self, name: str) -> dict[str, Any]:
        """What is known of a component: pid, created, fingerprint, phase, detail, n_restarts."""
        return dict(self._records.get(name, {}))

    def identity(self, name: str) -> Identity | None:
        """The component's process, if it lives."""
        return _identity(self.known(name))

    def last_identity(self, name: str) -> Identity | None:
        """The component's process as recorded, alive or not."""
        record = self.known(name)
        return Identity(pid=record["pid"], created=record["created"]) if record.get("pid") else None


def _token() -> str:
    # Letters and digits only: it goes through addresses, configuration files and command lines of many programs.
    alphabet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"
    return "".join(secrets.choice(alphabet) for _ in range(32))


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


_SECRETS = {
    **dict.fromkeys(
        (
            "postgres_password", "owner_password", "writer_password", "reader_password", "airflow_password", "mlflow_password",
            "s3_access_key_id", "s3_secret_access_key", "airflow_api_secret", "ui_admin_password",
            "ui_viewer_password",
        ),
        _token,
    ),
    "airflow_jwt_secret": lambda: _token() + _token(),  # SHA-512 wants 64 bytes
    "airflow_fernet_key": _fernet_key,
}  # fmt: skip

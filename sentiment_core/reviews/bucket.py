"""All of S3: listing, reading and writing objects of one bucket.

The only importer of boto3. Its errors end here: what a retry may mend leaves as Transient, the rest as Permanent
with what to do. What objects mean is none of its business.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from http import HTTPStatus
from typing import Any, BinaryIO, cast

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as NotConnectedError

from sentiment_core.domain import ObjectVersion
from sentiment_core.errors import Permanent, SentimentError, Transient
from sentiment_core.settings import Settings

# Large enough that reading is not a matter of calls, small enough that a hundred open objects are no matter.
_BUFFER_BYTES = 1 << 20
_MISSING = {"NoSuchKey", "NoSuchBucket", "NotFound", "404"}
_REFUSED = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "Forbidden",
    "403",
    "401",
}
_BUSY = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "ServiceUnavailable",
    "InternalError",
}


class ObjectChanged(Transient):
    """The object is no longer the version that was listed."""


class ObjectMissing(Permanent):
    """There is no such object (any more)."""


def connect(settings: Settings) -> "Bucket":
    """The bucket of the settings; nothing is sent before the first call."""
    import boto3
    from botocore.config import Config

    config = Config(
        # A night waits rather than fails: an unreachable server costs 5 x 10 s before the task's own retry takes over.
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 5},
        tcp_keepalive=True,
        max_pool_connections=64,  # as many as read at a time, and room for those who list
        # Newer checksums are trailers, which other S3 servers than AWS's refuse (411 on UploadPart).
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if settings.s3_endpoint_url else None,
    )
    try:
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            aws_access_key_id=settings.s3_access_key_id,
            aws_secret_access_key=settings.s3_secret_access_key,
            aws_session_token=settings.s3_session_token,
            region_name=settings.s3_region,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:  # a profile that is not there, an address that is none
        remedy = "check AWS_ENDPOINT_URL_S3 and AWS's other variables"
        raise Permanent("connection to S3", expected="valid settings", found=str(error), remedy=remedy) from error
    return Bucket(client, settings.bucket)


class Bucket:
    """One bucket over any boto3 S3 client."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def url(self, key: str) -> str:
        """The address of a key, for people and for the database."""
        return f"s3://{self.name}/{key}"

    def list(self, prefix: str) -> Iterator[ObjectVersion]:
        """The objects under a prefix, in the order of their keys, without the markers that stand for folders."""
        with _translated(f"listing of {self.url(prefix)}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for item in page.get("Contents", ()):
                    if not _is_folder(item["Key"], item["Size"]):
                        yield ObjectVersion(
                            bucket=self.name,
                            key=item["Key"],
                            etag=item["ETag"].strip('"'),
                            size=item["Size"],
                            last_modified=item["LastModified"].astimezone(UTC),
                        )

    def folders(self, prefix: str) -> Iterator[str]:
        """The prefixes one level below a prefix, each ending in a slash."""
        with _translated(f"listing of {self.url(prefix)}"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix, Delimiter="/"):
                for item in page.get("CommonPrefixes", ()):
                    yield item["Prefix"]

    def current(self, obj: ObjectVersion) -> ObjectVersion | None:
        """The version that lies under the key of another; None when there is none.

        Taken from a listing, as every other version is: the answer about a single object rounds the time to seconds. A
        listing that still shows the other version, though the object itself is no longer it, is stale: then the answer
        has to do.
        """
        listed = next((item for item in self.list(obj.key) if item.key == obj.key), None)
        if listed is not None and listed != obj:
            return listed
        there = self._head(obj.key)
        if there is None or (listed is not None and there["ETag"].strip('"') == obj.etag):
            return None if there is None else listed
        return ObjectVersion(
            bucket=self.name,
            key=obj.key,
            etag=there["ETag"].strip('"'),
            size=there["ContentLength"],
            last_modified=there["LastModified"].astimezone(UTC),
        )

    def verify(self, obj: ObjectVersion) -> None:
        """Raise ObjectChanged unless this version is what lies there now, ObjectMissing when nothing does."""
        thing = f"object {self.url(obj.key)}"
        there = self._head(obj.key)
        if there is None:  # no retry would find it: were this a change, the one who asks would ask for ever
            raise ObjectMissing(thing, expected=f"the listed version {obj.etag}", found="nothing", remedy="deliver it again")
        found = there["ETag"].strip('"')
        if found != obj.etag:
            raise ObjectChanged(thing, expected=f"the listed version {obj.etag}", found=found, remedy="list and read it again")

    def open(self, obj: ObjectVersion) -> BinaryIO:
        """Stream exactly the listed version; raises ObjectChanged when another one is there by now.

        Reading raises Transient when the connection breaks or the body ends early.
        """
        thing = f"object {self.url(obj.key)}"
        with _translated(thing):
            answer = self._client.get_object(Bucket=self.name, Key=obj.key, IfMatch=f'"{obj.etag}"')
        found = answer["ETag"].strip('"')
        # Not every server heeds If-Match (rclone does not), so that the answer itself has to be looked at.
        if found != obj.etag:
            answer["Body"].close()
            raise ObjectChanged(thing, expected=f"the listed version {obj.etag}", found=found, remedy="list and read it again")
        body = _Body(answer["Body"], answer["ContentLength"], thing)
        return cast("BinaryIO", io.BufferedReader(body, _BUFFER_BYTES))

    def get(self, key: str) -> bytes:
        """A whole object, for small ones."""
        thing = f"object {self.url(key)}"
        with _translated(thing):
            answer = self._client.get_object(Bucket=self.name, Key=key)
        with _Body(answer["Body"], answer["ContentLength"], thing) as body:
            return body.readall()

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""
        return self._head(key) is not None

    def put(self, key: str, data: bytes | BinaryIO, content_type: str | None = None) -> None:
        """Write an object; a large stream goes up in parts, and is there as a whole or not at all."""
        extra = {"ContentType": content_type} if content_type else {}
        with _translated(f"object {self.url(key)}"):
            if isinstance(data, bytes):
                self._client.put_object(Bucket=self.name, Key=key, Body=data, **extra)
            else:
                # The caller's file stays open: the uploader closes what it is given.
                self._client.upload_fileobj(_Borrowed(data), self.name, key, ExtraArgs=extra)

    def put_if_changed(self, key: str, data: bytes | BinaryIO, content_type: str | None = None) -> bool:
        """Write an object unless the key holds the same bytes already; whether it was written."""
        stream = io.BytesIO(data) if isinstance(data, bytes) else data
        if self._holds(key, stream):
            return False
        stream.seek(0)
        self.put(key, stream, content_type)
        return True

    def delete(self, key: str) -> None:
        """Take an object away; one that is not there (any more) is fine."""
        with _translated(f"object {self.url(key)}"):
            self._client.delete_object(Bucket=self.name, Key=key)

    def _holds(self, key: str, stream: BinaryIO) -> bool:
        there = self._head(key)
        if there is None or there["ContentLength"] != stream.seek(0, io.SEEK_END):
            return False
        stream.seek(0)
        if _md5(stream) == there["ETag"].strip('"'):
            return True
        # An ETag need not be a digest (parts, encryption): then only the bytes tell.
        stream.seek(0)
        thing = f"object {self.url(key)}"
        with _translated(thing):
            answer = self._client.get_object(Bucket=self.name, Key=key)
        with io.BufferedReader(_Body(answer["Body"], answer["ContentLength"], thing), _BUFFER_BYTES) as body:
            while block := body.read(_BUFFER_BYTES):
                if block != stream.read(len(block)):
                    return False
        return not stream.read(1)

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            with _translated(f"object {self.url(key)}"):
                answer: dict[str, Any] = self._client.head_object(Bucket=self.name, Key=key)
                return answer
        except ObjectMissing:
            return None


def _md5(stream: BinaryIO) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while block := stream.read(_BUFFER_BYTES):
        digest.update(block)
    return digest.hexdigest()


class _Body(io.RawIOBase):
    """The body of an answer as a file whose failures are ours, and which is complete or fails."""

    def __init__(self, stream: Any, size: int, thing: str) -> None:
        self._stream, self._size, self._thing, self._n_read = stream, size, thing, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            with _translated(self._thing):
                block = self._stream.read(len(buffer))
        except OSError as error:  # a socket's own, where botocore lets it through
            raise self._broken(str(error)) from error
        self._n_read += len(block)
        if not block and buffer and self._n_read != self._size:
            raise self._broken(f"{self._n_read:,}")
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._stream.close()
        super().close()

    def _broken(self, found: str) -> Transient:
        return Transient(self._thing, expected=f"{self._size:,} bytes", found=found, remedy="read it again")


class _Borrowed(io.RawIOBase):
    """A stream that is read, and not closed, through this."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)


def _is_folder(key: str, size: int) -> bool:
    # "folder/" is how S3's console writes a folder, "folder_$folder$" how Hadoop does.
    return key.endswith("/") or (size == 0 and key.endswith("_$folder$"))


@contextmanager
def _translated(thing: str) -> Iterator[None]:
    """Turn botocore's errors into ours."""
    try:
        yield
    except ClientError as error:
        raise _from_answer(thing, error) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise _refused(thing, str(error)) from error
    except (NotConnectedError, HTTPClientError, IncompleteReadError) as error:
        raise Transient(thing, expected="an answer from S3", found=str(error), remedy="try again; is the server up?") from error
    except BotoCoreError as error:
        raise Permanent(thing, expected="a valid request", found=str(error), remedy="check the S3 settings") from error


def _from_answer(thing: str, error: ClientError) -> SentimentError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    found = f"{status} {code}"
    if code in _BUSY or status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Transient(thing, expected="an answer from S3", found=found, remedy="try again later")
    if code == "PreconditionFailed" or status == HTTPStatus.PRECONDITION_FAILED:
        return ObjectChanged(thing, expected="the listed version", found="another one", remedy="list and read it again")
    if code in _MISSING or status == HTTPStatus.NOT_FOUND:
        what = "bucket" if code == "NoSuchBucket" else "key"
        return ObjectMissing(
            thing, expected=f"an existing {what}", found=found, remedy=f"check the {what}'s name, or deliver it again"
        )
    if code in _REFUSED or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return _refused(thing, found)
    message = str(error.response.get("Error", {}).get("Message", ""))
    return Permanent(thing, expected="success", found=f"{found} {message}".strip(), remedy="check the S3 settings")


def _refused(thing: str, found: str) -> Permanent:
    return Permanent(
        thing,
        expected="access",
        found=found,
        remedy="check the credentials and rights: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or Airflow's connection reviews_s3",
    )

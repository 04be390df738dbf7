"""S3 as the product meets it: a real server, and broken connections where a real one cannot be made to break."""

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sentiment_core.domain import ObjectVersion
from sentiment_core.errors import Permanent, Transient
from sentiment_core.local.processes import free_port
from sentiment_core.reviews.bucket import Bucket, ObjectChanged, ObjectMissing, connect
from sentiment_core.settings import Settings


@pytest.fixture
def s3_settings(s3_server: Any, bucket_name: str) -> Settings:
    return Settings(
        database_url="postgresql://unused",
        mlflow_tracking_uri="unused",
        bucket=bucket_name,
        s3_endpoint_url=s3_server.endpoint_url,
        s3_access_key_id=s3_server.access_key_id,
        s3_secret_access_key=s3_server.secret_access_key,
    )


@pytest.fixture
def bucket(s3_settings: Settings) -> Bucket:
    return connect(s3_settings)


def version(bucket: Bucket, key: str) -> ObjectVersion:
    (found,) = [obj for obj in bucket.list(key) if obj.key == key]
    return found


def test_a_listing_shows_versions(bucket: Bucket) -> None:
    before = datetime.now(UTC) - timedelta(minutes=5)
    for key in ("a/date=1/x.csv", "a/date=1/deep/grün + %.csv", "a/date=2/x.csv", "a/empty.csv", "b/x.csv"):
        bucket.put(key, b"" if "empty" in key else key.encode())
    listed = list(bucket.list("a/"))
    assert [obj.key for obj in listed] == ["a/date=1/deep/grün + %.csv", "a/date=1/x.csv", "a/date=2/x.csv", "a/empty.csv"]
    first = listed[1]
    assert (first.bucket, first.size) == (bucket.name, len("a/date=1/x.csv"))
    assert len(first.etag) == 32
    assert first.last_modified.utcoffset() == timedelta(0)
    assert before < first.last_modified < before + timedelta(minutes=10)
    assert list(bucket.list("nothing/")) == []


def test_markers_that_stand_for_folders_are_not_listed(bucket: Bucket, s3_client: Any) -> None:
    class MarkingClient:
        """The server at hand keeps no key that ends in a slash; S3's console makes them."""

        def get_paginator(self, name: str) -> "MarkingClient":
            self.paginator = s3_client.get_paginator(name)
            return self

        def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
            for page in self.paginator.paginate(**request):
                (item,) = page["Contents"]
                yield {"Contents": [{**item, "Key": key, "Size": 0} for key in ("a/", "a/b_$folder$", "a/empty.csv")]}

    bucket.put("a/x.csv", b"x")
    assert [obj.key for obj in Bucket(MarkingClient(), bucket.name).list("a/")] == ["a/empty.csv"]


def test_a_listing_goes_on_after_its_first_thousand(bucket: Bucket) -> None:
    keys = [f"many/{number:04}.csv" for number in range(1100)]
    for key in keys:
        bucket.put(key, b"x")
    assert [obj.key for obj in bucket.list("many/")] == keys


@pytest.mark.parametrize("size", [0, 1, 100_000, 20_000_000])
def test_what_is_put_is_read_again(bucket: Bucket, size: int) -> None:
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    stream = io.BytesIO(data)
    bucket.put("a", data)
    bucket.put("b", stream, content_type="text/csv")
    assert not stream.closed
    assert bucket.get("a") == bucket.get("b") == data
    with bucket.open(version(bucket, "b")) as body:
        assert body.read(10) == data[:10]
        assert body.read() == data[10:]
        assert body.read() == b""


def test_the_content_type_is_kept(bucket: Bucket, s3_client: Any) -> None:
    bucket.put("a.html", b"<p>", content_type="text/html; charset=utf-8")
    assert s3_client.head_object(Bucket=bucket.name, Key="a.html")["ContentType"].startswith("text/html")


def test_whether_a_key_exists(bucket: Bucket) -> None:
    bucket.put("there", b"x")
    assert bucket.exists("there")
    assert not bucket.exists("not there")
    assert bucket.url("there") == f"s3://{bucket.name}/there"


def test_the_same_bytes_are_not_written_again(bucket: Bucket) -> None:
    assert bucket.put_if_changed("a", b"one") is True
    first = version(bucket, "a")
    assert bucket.put_if_changed("a", io.BytesIO(b"one")) is False
    assert version(bucket, "a") == first
    for data in (b"two", b"longer", b""):
        assert bucket.put_if_changed("a", data) is True
        assert bucket.get("a") == data


def test_a_digest_that_is_none_is_not_believed(bucket: Bucket, s3_client: Any) -> None:
    class PartsClient:
        """S3 where an ETag is no digest of the content, as after an upload in parts."""

        def __getattr__(self, name: str) -> Any:
            return getattr(s3_client, name)

        def head_object(self, **request: Any) -> dict[str, Any]:
            return {**s3_client.head_object(**request), "ETag": '"5b9cc1b4a9c0f1b6a831c399e269772661-3"'}

    parts = Bucket(PartsClient(), bucket.name)
    assert parts.put_if_changed("a", b"one") is True
    assert parts.put_if_changed("a", b"one") is False
    assert parts.put_if_changed("a", b"two") is True


def test_an_object_that_was_rewritten_since_it_was_listed_is_not_read(bucket: Bucket) -> None:
    bucket.put("a", b"before")
    listed = version(bucket, "a")
    bucket.put("a", b"after!")
    with pytest.raises(ObjectChanged, match="expected the listed version"):
        bucket.open(listed)
    assert issubclass(ObjectChanged, Transient)


def test_what_is_missing_is_said_plainly(bucket: Bucket, s3_settings: Settings) -> None:
    gone = ObjectVersion(bucket=bucket.name, key="gone", etag="0", size=1, last_modified=datetime.now(UTC))
    for read in (lambda: bucket.open(gone), lambda: bucket.get("gone")):
        with pytest.raises(ObjectMissing, match="gone"):
            read()
    nowhere = connect(replace(s3_settings, bucket="no-such-bucket"))
    with pytest.raises(ObjectMissing, match="existing bucket"):
        list(nowhere.list(""))


@pytest.mark.parametrize("wrong", [{"s3_secret_access_key": "w" * 32}, {"s3_access_key_id": "unknown-key-id-000"}])
def test_refused_credentials_are_named(s3_settings: Settings, wrong: dict[str, str]) -> None:
    with pytest.raises(Permanent, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or Airflow's connection reviews_s3"):
        list(connect(replace(s3_settings, **wrong)).list(""))


def test_no_credentials_at_all_are_named(s3_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(Permanent, match="check the credentials"):
        list(connect(replace(s3_settings, s3_access_key_id=None, s3_secret_access_key=None)).list(""))


def test_a_server_that_is_away_is_worth_another_try(s3_settings: Settings) -> None:
    with pytest.raises(Transient, match="is the server up"):
        list(connect(replace(s3_settings, s3_endpoint_url=f"http://127.0.0.1:{free_port()}")).list(""))


def test_an_address_that_is_none_is_named(s3_settings: Settings) -> None:
    with pytest.raises(Permanent, match=r"not an address.*AWS_ENDPOINT_URL_S3"):
        connect(replace(s3_settings, s3_endpoint_url="not an address"))


class _Breaking(BaseHTTPRequestHandler):
    """Promises a hundred bytes; what comes is up to the key."""

    def do_GET(self) -> None:
        status = 503 if "busy" in self.path else 200
        self.send_response(status)
        self.send_header("ETag", '"abc"')
        self.send_header("Content-Length", "100" if status == 200 else "0")
        self.end_headers()
        if status == 200:
            self.wfile.write(b"x" * 40)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def breaking_bucket(s3_settings: Settings) -> Iterator[Bucket]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Breaking) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield connect(replace(s3_settings, s3_endpoint_url=f"http://127.0.0.1:{server.server_address[1]}"))
        server.shutdown()
        thread.join()


def test_a_body_that_ends_early_is_worth_another_try(breaking_bucket: Bucket) -> None:
    listed = ObjectVersion(bucket="b", key="short", etag="abc", size=100, last_modified=datetime.now(UTC))
    with breaking_bucket.open(listed) as body, pytest.raises(Transient):
        body.read()
    with pytest.raises(Transient):
        breaking_bucket.get("short")


def test_a_busy_server_is_worth_another_try(breaking_bucket: Bucket) -> None:
    with pytest.raises(Transient, match="503"):
        breaking_bucket.get("busy")


def test_a_body_is_counted_even_where_the_client_does_not() -> None:
    class Client:
        def get_object(self, **_: Any) -> dict[str, Any]:
            return {"ETag": '"abc"', "ContentLength": 100, "Body": io.BytesIO(b"x" * 40)}

    listed = ObjectVersion(bucket="b", key="a", etag="abc", size=100, last_modified=datetime.now(UTC))
    with Bucket(Client(), "b").open(listed) as body, pytest.raises(Transient, match="expected 100 bytes, found 40"):
        body.read()

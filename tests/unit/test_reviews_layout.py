"""Keys of the bucket."""

from datetime import date

import pytest

from sentiment_core.errors import Permanent
from sentiment_core.reviews.layout import folder_date_of, incoming_prefix, is_review_key, labels_prefix, quarantine_key

DAY = date(2026, 11, 1)


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "A.CSV", "shop/de/part-0.c000.parquet"]
)
def test_files_of_every_format_hold_reviews(name: str) -> None:
    assert is_review_key(name)
    assert is_review_key(incoming_prefix(DAY) + name)


@pytest.mark.parametrize(
    "name", ["_SUCCESS", ".part-0.parquet.crc", "_temporary/0/part-0.parquet", ".a.csv", "a.json", "a.gz", "csv", ""]
)
def test_what_writers_leave_beside_their_files_does_not(name: str) -> None:
    assert not is_review_key(incoming_prefix(DAY) + name)


@pytest.mark.parametrize("key", [incoming_prefix(DAY) + "a.csv", labels_prefix(DAY) + "x/y.csv", "date=2026-11-01/a"])
def test_the_date_of_a_folder_is_read_from_the_key(key: str) -> None:
    assert folder_date_of(key) == DAY


@pytest.mark.parametrize(
    "key", ["incoming/a.csv", "incoming/date=2026-13-01/a.csv", "incoming/update=2026-11-01/a.csv", "incoming/date=2026-11-01"]
)
def test_a_key_without_a_date_says_where_it_belongs(key: str) -> None:
    with pytest.raises(Permanent, match="date=YYYY-MM-DD"):
        folder_date_of(key)


def test_rejected_rows_of_different_objects_and_versions_lie_apart() -> None:
    keys = [
        quarantine_key(prefix(DAY) + name, etag)
        for prefix in (incoming_prefix, labels_prefix)
        for name in ("a.csv", "b/a.csv")
        for etag in ("0" * 32, "1" * 32)
    ]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("quarantine/date=2026-11-01/") and key.endswith(".jsonl") for key in keys)

"""The keys of the bucket: which folder holds what, and how a name is built or taken apart.

No client and no bytes of objects; what is inside them is the business of `formats`.
"""

import re
from datetime import date

from sentiment_core.errors import Permanent

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz")
_FOLDER_DATE = re.compile(r"(?:^|/)date=([0-9]{4}-[0-9]{2}-[0-9]{2})/")


def incoming_prefix(day: date) -> str:
    """Where a day's reviews are delivered.

    >>> incoming_prefix(date(2026, 11, 1))
    'incoming/date=2026-11-01/'
    """
    return f"incoming/date={day.isoformat()}/"


def labels_prefix(day: date) -> str:
    """Where a day's late labels are delivered."""
    return f"labels/date={day.isoformat()}/"


def report_key(day: date, check_id: int) -> str:
    """Where the HTML report of a drift check lies."""
    return f"reports/date={day.isoformat()}/check-{check_id}.html"


def snapshot_key(digest: str) -> str:
    """Where the training set whose bytes have this SHA-256 lies."""
    return f"snapshots/{digest}.parquet"


# What is kept for people and may be forgotten; incoming/ and labels/ are their senders'.
REPORTS, SNAPSHOTS, QUARANTINE = "reports/", "snapshots/", "quarantine/"


def quarantine_key(key: str, etag: str) -> str:
    """Where the rejected rows of an object version lie: the same version always at the same place.

    >>> quarantine_key("incoming/date=2026-11-01/shop/a.csv", "0cc175b9c0f1b6a831c399e269772661")
    'quarantine/date=2026-11-01/incoming/shop/a.csv.0cc175b9c0f1b6a8.jsonl'
    """
    top, _, name = key.partition(f"date={folder_date_of(key).isoformat()}/")
    return f"quarantine/date={folder_date_of(key).isoformat()}/{top}{name}.{etag[:16]}.jsonl"


def folder_date_of(key: str) -> date:
    """The date of the folder an object lies in; raises Permanent when there is none.

    >>> folder_date_of("incoming/date=2026-11-01/shop/a.csv")
    datetime.date(2026, 11, 1)
    """
    match = _FOLDER_DATE.search(key)
    try:
        return date.fromisoformat(match[1] if match else "")
    except ValueError:
        raise Permanent(
            f"object {key}",
            expected="a folder date=YYYY-MM-DD in its key",
            found=match[1] if match else "none",
            remedy="move it to incoming/date=YYYY-MM-DD/ or labels/date=YYYY-MM-DD/",
        ) from None


def suffix_of(key: str) -> str | None:
    """Which of SUFFIXES a key ends in, whatever the case."""
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if key.lower().endswith(suffix)), None)


def is_review_key(key: str) -> bool:
    """True for keys that hold rows: a known format, and no part that writers mark as theirs by `_` or `.`.

    >>> is_review_key("incoming/date=2026-11-01/a.csv.gz"), is_review_key("incoming/date=2026-11-01/_SUCCESS")
    (True, False)
    >>> is_review_key("incoming/date=2026-11-01/_temporary/0/part-0.parquet")
    False
    """
    return suffix_of(key) is not None and not any(part.startswith(("_", ".")) for part in key.split("/"))

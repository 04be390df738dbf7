"""An object of reviews into validated batches, and rejects into the lines that quarantine/ keeps.

Where the bytes come from does not matter: S3, a file, a pipe.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import date
from typing import BinaryIO

from sentiment_core.domain import Reject, ReviewBatch
from sentiment_core.policy import Reading
from sentiment_core.reviews.formats import read_rows
from sentiment_core.reviews.rows import BLOCK_BYTES, Request, UnreadableObject
from sentiment_core.reviews.validate import REVIEW_COLUMNS, validate_reviews

__all__ = ["UnreadableObject", "read_reviews", "reject_lines"]


def read_reviews(
    stream: BinaryIO, key: str, *, folder_date: date, limits: Reading, block_bytes: int = BLOCK_BYTES
) -> Iterator[ReviewBatch]:
    """The object's rows in order, each either valid or a reject; memory does not grow with the object.

    The key's ending says the format. Raises UnreadableObject, perhaps after some batches: then the object counts as a
    whole as unread. `n_ignored_columns` is what is known so far; the last batch has the object's.
    """
    request = Request(key=key, columns=REVIEW_COLUMNS, limits=limits, block_bytes=block_bytes)
    for rows in read_rows(stream, request):
        yield validate_reviews(rows, folder_date=folder_date, limits=limits)


def reject_lines(key: str, rejects: Iterable[Reject]) -> bytes:
    """Rejects of an object as JSON lines: key, row_number, review_id, reason, raw."""
    return b"".join(json.dumps({"key": key, **asdict(reject)}, ensure_ascii=False).encode() + b"\n" for reject in rejects)

"""Which rows are reviews: the rules of the contract over whole columns, and what to say of a row that breaks them.

Rows that hold the same identity twice are no business of this module: publishing lets the last one win.
"""

from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import schema
from sentiment_core.domain import ReviewBatch
from sentiment_core.policy import Reading
from sentiment_core.reviews.columns import Findings, ratings, string_buffers, strings, times
from sentiment_core.reviews.rows import Column, RawRows, shown

Places = npt.NDArray[np.int64]
_BLANK, _DELETE = 0x20, 0x7F
REVIEW_COLUMNS = (
    Column(name="review_id", kind="identifier", is_required=True),
    Column(name="text", kind="text", is_required=True),
    Column(name="product_id", kind="identifier"),
    Column(name="source", kind="identifier"),
    Column(name="created_at", kind="time"),
    Column(name="rating", kind="rating"),
    Column(name="language", kind="identifier"),
)


def validate_reviews(rows: RawRows, *, folder_date: date, limits: Reading) -> ReviewBatch:
    """The valid rows in order, and the others as rejects with every rule they break."""
    findings = Findings()
    columns = {
        "row_number": pa.array(rows.numbers, pa.int64()),
        "review_id": checked_ids(rows, findings, limits),
        "text": checked_texts(rows, findings, limits),
        "created_at": times(rows, "created_at", findings),
        "rating": ratings(rows, "rating", findings),
        **{name: _checked_words(rows, name, findings, limits) for name in ("product_id", "source", "language")},
    }
    columns["review_date"] = _review_dates(columns["created_at"], findings, folder_date, limits)
    if findings.by_row:
        is_good = findings.is_good(len(rows.numbers))
        columns = {name: array.filter(is_good) for name, array in columns.items()}
    table = pa.Table.from_arrays(
        [columns[field.name].cast(field.type) for field in schema.REVIEW_BATCH], schema=schema.REVIEW_BATCH
    )
    return ReviewBatch(table=table, rejects=findings.rejects(rows, limits), n_ignored_columns=rows.n_ignored_columns)


def checked_ids(rows: RawRows, findings: Findings, limits: Reading) -> pa.Array:
    """The column review_id: present, printable and of a length that an index can hold."""
    every = strings(rows, "review_id", findings)
    places = suspects(every, max_bytes=limits.max_id_chars, is_one_word=True)
    ids = every.take(places)
    expected = f"expected 1 to {limits.max_id_chars} characters, found"
    findings.note(pc.is_null(ids), "review_id", f"{expected} none", places)
    findings.note(_is_blank(ids), "review_id", f"{expected} only blanks or none", places)
    lengths = pc.utf8_length(ids)
    is_long = pc.greater(lengths, limits.max_id_chars)
    findings.note(is_long, "review_id", lambda index: f"{expected} {lengths[index].as_py():,}", places)
    has_control = pc.match_substring_regex(ids, r"\p{Cc}")
    found = "expected no control characters, found"
    findings.note(has_control, "review_id", lambda index: f"{found} {shown(ids[index].as_py())}", places)
    return every


def checked_texts(rows: RawRows, findings: Findings, limits: Reading) -> pa.Array:
    """The column text: present, not blank, of a length that was meant, and storable."""
    every = strings(rows, "text", findings)
    places = suspects(every, max_bytes=limits.max_text_chars)
    texts = every.take(places)
    expected = f"expected 1 to {limits.max_text_chars:,} characters, found"
    findings.note(pc.is_null(texts), "text", f"{expected} none", places)
    findings.note(_is_blank(texts), "text", f"{expected} only blanks or none", places)
    lengths = pc.utf8_length(texts)
    is_long = pc.greater(lengths, limits.max_text_chars)
    findings.note(is_long, "text", lambda index: f"{expected} {lengths[index].as_py():,}", places)
    _note_nul(texts, "text", findings, places)
    return every


def _checked_words(rows: RawRows, name: str, findings: Findings, limits: Reading) -> pa.Array:
    """An optional short column; empty is null."""
    every = strings(rows, name, findings)
    if every.null_count == len(every):
        return every
    places = suspects(every, max_bytes=limits.max_id_chars)
    words = every.take(places)
    lengths = pc.utf8_length(words)
    expected = f"expected at most {limits.max_id_chars} characters, found"
    is_long = pc.greater(lengths, limits.max_id_chars)
    findings.note(is_long, name, lambda index: f"{expected} {lengths[index].as_py():,}", places)
    _note_nul(words, name, findings, places)
    return pc.if_else(pc.equal(every, ""), None, every) if len(places) else every


def suspects(array: pa.LargeStringArray, *, max_bytes: int, is_one_word: bool = False) -> Places:
    r"""The places that have to be looked at: everywhere else is a string of 1 to `max_bytes` bytes that no rule objects to.

    A few passes over the bytes find that there are none. Certainly good is what begins with a printing ASCII character
    and has no NUL in it; with `is_one_word`, what has only printing ASCII characters.

    >>> suspects(pa.array(["good", None, "", " ", "bad\0", "\u00e9", "long" * 9], pa.large_string()), max_bytes=8).tolist()
    [1, 2, 3, 4, 5, 6]
    """
    offsets, data = string_buffers(array)
    lengths = np.diff(offsets)
    is_suspect = (lengths == 0) | (lengths > max_bytes)
    firsts = data[np.minimum(offsets[:-1], len(data) - 1)] if len(data) else np.zeros(len(array), np.uint8)
    is_suspect |= (firsts <= _BLANK) | (firsts >= _DELETE)
    if is_one_word and len(data) and (data.min() <= _BLANK or data.max() >= _DELETE):
        is_suspect |= _rows_with((data <= _BLANK) | (data >= _DELETE), offsets)
    elif len(data) and data.min() == 0:
        is_suspect |= _rows_with(data == 0, offsets)
    if array.null_count:
        is_suspect |= array.is_null().to_numpy(zero_copy_only=False)
    return np.flatnonzero(is_suspect)


def _rows_with(is_marked: npt.NDArray[np.bool_], offsets: Places) -> npt.NDArray[np.bool_]:
    rows = np.searchsorted(offsets, np.flatnonzero(is_marked), side="right") - 1
    return np.bincount(rows, minlength=len(offsets) - 1).astype(np.bool_)


def _review_dates(created_at: pa.Array, findings: Findings, folder_date: date, limits: Reading) -> pa.Array:
    """UTC dates; a time far from its folder is not believed, or one typing error would make a partition of its own."""
    dates = created_at.cast(pa.date32())
    first, last = _moved(folder_date, -limits.created_days_before), _moved(folder_date, 1)
    is_outside = pc.or_(pc.less(dates, pa.scalar(first)), pc.greater(dates, pa.scalar(last)))
    expected = f"expected a time from {first} to {last} (UTC) in the folder of {folder_date}, found"
    findings.note(is_outside, "created_at", lambda index: f"{expected} {created_at[index].as_py().isoformat()}")
    return pc.fill_null(dates, pa.scalar(folder_date))


def _moved(day: date, n_days: int) -> date:
    """The day so many days away, or the calendar's first or last.

    >>> _moved(date(9999, 12, 31), 1), _moved(date(2026, 11, 1), -7)
    (datetime.date(9999, 12, 31), datetime.date(2026, 10, 25))
    """
    return date.fromordinal(min(max(day.toordinal() + n_days, date.min.toordinal()), date.max.toordinal()))


def _is_blank(array: pa.Array) -> pa.Array:
    return pc.or_(pc.equal(pc.binary_length(array), 0), pc.utf8_is_space(array))


def _note_nul(array: pa.Array, name: str, findings: Findings, places: Places) -> None:
    # PostgreSQL's text cannot hold it.
    findings.note(pc.match_substring(array, "\0"), name, "expected no NUL characters, found some", places)

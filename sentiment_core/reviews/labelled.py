"""Files of labelled reviews, as a person hands them in to train from or to measure on.

What a column of labels means is decided here, by all of its values: a scale that does not fit is refused, never
guessed. Formats and the rules of a text are those of a night. Which rows train and which measure is no business of
this module.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from sentiment_core import schema
from sentiment_core.domain import LABELS
from sentiment_core.errors import Permanent
from sentiment_core.policy import Reading
from sentiment_core.reviews.columns import Findings, strings, times, value_at
from sentiment_core.reviews.formats import read_rows
from sentiment_core.reviews.rows import Column, RawRows, Request, UnreadableObject, shown
from sentiment_core.reviews.validate import checked_texts

LABEL_COLUMNS = ("label", "positive", "rating")
"""Where labels are looked for when no column is named: the first that has any."""
_STARS = "rating"
_WORDS = {name: name for name in LABELS}
_YES_NO = {"0": "negative", "1": "positive", "false": "negative", "true": "positive"}
_OF_STARS = {"1": "negative", "2": "negative", "3": "neutral", "4": "positive", "5": "positive"}
_EXPECTED = "negative, neutral and positive, or 0 and 1, or false and true, or in a column named rating stars from 1 to 5"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a person says of the columns."""

    text: str = "text"
    label: str | None = None
    """None: the first of LABEL_COLUMNS that holds labels."""
    product: str | None = None
    """None: product_id, where there is one."""


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """The rows of a file that have a text and a label."""

    table: pa.Table
    """Columns of `schema.SNAPSHOT`, all of them standing; stars become labels, three of them neutral."""
    has_neutral: bool
    """Somebody said neutral. Three stars are no such label: to a model of two classes they are positive."""
    n_unlabelled: int
    n_rejected: int
    """Rows without a text that can be read."""
    first_reason: str | None
    """Why the first of these was rejected."""


def read_labelled(stream: BinaryIO, name: str, columns: Columns, limits: Reading) -> LabelledFile:
    """The labelled rows of a file, in order; the ending of its name says the format.

    Raises:
        Permanent: not readable, a column is missing, or the labels are on a scale that is not known.
    """
    try:
        batches = list(_read(stream, name, columns, limits))
    except UnreadableObject as error:
        raise Permanent(
            name, expected=error.expected, found=error.found, remedy="correct the file, or name its columns: see --help"
        ) from error
    label = _label_column(batches, name, columns)
    meaning = _meaning(_values(batches, label), f"column {label} of {name}", is_stars=label.lower() == _STARS)
    parts = [_labelled(batch, label, meaning, name, limits) for batch in batches]
    table = pa.concat_tables([part for part, _ in parts])
    reasons = [reason for _, found in parts for reason in found]
    is_labelled = table["label"].is_valid()
    return LabelledFile(
        table=table.filter(is_labelled).cast(schema.SNAPSHOT),
        has_neutral="neutral" in meaning,
        n_unlabelled=len(table) - (pc.sum(is_labelled).as_py() or 0),
        n_rejected=len(reasons),
        first_reason=reasons[0] if reasons else None,
    )


def read_perhaps_labelled(stream: BinaryIO, name: str, limits: Reading) -> Iterator[tuple[str | None, pa.Table]]:
    """The rows of a file that have a text, batch by batch, labelled or not; with the name of the column of labels.

    Columns of `schema.SNAPSHOT`; label holds the words as they were written, null where there is none. What they mean
    is known when all have been seen: `scale_of`.

    Raises:
        Permanent: not readable, or without a column text.
    """
    request = Request(key=name, columns=_wanted(Columns(), LABEL_COLUMNS), limits=limits)
    label = None
    try:
        for rows in read_rows(stream, request):
            label = label or next((column for column in LABEL_COLUMNS if _has_values([rows], column)), None)
            words = {word: word for word in _values([rows], label)} if label else {}
            yield label, _labelled(rows, label or LABEL_COLUMNS[0], words, name, limits)[0]
    except UnreadableObject as error:
        raise Permanent(
            name, expected=error.expected, found=error.found, remedy="correct the file; reviews have a column text"
        ) from error


def scale_of(words: Iterable[str], label: str | None) -> dict[str, str]:
    """What the words of a column of labels mean; nothing where they are of no scale that is known.

    >>> scale_of(["0", "1"], "positive"), scale_of(["7", "10"], "rating")
    ({'0': 'negative', '1': 'positive'}, {})
    """
    try:
        return _meaning(dict.fromkeys(sorted(words)), f"column {label}", is_stars=(label or "").lower() == _STARS)
    except Permanent:
        return {}


def _read(stream: BinaryIO, name: str, columns: Columns, limits: Reading) -> Iterator[RawRows]:
    asked = (columns.label,) if columns.label else LABEL_COLUMNS
    request = Request(key=name, columns=_wanted(columns, asked), limits=limits, any_of=asked)
    for rows in read_rows(stream, request):
        found = dict(rows.columns)
        if columns.text in found:
            found["text"] = found[columns.text]
        if columns.product and columns.product in found:
            found["product_id"] = found[columns.product]
        yield replace(rows, columns=found)


def _wanted(columns: Columns, labels: Sequence[str]) -> tuple[Column, ...]:
    """What to take out of the file; a column that is asked for under two names is taken as what comes first here."""
    wanted = [
        Column(name=columns.text, kind="text", is_required=True),
        *(Column(name=label, kind="label") for label in labels),
        Column(name=columns.product or "product_id", kind="identifier", is_required=columns.product is not None),
        *(Column(name=name, kind="identifier") for name in ("review_id", "source")),
        Column(name="labelled_at", kind="time"),
    ]
    return tuple({column.name: column for column in reversed(wanted)}.values())


def _label_column(batches: Sequence[RawRows], name: str, columns: Columns) -> str:
    """The column of labels. JSON lines name no columns, so that only values tell whether there is one."""
    asked = (columns.label,) if columns.label else LABEL_COLUMNS
    needed = [((columns.text,), "--text-column"), (asked, "--label-column")]
    for names, option in [*needed, *([((columns.product,), "--product-column")] if columns.product else [])]:
        if not any(_has_values(batches, column) for column in names):
            raise Permanent(
                name,
                expected=f"values in a column {' or '.join(names)}",
                found="no such column, or nothing in it",
                remedy=f"name the column with {option}",
            )
    return next(label for label in asked if _has_values(batches, label))


def _has_values(batches: Iterable[RawRows], column: str) -> bool:
    return any(rows.column(column).null_count < len(rows.numbers) for rows in batches)


def _values(batches: Iterable[RawRows], label: str) -> dict[str, Any]:
    """The distinct labels as words, each with how it was written first."""
    values: dict[str, Any] = {}
    for rows in batches:
        for place in range(len(unique := pc.unique(rows.column(label)))):
            value = _text(value_at(unique, place))
            if (word := _word(value)) is not None:
                values.setdefault(word, value)
    return values


def _word(value: Any) -> str | None:
    """How a label is spelt when case, blanks, and the type a file gave it are left aside; None for no label.

    >>> [_word(value) for value in (True, 1, 1.0, " 1.0", b"Positive", "", None, float("nan"))]
    ['true', '1', '1', '1', 'positive', None, None, None]
    """
    value = _text(value)
    if value is None or value != value:  # noqa: PLR0124  # NaN is how pandas writes that there is none
        return None
    word = str(value).strip().lower()
    return word.removesuffix(".0") or None


def _text(value: Any) -> Any:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _meaning(values: dict[str, Any], thing: str, *, is_stars: bool) -> dict[str, str]:
    """What the words of a column mean, when all of them are of one scale; raises Permanent when they are not."""
    for scale in (_WORDS, _OF_STARS if is_stars else _YES_NO):
        if values.keys() <= scale.keys():
            return {word: scale[word] for word in values}
    odd = [value for word, value in values.items() if word not in (_OF_STARS if is_stars else _YES_NO) | _WORDS]
    raise Permanent(
        thing,
        expected=_EXPECTED,
        found=", ".join(shown(value) for value in (odd or list(values.values()))[:5]),
        remedy="name another column with --label-column, or convert the labels: no other scale is guessed",
    )


def _labelled(rows: RawRows, label: str, meaning: dict[str, str], name: str, limits: Reading) -> tuple[pa.Table, list[str]]:
    """The rows that can be read, with null where there is no label; and why each of the others cannot."""
    findings = Findings()
    n_rows = len(rows.numbers)
    stem = PurePath(name).name.partition(".")[0]
    numbered = pa.array([f"{stem}-{number}" for number in rows.numbers.tolist()], pa.large_string())
    columns = {
        "review_id": pc.coalesce(_identifiers(rows, "review_id", findings), numbered),
        "product_id": _identifiers(rows, "product_id", findings),
        "source": _identifiers(rows, "source", findings),
        "text": checked_texts(rows, findings, limits),
        "label": _labels(rows.column(label), meaning),
        "origin": pa.array(["standing"] * n_rows, pa.string()),
        "labelled_at": times(rows, "labelled_at", findings),
    }
    arrays = [columns[field.name].cast(field.type) for field in schema.SNAPSHOT]
    table = pa.Table.from_arrays(arrays, names=schema.SNAPSHOT.names)
    return table.filter(findings.is_good(n_rows)), [reject.reason for reject in findings.rejects(rows, limits)]


def _identifiers(rows: RawRows, name: str, findings: Findings) -> pa.Array:
    array = strings(rows, name, findings)
    return pc.if_else(pc.equal(array, ""), None, array)


def _labels(column: pa.Array, meaning: dict[str, str]) -> pa.Array:
    encoded = column.dictionary_encode()
    words = [_word(value_at(encoded.dictionary, place)) for place in range(len(encoded.dictionary))]
    return pa.array([meaning.get(word or "") for word in words], pa.string()).take(encoded.indices)

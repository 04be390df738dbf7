"""Back to an object for the texts of some of its rows: PostgreSQL keeps only excerpts, training needs the whole."""

from collections.abc import Sequence

from sentiment_core.domain import ObjectVersion
from sentiment_core.policy import Reading
from sentiment_core.reviews.bucket import Bucket
from sentiment_core.reviews.columns import Findings, strings
from sentiment_core.reviews.formats import read_rows
from sentiment_core.reviews.rows import Column, Request

_TEXT = (Column(name="text", kind="text", is_required=True),)


def texts_of(bucket: Bucket, obj: ObjectVersion, row_numbers: Sequence[int], limits: Reading) -> dict[int, str]:
    """By row number the texts of exactly this version of an object; rows without a text are left out.

    Reads no further than the last row asked for. Raises ObjectChanged when another version is there by now.
    """
    texts: dict[int, str] = {}
    if not row_numbers:
        return texts
    wanted, last = set(row_numbers), max(row_numbers)
    with bucket.open(obj) as stream:
        for rows in read_rows(stream, Request(key=obj.key, columns=_TEXT, limits=limits)):
            column = strings(rows, "text", Findings())
            places = [place for place, number in enumerate(rows.numbers.tolist()) if number in wanted]
            for place, text in zip(places, column.take(places).to_pylist() if places else (), strict=True):
                if text is not None:
                    texts[int(rows.numbers[place])] = text
            if len(rows.numbers) and rows.numbers[-1] >= last:
                break
    return texts

"""Clean comma-separated values a block at a time, by Arrow's reader: five times as fast as a field at a time.

All or nothing: a block whose quotes stand anywhere but around whole fields, or whose rows differ in their number of
columns, is given back unread, to be taken apart by `delimited`. No reject is made here.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pc_csv

from sentiment_core.reviews.rows import Request

_QUOTE, _COMMA, _RETURN, _NEWLINE = b'",\r\n'
Places = npt.NDArray[np.int64]


def parse_records(
    block: bytes, n_columns: int, places: dict[str, int], request: Request
) -> tuple[dict[str, pa.Array], int] | None:
    """The asked columns of the whole records at the beginning of a block, and where the first that is not whole starts.

    None where the records have to be read one by one. The block starts where a record does.
    """
    data = np.frombuffer(block, np.uint8)
    ends = _record_ends(data, has_returns=b"\r" in block)
    if ends is None or np.diff(ends, prepend=-1).max() > request.max_row_bytes:
        return None
    size = int(ends[-1]) + 1
    try:
        table = _parse(pa.py_buffer(block).slice(0, size), n_columns, places)
    except pa.ArrowException:
        return None
    # Blank lines are no rows to Arrow either, but in a file of one column it takes "" for one.
    if table.num_rows != _n_records(data, ends):
        return None
    return {name: pa.concat_arrays(table[str(place)].chunks) for name, place in places.items()}, size


def _record_ends(data: npt.NDArray[np.uint8], *, has_returns: bool) -> Places | None:
    """Where the line breaks outside quotes are; None where a quote is out of place, or no record whole."""
    breaks, quotes = np.flatnonzero(data == _NEWLINE), np.flatnonzero(data == _QUOTE)
    breaks = breaks[_is_outside(quotes, breaks)]
    if not len(breaks):
        return None
    quotes = quotes[: np.searchsorted(quotes, breaks[-1])]
    if has_returns:
        returns = np.flatnonzero(data[: breaks[-1]] == _RETURN)
        returns = returns[_is_outside(quotes, returns)]
        # Arrow takes a bare one for the end of a line.
        if not (data[returns + 1] == _NEWLINE).all():
            return None
    return breaks if _are_around_fields(data, quotes) else None


def _is_outside(quotes: Places, places: Places) -> npt.NDArray[np.bool_]:
    """Whether an even number of quotes stands before each place."""
    is_outside: npt.NDArray[np.bool_] = np.searchsorted(quotes, places) % 2 == 0
    return is_outside


def _are_around_fields(data: npt.NDArray[np.uint8], quotes: Places) -> bool:
    """Whether every odd quote opens a field, and every even one closes it; one of a doubled pair does either."""
    opening, closing = quotes[0::2], quotes[1::2]
    # The last byte of the block stands for what is before the first: data[-1] is not looked at where opening is 0.
    before, after = data[opening - 1], data[closing + 1]
    is_opening = (opening == 0) | (before == _COMMA) | (before == _NEWLINE)
    is_doubled = opening[1:] == closing[:-1] + 1
    is_opening[1:] |= is_doubled
    is_closing = (after == _COMMA) | (after == _NEWLINE) | (after == _RETURN)
    is_closing[:-1] |= is_doubled
    return bool(is_opening.all() and is_closing.all())


def _n_records(data: npt.NDArray[np.uint8], ends: Places) -> int:
    """Records that are not blank: neither empty nor one empty field in quotes."""
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts
    lengths -= (lengths > 0) & (data[ends - 1] == _RETURN)
    is_blank = (lengths == 0) | ((lengths == len('""')) & (data[starts] == _QUOTE))
    return len(ends) - int(np.count_nonzero(is_blank))


def _parse(block: pa.Buffer, n_columns: int, places: dict[str, int]) -> pa.Table:
    asked = {str(place): pa.large_binary() for place in places.values()}
    return pc_csv.read_csv(
        pa.BufferReader(block),
        read_options=pc_csv.ReadOptions(
            use_threads=False, block_size=block.size + 1, column_names=[str(place) for place in range(n_columns)]
        ),
        parse_options=pc_csv.ParseOptions(newlines_in_values=True),
        convert_options=pc_csv.ConvertOptions(column_types=asked, include_columns=list(asked), strings_can_be_null=False),
    )

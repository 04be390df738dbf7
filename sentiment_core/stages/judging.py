"""A file judged by itself, as if it were a night: scored into a bounded sample, measured, and told in one verdict.

Nothing is set off and nothing is written down but the report that was asked for. How a night is judged is the business
of `drift`; how nights in a row are, of `rehearsing`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from sentiment_core.errors import Permanent
from sentiment_core.stages.services import Services

if TYPE_CHECKING:
    import pyarrow as pa

    from sentiment_core.domain import DriftVerdict, ReviewBatch
    from sentiment_core.drift.history import Night

Tell = Callable[[str], None]
_NO_DAY = date(1970, 1, 1)


def open_model(services: Services, model: str) -> Any:
    """A registered version by its name, ready to score."""
    return services.registry.open(services.registry.resolve(model))


def judge_file(services: Services, path: Path, *, model: str, report_dir: Path | None, tell: Tell) -> dict[str, Any]:
    """The verdict on a file by itself: file, n, verdict, p_value, effect, estimated_accuracy, labelled_accuracy, columns, sentence, ..."""
    from sentiment_core.drift.history import Night
    from sentiment_core.drift.rehearsal import labels_of

    opened = open_model(services, model)
    rows, n = read_rows(services, opened, path, tell)
    night = Night(rows=rows, n=n, labels=labels_of(rows))
    tell(f"judging {path.name}")
    target = None if report_dir is None else report_dir / f"{path.name}.html"
    if target is None:
        verdict = _judge(services, opened, night)
    else:
        verdict = _report(services, opened, night, title=f"Drift check of {path.name}", target=target)
    return {
        "file": str(path),
        "model_version": opened.ref.version,
        **vars(verdict),
        "report": str(target) if target else None,
    }


def _judge(services: Services, model: Any, night: "Night") -> "DriftVerdict":
    """The verdict without a report: the same checks, evaluated directly."""
    from sentiment_core.drift.checks import checks, failures
    from sentiment_core.drift.history import History
    from sentiment_core.drift.measure import measure
    from sentiment_core.drift.verdict import conclude

    limits = services.policy.drift
    measured = measure(model.reference, night, history=History(), limits=limits)
    return conclude(measured, failures(checks(measured, limits)), limits)


def _report(services: Services, model: Any, night: "Night", *, title: str, target: Path) -> "DriftVerdict":
    from sentiment_core.drift.history import History
    from sentiment_core.reports import judge

    judged = judge(
        model.reference, night, history=History(), limits=services.policy.drift, title=title, model_version=model.ref.version
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(judged.page)
    except OSError as error:
        raise Permanent(str(target), expected="a place to write to", found=str(error), remedy="name another folder") from error
    return judged.verdict


def read_rows(services: Services, model: Any, path: Path, tell: Tell) -> tuple["pa.Table", int]:
    """A file scored by a model: a bounded sample of its rows with the drift columns and `true_label`, and how many there are."""
    import pyarrow as pa

    from sentiment_core.drift.rehearsal import TRUE_LABEL
    from sentiment_core.drift.sketch import Sketcher
    from sentiment_core.reviews.labelled import read_perhaps_labelled, scale_of
    from sentiment_core.scoring import score

    sketcher = Sketcher(services.policy.drift.sample_rows, lens=model.lens.examine if model.lens else None)
    words: list[pa.Array] = []
    label_column, n_rows = None, 0
    with _opened(path) as stream:
        for column, table in read_perhaps_labelled(stream, str(path), services.policy.reading):
            scored = score(model.estimator, model.ref, _as_batch(table, first=n_rows), text_excerpt=0, with_texts=True)
            sketcher.add(scored.table, scored.texts)
            words += table["label"].dictionary_encode().chunks
            label_column, n_rows = column, n_rows + len(table)
            tell(f"{path.name}: {n_rows:,} reviews")
    sketch = sketcher.sketches().get(_NO_DAY)
    if sketch is None:
        return _no_rows(), 0
    said = pa.chunked_array(words).unify_dictionaries()
    scale = scale_of(said.unique().drop_null().cast(pa.string()).to_pylist(), label_column)
    rows = sketch.sample
    labels = said.take(rows["row_number"]).cast(pa.string()).to_pylist()
    classes = model.estimator.classes_.tolist()
    known = [_folded(scale.get(label or ""), classes) for label in labels]
    return rows.append_column(TRUE_LABEL, pa.array(known, pa.string())), sketch.n


def _no_rows() -> "pa.Table":
    import pyarrow as pa

    from sentiment_core.drift.rehearsal import TRUE_LABEL
    from sentiment_core.drift.sketch import SAMPLE

    return SAMPLE.empty_table().append_column(TRUE_LABEL, pa.array([], pa.string()))


def _folded(label: str | None, classes: Sequence[str]) -> str | None:
    """A label as a model with these classes knows it: three stars are positive where it has no word for them."""
    return "positive" if label == "neutral" and "neutral" not in classes else label


def _as_batch(table: "pa.Table", *, first: int) -> "ReviewBatch":
    """Rows of a file as a night's: of no day, in their order."""
    import pyarrow as pa

    from sentiment_core import schema
    from sentiment_core.domain import ReviewBatch

    columns = {
        "row_number": pa.array(range(first, first + len(table)), pa.int64()),
        "review_date": pa.array([_NO_DAY] * len(table), pa.date32()),
    }
    arrays = [
        columns[field.name]
        if field.name in columns
        else table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema.REVIEW_BATCH
    ]
    return ReviewBatch(table=pa.Table.from_arrays(arrays, schema=schema.REVIEW_BATCH))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise Permanent(
            str(path), expected="a readable file", found=str(error), remedy="check the name and its rights"
        ) from error

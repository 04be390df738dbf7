"""A registered model on labelled reviews from files: what it gets right, with repeated texts and without.

Nothing is kept. What the figures are is the business of `model.evaluation`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sentiment_core.domain import ModelRef
from sentiment_core.errors import Permanent
from sentiment_core.stages.retraining import read_files
from sentiment_core.stages.services import Services
from sentiment_core.stages.training_sets import classes_of, read_snapshot

if TYPE_CHECKING:
    import pyarrow as pa

    from sentiment_core.reviews.labelled import Columns


def evaluate_files(
    services: Services,
    paths: Sequence[Path],
    columns: "Columns",
    *,
    model: str = "champion",
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Figures on all labelled rows of the files, and on their distinct texts that the model was not trained from.

    Returns model_version, classes, n, accuracy, macro_f1, per_class (precision, recall, f1, n), ece, confusion_matrix (rows:
    the label given, columns: the label said), and under deduplicated the same on the rows left over, with
    n_repeated and n_trained_from: how many were left out because they stand there twice, or were learnt.
    """
    from sentiment_core.model.evaluation import evaluate

    tell = tell or (lambda _: None)
    tell("reading the reviews")
    table = read_files(services, paths, columns, tell=tell)
    opened = services.registry.open(services.registry.resolve(model))
    if not len(table):
        raise Permanent(
            ", ".join(map(str, paths)), expected="labelled reviews", found="no row", remedy="name a file that has some"
        )
    tell(f"scoring {len(table):,} reviews")
    distinct, counts = _distinct(table, _learnt(services, opened.ref))

    def measure(rows: "pa.Table") -> dict[str, Any]:
        found = evaluate(opened.estimator, rows["text"], rows["label"].to_pylist()) if len(rows) else {"n": 0}
        return {"confusion_matrix" if name == "confusion" else name: value for name, value in found.items()}

    return {
        "model_version": opened.ref.version,
        "classes": opened.estimator.classes_.tolist(),
        **measure(table),
        "deduplicated": {**measure(distinct), **counts},
    }


def _learnt(services: Services, ref: ModelRef) -> set[str] | None:
    """The texts a model was fitted to; None where it does not say which."""
    from sentiment_core.model.examples import held_out_share, normalise, prepare

    if ref.snapshot is None or not services.bucket.exists(ref.snapshot):
        return None
    snapshot = read_snapshot(services, ref.snapshot)
    examples = prepare(snapshot, held_out_share=held_out_share(snapshot, services.policy.promotion), classes=classes_of(snapshot))
    return set(map(normalise, examples.train["text"].to_pylist()))


def _distinct(table: "pa.Table", learnt: set[str] | None) -> tuple["pa.Table", dict[str, int | None]]:
    """Rows whose text is neither learnt nor repeated (of equal texts the first stays), and how many that leaves out."""
    from sentiment_core.model.examples import normalise

    seen: set[str] = set()
    kept = np.zeros(len(table), dtype=bool)
    n_learnt = 0
    for place, text in enumerate(map(normalise, table["text"].to_pylist())):
        if learnt and text in learnt:
            n_learnt += 1
        elif text not in seen:
            seen.add(text)
            kept[place] = True
    counts = {
        "n_repeated": len(table) - int(kept.sum()) - n_learnt,
        "n_trained_from": None if learnt is None else n_learnt,
    }
    return table.filter(kept), counts

"""Folds for cross-validation: rows of one group stay together, and every fold has its part of every class.

A group is a product where products are known, else a text; so no fold is measured on a product, or a text, that it was
fitted to. No fitting.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sentiment_core.model.examples import normalise


def groups_of(texts: Sequence[str], products: Sequence[str | None]) -> npt.NDArray[np.str_]:
    """The name of every row's group.

    >>> groups_of(["a", "A "], [None, "B0001"]).tolist()
    ['text:a', 'product:B0001']
    """
    rows = zip(texts, products, strict=True)
    return np.array([f"text:{normalise(text)}" if product is None else f"product:{product}" for text, product in rows])


def make_folds(
    texts: Sequence[str], products: Sequence[str | None], labels: Sequence[str], *, n_folds: int, seed: int
) -> npt.NDArray[np.int8]:
    """The fold of every row; does not depend on the order of the rows.

    Groups are dealt out, the largest first and equals in an order of chance, each to the fold that has fewest rows of the
    group's commonest class.

    >>> make_folds(["a", "A ", "b", "b"], [None] * 4, ["x", "x", "y", "y"], n_folds=2, seed=0).tolist()
    [0, 0, 1, 1]
    """
    names, group_of = np.unique(groups_of(texts, products), return_inverse=True)
    classes, place_of = np.unique(np.asarray(labels), return_inverse=True)
    n_rows = np.zeros((len(names), len(classes)), np.int64)
    np.add.at(n_rows, (group_of, place_of), 1)
    chance = [hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for name in names.tolist()]
    taken = np.zeros((n_folds, len(classes)), np.int64)
    fold_of = np.zeros(len(names), np.int8)
    for group in sorted(range(len(names)), key=lambda group: (-n_rows[group].sum(), chance[group])):
        commonest = int(n_rows[group].argmax())
        fold_of[group] = fold = np.lexsort((taken.sum(axis=1), taken[:, commonest]))[0]
        taken[fold] += n_rows[group]
    return fold_of[group_of]

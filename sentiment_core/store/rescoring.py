"""Scores of a later version for reviews that are scored already: which rows are meant, and how their scores are replaced.

A row keeps its place (object, row number) and its identity; what was said before goes to score_history. Replaced is one
date of one object in a transaction, under the lock that publications of the date take: done again it changes nothing,
and what a publication has changed meanwhile stays as it is. Where texts come from and who scores is not known here.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.engine import Connection, Engine

from sentiment_core import schema
from sentiment_core.domain import ModelRef, ObjectVersion, ScoredBatch, Selection
from sentiment_core.store.copy import copy_table
from sentiment_core.store.engine import statement, statements
from sentiment_core.store.ledger import leaf

# The excerpt of the text stays: what has been forgotten since does not come back.
_COPIED = ("row_number", "review_date", "review_id", "label", "p_negative", "p_neutral", "p_positive", "confidence")


@dataclass(frozen=True, kw_only=True)
class ChosenObject:
    """An object version that holds rows to be scored again."""

    object_id: int
    obj: ObjectVersion
    window_date: date
    review_dates: tuple[date, ...]
    n_rows: int
    """Current rows that are meant."""
    n_runners_up: int
    """Rows that are meant and would be current if another object's went."""


@dataclass(frozen=True, kw_only=True)
class ReplacedScores:
    """What became of a date of an object."""

    n_rows: int
    """Current rows whose score is another version's now."""
    n_flipped: int
    """Of these, rows whose label is another one."""


def choose_objects(
    engine: Engine, selection: Selection, *, model_version: int, window_dates: Sequence[date] | None = None
) -> list[ChosenObject]:
    """The objects with rows that are meant and not yet scored by this version, in the order of their keys.

    Args:
        engine: as the writer.
        selection: which rows are meant.
        model_version: the version that is to score them.
        window_dates: only objects of these nights; None: of all.
    """
    values = {**_values(selection, model_version), "window_dates": None if window_dates is None else list(window_dates)}
    with engine.connect() as connection:
        found = connection.execute(statement("rescoring.choose_objects"), values).mappings().all()
    place = ("bucket", "key", "etag", "size", "last_modified")
    return [
        ChosenObject(
            obj=ObjectVersion(**{name: row[name] for name in place}),
            review_dates=tuple(row["review_dates"]),
            **{name: row[name] for name in ("object_id", "window_date", "n_rows", "n_runners_up")},
        )
        for row in found
    ]


def window_dates(engine: Engine, selection: Selection) -> list[date]:
    """The nights whose objects hold rows that are meant, whatever version scored them."""
    with engine.connect() as connection:
        return list(connection.execute(statement("rescoring.window_dates"), _values(selection, None)).scalars())


def sample_labels(engine: Engine, chosen: ChosenObject, selection: Selection, *, model_version: int, n: int) -> dict[int, str]:
    """The labels of at most n of an object's rows that are meant, by row number; which rows is a matter of a hash."""
    values = {**_values(selection, model_version), "object_id": chosen.object_id, "n": n}
    with engine.connect() as connection:
        return dict(map(tuple, connection.execute(statement("rescoring.sample_labels"), values)))


@contextmanager
def replacing(engine: Engine, model: ModelRef, *, run_id: str) -> Iterator["Replacing"]:
    """A session for replacing the scores of any number of objects."""
    with engine.connect() as connection:
        yield Replacing(connection, model, run_id)


class Replacing:
    """Replaces scores, an object at a time; made by `replacing`."""

    def __init__(self, connection: Connection, model: ModelRef, run_id: str) -> None:
        self._connection, self._model, self._run_id = connection, model, run_id

    def take(self, batches: Iterable[ScoredBatch]) -> None:
        """Bring an object's new scores to the server; an exception of the batches leaves nothing behind."""
        with self._connection.begin():
            for name in ("make_rescored", "clear_rescored"):
                self._connection.execute(statement(f"rescoring.{name}"))
            for batch in batches:
                copy_table(self._connection, "pg_temp.rescored", batch.table.select(_COPIED))
            self._connection.execute(statement("rescoring.analyze_rescored"))

    def replace(
        self, chosen: ChosenObject, day: date, selection: Selection, sketch: tuple[int, dict[str, Any], bytes] | None
    ) -> ReplacedScores:
        """Put what was taken in the place of the object's scores of one date.

        Args:
            chosen: the object.
            day: one of its review dates.
            selection: as it was chosen.
            sketch: n, moments and sample of the drift statistics of its rows of the date.
        """
        values = {
            **_values(selection, self._model.version),
            "object_id": chosen.object_id,
            "review_date": day,
            "model_name": self._model.name,
            "run_id": self._run_id,
        }
        with self._connection.begin():
            self._connection.execute(statement("publish.set_memory"))
            self._connection.execute(statement("publish.lock_date"), {"review_date": day.isoformat()})
            values["scored_at"] = self._connection.execute(statement("ledger.clock")).scalar_one()
            found = self._connection.execute(_named("replace", day), values).one()
            outranked = self._connection.execute(_named("replace_runners_up", day), values).rowcount
            if sketch and (found.n_rows or outranked):
                n, moments, sample = sketch
                values |= {"n": n, "moments": json.dumps(moments, allow_nan=False), "sample": sample}
                self._connection.execute(statement("rescoring.keep_sketch"), values)
        return ReplacedScores(n_rows=found.n_rows, n_flipped=found.n_flipped)


def _values(selection: Selection, model_version: int | None) -> dict[str, Any]:
    return {**vars(selection), "model_version": model_version}


def _named(name: str, day: date) -> TextClause:
    names = schema.SCORED_REVIEWS.column_names
    return text(
        statements("rescoring")[name].format(
            scored_leaf=leaf("scored_reviews", day),
            columns=", ".join(names),
            meant=statements("rescoring")["meant"],
            assignments=statements("rescoring")["assignments"],
        )
    )

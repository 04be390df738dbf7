"""The gates between a candidate and the champion's place."""

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.model.comparison import compare, reviews_per_second
from sentiment_core.model.examples import held_out_share, is_held_out, prepare
from sentiment_core.policy import read_policy
from sentiment_core.settings import REPOSITORY

_READ = read_policy(Path(REPOSITORY) / "include" / "policy.toml")
POLICY = replace(_READ, promotion=replace(_READ.promotion, held_out_share=0.25))
"""The limits as they are; a quarter held out, so that few rows make a comparison."""


class Oracle:
    """Says what it is told to say of each text."""

    def __init__(self, says, classes=("negative", "positive"), sure=0.9):
        self.says, self.classes_, self.sure = says, np.array(classes), sure

    def predict_proba(self, texts):
        said = [self.says[text] for text in texts.to_pylist()]
        rest = (1 - self.sure) / (len(self.classes_) - 1)
        return np.array([[self.sure if name == one else rest for name in self.classes_] for one in said])

    def predict(self, texts):
        return np.array([self.says[text] for text in texts.to_pylist()])


def _rows(n, origin, label="positive"):
    return [
        {"review_id": f"{origin}{i}", "product_id": None, "text": f"{origin} {label} {i}", "label": label, "origin": origin}
        for i in range(n)
    ]


def _compare(champion_rights, candidate_rights, rows, *, sure=0.9, policy=POLICY, asked=None, **kinds):
    """Compare oracles; each is given as a function of (origin, place among the held-out rows of that origin)."""
    snapshot = pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)
    test = prepare(snapshot, held_out_share=held_out_share(snapshot, policy.promotion)).test.to_pylist()
    places = {"standing": 0, "fresh": 0}
    said = ({}, {})
    for row in test:
        place = places[row["origin"]]
        places[row["origin"]] += 1
        wrong = "negative" if row["label"] == "positive" else "positive"
        for says, rights in zip(said, (champion_rights, candidate_rights), strict=True):
            says[row["text"]] = row["label"] if rights(row["origin"], place) else wrong
    return compare(Oracle(said[0], **kinds), Oracle(said[1], sure=sure), snapshot, policy, **(asked or {}))


ROWS = _rows(2000, "standing") + _rows(2000, "standing", "negative") + _rows(400, "fresh") + _rows(400, "fresh", "negative")


def _gate(promotion, name):
    return next(gate for gate in promotion.metrics["gates"] if gate["name"] == name)


def test_a_candidate_better_on_fresh_rows_and_as_good_on_standing_ones_is_promoted():
    promotion = _compare(lambda origin, i: origin == "standing" or i % 3, lambda _, i: i % 10, ROWS)
    assert promotion.outcome == "held"  # a tenth wrong everywhere: it lost ten points on standing rows
    assert "standing reviews" in promotion.reason
    promotion = _compare(lambda origin, i: i % 10 if origin == "standing" else i % 3, lambda _, i: i % 10, ROWS)
    assert promotion.outcome == "promoted"
    assert "p = " in promotion.reason
    assert promotion.metrics["candidate"]["test_fresh"]["accuracy"] > promotion.metrics["champion"]["test_fresh"]["accuracy"]
    assert all(gate["outcome"] == "passed" for gate in promotion.metrics["gates"])
    assert json.loads(json.dumps(promotion.metrics, allow_nan=False)) == promotion.metrics


def test_a_candidate_that_is_no_better_on_fresh_rows_is_held():
    promotion = _compare(lambda _, i: i % 5, lambda _, i: i % 5, ROWS)
    assert promotion.outcome == "held"
    assert _gate(promotion, "better_on_fresh")["figure"] == 1.0
    assert _gate(promotion, "better_on_fresh")["outcome"] == "failed"


def test_right_answers_are_compared_by_the_exact_one_sided_mcnemar_test():
    won, lost = 12, 4
    promotion = _compare(
        lambda origin, i: origin == "standing" or i >= won,
        lambda origin, i: origin == "standing" or not won <= i < won + lost,
        ROWS,
        sure=0.6,  # so that its errors are no smaller
    )
    expected = sum(math.comb(won + lost, k) for k in range(won, won + lost + 1)) / 2 ** (won + lost)
    assert _gate(promotion, "better_on_fresh")["figure"] == pytest.approx(2 * expected)
    assert "12 won, 4 lost" in _gate(promotion, "better_on_fresh")["sentence"]


def test_smaller_errors_are_better_where_as_many_answers_are_right():
    # Right on every second, a model that is sure to nine tenths errs by more than one that is in doubt.
    promotion = _compare(lambda _, i: i % 2, lambda _, i: i % 2, ROWS, sure=0.6)
    gate = _gate(promotion, "better_on_fresh")
    assert (gate["outcome"], gate["figure"] < 0.01) == ("passed", True)
    assert "0 won, 0 lost, squared error 0.260 against 0.410" in gate["sentence"]


def test_smaller_errors_are_nothing_where_fewer_answers_are_right():
    promotion = _compare(lambda _, i: i % 2, lambda _, i: i % 2 and i != 1, ROWS, sure=0.6)
    gate = _gate(promotion, "better_on_fresh")
    assert (gate["outcome"], gate["figure"]) == ("failed", 1.0)


def test_too_few_fresh_rows_hold_however_good_the_candidate():
    promotion = _compare(lambda origin, _: origin == "standing", lambda *_: True, _rows(400, "standing") + _rows(60, "fresh"))
    assert promotion.outcome == "held"
    assert "fresh held-out reviews" in promotion.reason
    assert "50 needed" in promotion.reason


def test_a_first_model_has_to_beat_the_commonest_class():
    rows = _rows(400, "standing") + _rows(200, "standing", "negative")
    snapshot = pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)
    right = Oracle({row["text"]: row["label"] for row in rows}, sure=0.99)
    dull = Oracle({row["text"]: "positive" for row in rows})
    assert compare(None, right, snapshot, POLICY).outcome == "promoted"
    held = compare(None, dull, snapshot, POLICY)
    assert held.outcome == "held"
    assert held.metrics["champion"] is None
    assert "commonest class" in held.reason


def test_a_champion_of_three_classes_is_compared_on_the_two_of_the_candidate():
    promotion = _compare(
        lambda origin, i: origin == "standing" or i % 3,
        lambda *_: True,
        ROWS,
        sure=0.99,
        classes=("negative", "neutral", "positive"),
    )
    assert promotion.outcome == "promoted"
    assert promotion.metrics["champion"]["test_standing"]["accuracy"] == 1


def test_without_held_out_rows_nothing_can_be_compared():
    share = POLICY.promotion.held_out_share
    product = next(name for name in "abcdefgh" if not is_held_out(name, "", share))
    snapshot = pa.Table.from_pylist([{**row, "product_id": product} for row in _rows(9, "standing")], schema=schema.SNAPSHOT)
    with pytest.raises(Permanent, match="held-out rows"):
        compare(None, Oracle({}), snapshot, POLICY)


def test_a_class_that_is_given_up_holds_the_candidate():
    rows = _rows(2000, "standing") + _rows(200, "standing", "negative") + _rows(400, "fresh")
    snapshot = pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)
    poor = Oracle({row["text"]: "positive" if row["origin"] == "fresh" else "negative" for row in rows})
    dull = Oracle({row["text"]: "positive" for row in rows}, sure=0.97)
    promotion = compare(poor, dull, snapshot, POLICY)
    assert _gate(promotion, "floor_negative")["outcome"] == "failed"
    assert _gate(promotion, "floor_negative")["figure"] == 0
    assert "F1 of negative is 0.000" in promotion.reason
    assert _gate(promotion, "floor_positive")["outcome"] == "passed"


def test_a_class_of_which_hardly_any_row_is_held_out_is_not_judged():
    rows = _rows(400, "standing") + _rows(20, "standing", "negative")
    snapshot = pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)
    promotion = compare(None, Oracle({row["text"]: row["label"] for row in rows}, sure=0.99), snapshot, POLICY)
    gate = _gate(promotion, "floor_negative")
    assert (gate["outcome"], gate["figure"], 0 < gate["n"] < 20) == ("skipped", None, True)
    assert promotion.outcome == "promoted"


@pytest.mark.parametrize(("sure", "outcome"), [(0.9, "passed"), (0.999, "failed")])
def test_a_candidate_that_is_surer_than_it_is_right_is_held(sure, outcome):
    promotion = _compare(lambda origin, i: i % 10 if origin == "standing" else i % 3, lambda _, i: i % 10, ROWS, sure=sure)
    assert _gate(promotion, "calibration")["outcome"] == outcome
    assert promotion.outcome == ("promoted" if outcome == "passed" else "held")


@dataclass(frozen=True)
class Examined:
    name: str
    n: int
    n_failed: int


@pytest.mark.parametrize(("more", "outcome"), [(0, "passed"), (1, "failed")])
@pytest.mark.parametrize("name", ["negation_direction", "swap", "new_kind"])
def test_behavioural_tests_may_fail_on_the_policys_share(name, more, outcome):
    limits = POLICY.promotion.behaviour
    n_failed = round(1000 * getattr(limits, name, limits.other)) + more
    examined = [Examined(name, 1000, n_failed), Examined("nothing", 0, 0)]
    promotion = _compare(
        lambda origin, i: i % 10 if origin == "standing" else i % 3,
        lambda _, i: i % 10,
        ROWS,
        asked={"examine": lambda candidate: examined if candidate.sure else []},
    )
    gate = _gate(promotion, f"behaviour_{name}")
    assert (gate["figure"], gate["n"], gate["outcome"]) == (n_failed / 1000, 1000, outcome)
    assert promotion.outcome == ("promoted" if outcome == "passed" else "held")
    assert not [gate for gate in promotion.metrics["gates"] if "nothing" in gate["name"]]


def test_a_part_of_the_reviews_on_which_the_candidate_is_clearly_worse_holds_it():
    rows = [
        {
            **row,
            "source": "shop" if place % 2 and row["origin"] == "standing" else "forum",
            "text": f"{row['text']} {place % 7:b}",
        }
        for place, row in enumerate(ROWS)
    ]
    said = ({row["text"]: row["label"] for row in rows}, {row["text"]: row["label"] for row in rows})
    wrong = {"positive": "negative", "negative": "positive"}
    for place, row in enumerate(rows):
        if row["origin"] == "fresh" and place % 3:
            said[0][row["text"]] = wrong[row["label"]]  # the champion knows nothing of what is new
        if row["source"] == "shop" and place % 5 == 0:
            said[1][row["text"]] = wrong[row["label"]]  # the candidate has unlearnt a shop
    limits = replace(POLICY.promotion, max_standing_loss=1.0, max_ece=1.0)
    snapshot = pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)
    held = compare(Oracle(said[0]), Oracle(said[1]), snapshot, replace(POLICY, promotion=limits))
    assert [gate["name"] for gate in held.metrics["gates"] if gate["outcome"] == "failed"] == ["kept_on_slices"]
    assert "source shop" in held.reason
    assert "source forum" not in held.reason


def test_a_slow_family_is_held_by_its_speed_alone():
    class Slow(Oracle):
        def predict_proba(self, texts):
            time.sleep(0.5)
            return super().predict_proba(texts)

    rows = _rows(400, "standing") + _rows(200, "standing", "negative")
    snapshot = pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)
    says = {row["text"]: row["label"] for row in rows}
    promotion = compare(None, Slow(says, sure=0.99), snapshot, POLICY)
    assert [gate["name"] for gate in promotion.metrics["gates"] if gate["outcome"] == "failed"] == ["speed"]
    assert "2,000 needed" in promotion.reason
    assert compare(None, Oracle(says, sure=0.99), snapshot, POLICY).outcome == "promoted"


def test_speed_is_reviews_over_the_quickest_run():
    class Counted(Oracle):
        runs = 0

        def predict_proba(self, texts):
            self.runs += 1
            time.sleep(0.05 if self.runs == 2 else 0.5)

    texts = pa.chunked_array([pa.array(["a"] * 100)])
    assert 100 / 0.5 < reviews_per_second(Counted({}), texts) <= 100 / 0.05


@pytest.mark.parametrize(("n_bytes", "outcome"), [(POLICY.promotion.max_model_megabytes * 10**6, "passed"), (10**10, "failed")])
def test_a_model_that_is_too_large_is_held(n_bytes, outcome):
    promotion = _compare(
        lambda origin, i: i % 10 if origin == "standing" else i % 3, lambda _, i: i % 10, ROWS, asked={"n_bytes": n_bytes}
    )
    assert _gate(promotion, "size")["outcome"] == outcome
    assert promotion.outcome == ("promoted" if outcome == "passed" else "held")


def test_without_fresh_labels_nothing_is_promoted_however_good_it_is():
    promotion = _compare(
        lambda _, i: i % 3, lambda *_: True, _rows(2000, "standing") + _rows(2000, "standing", "negative"), sure=0.99
    )
    assert promotion.outcome == "held"
    assert promotion.reason.startswith("no fresh labels to compare on")


def test_both_models_are_measured_on_what_neither_was_fitted_to():
    """The sets overlap: what the champion learnt is not asked, its held-out rows are standing, what it never saw is fresh."""
    old = _rows(600, "standing") + _rows(600, "standing", "negative")
    new = [*old[:300], *_rows(400, "other"), *_rows(400, "other", "negative")]
    old_set, new_set = (
        pa.Table.from_pylist([{**row, "origin": "standing"} for row in rows], schema=schema.SNAPSHOT) for rows in (old, new)
    )
    share = POLICY.promotion.held_out_share
    asked = []

    class Asked(Oracle):
        def predict_proba(self, texts):
            asked.append(set(texts.to_pylist()))
            return super().predict_proba(texts)

    says = {row["text"]: row["label"] for row in (*old, *new)}
    promotion = compare(Asked(says), Asked(says), new_set, POLICY, champion_snapshot=old_set)
    fitted = {row["text"] for rows in (old_set, new_set) for row in prepare(rows, held_out_share=share).train.to_pylist()}
    assert asked
    assert not set.union(*asked) & fitted
    n = {part: promotion.metrics["champion"][part]["n"] for part in ("test_standing", "test_fresh")}
    held_out = {row["text"] for rows in (old_set, new_set) for row in prepare(rows, held_out_share=share).test.to_pylist()}
    assert n["test_standing"] == len(held_out & {row["text"] for row in old})
    assert n["test_fresh"] == len(held_out & {row["text"] for row in new[300:]})

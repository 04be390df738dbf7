"""Rehearsed nights: judged like real ones, with drift planted, and what they would have set off."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_core.drift.history import Night
from sentiment_core.drift.loop import Request, retrained_on, why_not_now
from sentiment_core.drift.reference import Reference
from sentiment_core.drift.rehearsal import (
    TRUE_LABEL,
    Planted,
    Rehearsal,
    labels_of,
    nights_until,
    quiet_nights,
    quiet_year,
    rate,
    share,
    with_planted,
)
from sentiment_core.errors import Permanent
from sentiment_core.policy import read_policy

POLICY = read_policy(Path(__file__).parents[2] / "include" / "policy.toml")
EVIDENCE = replace(POLICY, drift=replace(POLICY.drift, mode="evidence"))
THRESHOLD = replace(POLICY, drift=replace(POLICY.drift, mode="threshold"))
DAY = date(2026, 11, 1)
FOREIGN_TOPICS = np.where(np.arange(24) < 4, 1.5, 0)


def reviews(n, *, seed, is_foreign=False):
    """Rows as samples have them; of foreign reviews the topics differ, and the model is at a loss."""
    draw = np.random.default_rng(seed)
    p_positive = draw.beta(2.4, 2.4, n) if is_foreign else draw.beta(0.4, 0.4, n)
    shares = {
        name: draw.beta(3, 60, n).astype(np.float32)
        for name in ("strange_share", "upper_share", "non_letter_share", "unknown_share", "negation_share")
    }
    return pa.table(
        {
            "p_positive": p_positive,
            "confidence": np.maximum(p_positive, 1 - p_positive),
            "raw_confidence": np.maximum(p_positive, 1 - p_positive),
            "n_chars": np.exp(draw.normal(6, 0.7, n)).astype(np.int32),
            "n_words": np.exp(draw.normal(5, 0.7, n)).astype(np.int32),
            "n_sentences": draw.poisson(9, n).astype(np.int32),
            **shares,
            "surprise": draw.normal(7, 0.5, n).astype(np.float32),
            "distinct_share": draw.beta(60, 30, n).astype(np.float32),
            "topics": pa.array(
                (draw.normal(size=(n, 24)) + FOREIGN_TOPICS * is_foreign).astype(np.float32).tolist(), pa.list_(pa.float32())
            ),
            "label": np.where(p_positive >= 0.5, "positive", "negative"),
            TRUE_LABEL: np.where(draw.random(n) < p_positive, "positive", "negative"),
            "product_id": [f"{'f' if is_foreign else 'p'}{number}" for number in draw.integers(max(n // 4, 1), size=n)],
        }
    )


REFERENCE = Reference.of(reviews(4000, seed=1), POLICY.drift)
OWN, FOREIGN = reviews(4000, seed=2), reviews(2000, seed=3, is_foreign=True)


def night(later=0, n=900):
    return Night(rows=OWN.slice(0, n), n=n, window_date=DAY + timedelta(days=later), labels=labels_of(OWN.slice(0, n)))


def planted(**more):
    return Planted(name="foreign", rows=FOREIGN, share=0.4, first=DAY + timedelta(days=3), **more)


def n_foreign(rows):
    return sum(product.startswith("f") for product in rows["product_id"].to_pylist())


def play(policy, n_nights=12, **more):
    rehearsal = Rehearsal(reference=REFERENCE, policy=policy)
    drift = [planted(**more)]
    rng = np.random.default_rng(5)
    nights = quiet_nights(OWN, first=DAY, n_nights=n_nights, n_reviews=900, labelled_share=0.3, is_clustered=True, rng=rng)
    played = []
    for one in nights:
        mixed, part = with_planted(one, drift, seed=7)
        played.append(rehearsal.play(mixed, planted_share=part))
    return played


def test_before_its_first_night_nothing_is_planted_and_afterwards_its_share():
    for later, expected in ((0, 0), (2, 0), (3, 360), (9, 360)):
        mixed, part = with_planted(night(later), [planted()], seed=1)
        assert (len(mixed.rows), n_foreign(mixed.rows)) == (900, expected)
        assert part == pytest.approx(expected / 900)


def test_a_ramp_grows_evenly_to_its_share():
    drift = planted(ramp=4)
    shares = [drift.share_on(DAY + timedelta(days=later)) for later in range(9)]
    assert shares == pytest.approx([0, 0, 0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.4])


@given(st.integers(1, 2000), st.floats(0.01, 1), st.integers(0, 5))
def test_planting_keeps_the_number_of_reviews_and_of_labels_known(n, part, seed):
    drift = replace(planted(), share=part, first=DAY)
    mixed, _ = with_planted(night(n=n), [drift], seed=seed)
    assert len(mixed.rows) == n
    assert n_foreign(mixed.rows) == min(n, round(part * n))
    assert mixed.labels.n == n


def test_no_review_is_planted_twice():
    with pytest.raises(Permanent, match="360 different reviews for 40% of 900, found 3"):
        with_planted(night(), [replace(planted(), rows=FOREIGN.slice(0, 3), first=DAY)], seed=1)


def test_threshold_mode_retrains_on_the_first_drifted_night_and_evidence_mode_on_the_second():
    for policy, expected in ((THRESHOLD, 1), (EVIDENCE, 2)):
        played = play(policy)
        assert [one.verdict.verdict for one in played[:3]] == ["quiet"] * 3
        assert nights_until(played, DAY + timedelta(days=3)) == 1
        assert nights_until(played, DAY + timedelta(days=3), is_retrain=True) == expected


def test_after_a_retrain_the_next_waits_for_the_cooldown():
    played = play(EVIDENCE, n_nights=20)
    dates = [one.window_date for one in played if one.sets_off_retrain]
    assert len(dates) > 1
    assert all((later - earlier).days >= POLICY.drift.cooldown_nights for earlier, later in pairwise(dates))


def test_without_labels_evidence_mode_sets_nothing_off():
    rehearsal = Rehearsal(reference=REFERENCE, policy=EVIDENCE)
    played = []
    for later in range(6):
        rows = with_planted(night(later), [replace(planted(), first=DAY)], seed=1)[0].rows.drop_columns([TRUE_LABEL])
        played.append(rehearsal.play(Night(rows=rows, n=len(rows), window_date=DAY + timedelta(days=later))))
    assert {one.verdict.verdict for one in played} == {"warn"}
    assert not any(one.sets_off_retrain for one in played)


def test_a_rehearsal_without_a_reference_judges_nothing():
    played = Rehearsal(reference=None, policy=POLICY).play(night())
    assert (played.verdict.verdict, played.sets_off_retrain) == ("too_few", False)


def test_a_simulated_year_is_repeatable_and_its_years_differ():
    def year(number):
        return [
            one.verdict.p_value
            for one in quiet_year(
                REFERENCE, POLICY, year=number, first=DAY, n_nights=5, n_reviews=500, labelled_share=0.2, is_clustered=False
            )
        ]  # fmt: skip

    assert year(1) == year(1)
    assert year(1) != year(2)


@pytest.mark.parametrize("is_clustered", [True, False])
def test_simulated_nights_are_of_products_that_the_reference_does_not_hold(is_clustered):
    judged, rows = REFERENCE.split(0.5, POLICY.drift, seed=0)
    inside = set(judged.rows["product_id"].to_pylist())
    rng = np.random.default_rng(0)
    for one in quiet_nights(rows, first=DAY, n_nights=3, n_reviews=700, labelled_share=0.2, is_clustered=is_clustered, rng=rng):
        assert one.n == len(one.rows) == 700
        assert not inside & set(one.rows["product_id"].to_pylist())
        assert one.labels.n == pytest.approx(140, abs=45)


def test_intervals_hold_what_they_are_about():
    assert rate([0] * 20).high == 0.15
    assert rate([1, 0, 2, 1]).low < 1 < rate([1, 0, 2, 1]).high
    assert rate([8, 0, 0, 0]).high > rate([2, 2, 2, 2]).high
    assert share(10, 10).high == 1.0
    assert share(0, 10).low == 0.0


@given(st.lists(st.integers(0, 30), max_size=6), st.integers(0, 40), st.integers(0, 2_000))
def test_a_retrain_is_never_set_off_while_another_runs_or_within_its_cooldown(days, later, n_labels):
    requests = [
        Request(
            window_date=DAY + timedelta(days=one), n_labels=10 * place, outcome=("promoted", "held", None)[place % 3],
            has_trained=place % 3 != 2,
        )
        for place, one in enumerate(days)
    ]  # fmt: skip
    day = DAY + timedelta(days=later)
    if not why_not_now(day, requests, n_labels=n_labels, policy=POLICY):
        assert all(abs((day - one.window_date).days) >= POLICY.drift.cooldown_nights for one in requests)


def test_a_retrain_that_was_held_for_want_of_labels_is_no_retrain_to_wait_for():
    held = Request(window_date=DAY, n_labels=0, outcome="held", has_trained=False)
    assert retrained_on([held]) is None
    assert retrained_on([held, replace(held, outcome=None)]) == DAY
    assert why_not_now(DAY + timedelta(days=1), [held], n_labels=POLICY.retrain.min_fresh_labels, policy=POLICY) == ""

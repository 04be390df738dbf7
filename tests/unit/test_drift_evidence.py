"""Evidence over nights against what scipy's normal densities say of the same hypotheses, and on planted ramps."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sentiment_core.drift.evidence import Residual, Scale, _bets, evidence, longest, shapes
from sentiment_core.policy import read_policy

LIMITS = replace(
    read_policy(Path(__file__).parents[2] / "include" / "policy.toml").drift,
    evidence_nights=(1, 2, 3, 5, 8), evidence_ramps=(10, 15), ramp_stake=66.0, evidence_sizes=(0.005, 0.02, 0.08, 0.3),
)  # fmt: skip
LONGEST = 15


def made(n_nights, n_axes, *, common=0.0002, chance=0.001, slope=0.0, offset=0.0, seed=3):
    """Nights with chances of their own, an error that all of them share, and a shift that grows by a slope every night."""
    rng = np.random.default_rng(seed)
    chances = chance * rng.uniform(0.5, 2, (n_nights, n_axes))
    places = rng.normal(0, np.sqrt(chances)) + offset + slope * np.arange(1, n_nights + 1)[:, np.newaxis]
    nights = [Residual(shift=place, chance=one) for place, one in zip(places, chances, strict=True)]
    return nights, Scale(common=np.full(n_axes, common), total=np.ones(n_axes))


@pytest.mark.parametrize("profile", [profile for profile, _ in shapes(LIMITS)], ids=len)
def test_a_bet_is_the_ratio_of_two_normal_densities(profile):
    nights, scale = made(len(profile), 3)
    sizes = np.array(LIMITS.evidence_sizes)
    found = _bets(nights, profile, scale, sizes)
    for axis in range(3):
        places = [night.shift[axis] for night in nights]
        quiet = np.diag([night.chance[axis] for night in nights]) + scale.common[axis]
        for size, value in zip(sizes, found[:, axis], strict=True):
            moved = quiet + size * scale.total[axis] * np.outer(profile, profile)
            expected = stats.multivariate_normal(cov=moved).logpdf(places) - stats.multivariate_normal(cov=quiet).logpdf(places)
            assert value == pytest.approx(expected, abs=1e-9)


def test_a_reference_that_lies_beside_the_nights_is_little_evidence_and_a_ramp_to_the_same_place_is_much():
    beside = made(LONGEST, 4, common=0.01, offset=0.15)
    ramp = made(LONGEST, 4, common=0.01, slope=0.01)
    assert evidence(*beside, *beside, LIMITS) < np.log(200) < np.log(2_000) < evidence(*ramp, *ramp, LIMITS)


def test_a_ramp_is_seen_sooner_than_by_windows_alone():
    nights, scale = made(LONGEST, 4, common=0.001, slope=0.007)
    known = evidence(nights, scale, nights, scale, LIMITS)
    alone = evidence(nights, scale, nights, scale, replace(LIMITS, evidence_ramps=(1,), ramp_stake=1.0))
    assert known > alone + np.log(10)


def test_the_stake_counts_from_the_night_on_that_the_longest_ramp_can_be_seen():
    nights, scale = made(LONGEST, 4, common=0.001, slope=0.007)
    even = replace(LIMITS, ramp_stake=1.0)
    little, much = (evidence(nights, scale, nights, scale, limits) for limits in (even, LIMITS))
    assert little + np.log(2) < much <= little + np.log(LIMITS.ramp_stake)
    little, much = (evidence(nights[1:], scale, nights[1:], scale, limits) for limits in (even, LIMITS))
    assert little == much


def test_quiet_nights_give_the_stake_on_every_shape_on_average():
    values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        nights, scale = made(LONGEST, 2, seed=seed, offset=rng.normal(0, np.sqrt(0.0002)))
        values.append(np.exp(evidence(nights, scale, nights, scale, LIMITS)))
    assert np.mean(values) < sum(stake for _, stake in shapes(LIMITS)) + 4 * np.std(values) / np.sqrt(len(values))
    assert np.mean(np.array(values) > 200) < 0.02


def test_the_policy_says_what_is_looked_for():
    limits = replace(LIMITS, evidence_nights=(2,), evidence_ramps=(4, 3), ramp_stake=9.0)
    assert longest(limits) == 4
    assert [(profile.tolist(), stake) for profile, stake in shapes(limits)] == [
        ([1.0, 1.0], 1.0),
        ([0.25, 0.5, 0.75, 1.0], 9.0),
        ([pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0], 1.0),
    ]

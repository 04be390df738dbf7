"""Evidence over nights against what scipy's normal densities say of the same hypotheses, and on planted ramps."""

import numpy as np
import pytest
from scipy import stats

from sentiment_core.drift.evidence import _PROFILES, _SIZES, RAMPS, WINDOWS, Residual, Scale, _bets, evidence

STAKE = 66.0


def made(n_nights, n_axes, *, common=0.0002, chance=0.001, slope=0.0, offset=0.0, seed=3):
    """Nights with chances of their own, an error that all of them share, and a shift that grows by a slope every night."""
    rng = np.random.default_rng(seed)
    chances = chance * rng.uniform(0.5, 2, (n_nights, n_axes))
    places = rng.normal(0, np.sqrt(chances)) + offset + slope * np.arange(1, n_nights + 1)[:, np.newaxis]
    nights = [Residual(shift=place, chance=one) for place, one in zip(places, chances, strict=True)]
    return nights, Scale(common=np.full(n_axes, common), total=np.ones(n_axes))


@pytest.mark.parametrize("profile", _PROFILES, ids=len)
def test_a_bet_is_the_ratio_of_two_normal_densities(profile):
    nights, scale = made(len(profile), 3)
    found = _bets(nights, profile, scale, 2)
    for axis in range(3):
        places = [night.shift[axis] for night in nights]
        quiet = np.diag([night.chance[axis] for night in nights]) + scale.common[axis]
        for size, value in zip(_SIZES, found[:, axis], strict=True):
            moved = quiet + size * scale.total[axis] / 2 * np.outer(profile, profile)
            expected = stats.multivariate_normal(cov=moved).logpdf(places) - stats.multivariate_normal(cov=quiet).logpdf(places)
            assert value == pytest.approx(expected, abs=1e-9)


def test_a_reference_that_lies_beside_the_nights_is_little_evidence_and_a_ramp_to_the_same_place_is_much():
    beside = made(max(RAMPS), 4, common=0.01, offset=0.15)
    ramp = made(max(RAMPS), 4, common=0.01, slope=0.01)
    assert evidence(*beside, *beside, ramp_stake=STAKE) < np.log(200) < np.log(2_000) < evidence(*ramp, *ramp, ramp_stake=STAKE)


def test_a_ramp_is_seen_sooner_than_by_windows_alone():
    nights, scale = made(max(RAMPS), 4, common=0.001, slope=0.007)
    known = evidence(nights, scale, nights, scale, ramp_stake=STAKE)
    alone = evidence(nights[-max(WINDOWS) :], scale, nights[-max(WINDOWS) :], scale, ramp_stake=STAKE)
    assert known > alone + np.log(10)


def test_the_stake_counts_from_the_night_on_that_the_longest_ramp_can_be_seen():
    nights, scale = made(max(RAMPS), 4, common=0.001, slope=0.007)
    little, much = (evidence(nights, scale, nights, scale, ramp_stake=stake) for stake in (1.0, STAKE))
    assert little + np.log(2) < much <= little + np.log(STAKE)
    little, much = (evidence(nights[1:], scale, nights[1:], scale, ramp_stake=stake) for stake in (1.0, STAKE))
    assert little == much


def test_quiet_nights_give_the_stake_on_every_shape_on_average():
    values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        nights, scale = made(max(RAMPS), 2, seed=seed, offset=rng.normal(0, np.sqrt(0.0002)))
        values.append(np.exp(evidence(nights, scale, nights, scale, ramp_stake=STAKE)))
    assert np.mean(values) < len(_PROFILES) - 1 + STAKE + 4 * np.std(values) / np.sqrt(len(values))
    assert np.mean(np.array(values) > 200) < 0.02

"""What a candidate has to show before it may take the champion's place: one function a gate, each giving a value.

A gate says what was measured on how many examples, what the policy allows, and in a sentence what that means. Whether
a gate applies is decided by who calls (`comparison`); nothing here scores, reads or promotes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, permutation_test

from sentiment_core.model.slices import SliceComparison
from sentiment_core.policy import BehaviourLimits, PromotionGates

Flags = npt.NDArray[np.bool_]
Errors = npt.NDArray[np.float64]
_PERMUTATIONS = 9_999
"""The smallest p-value that can be told is one over one more."""


class Answers(Protocol):
    """What a model said of some reviews."""

    @property
    def is_right(self) -> Flags: ...  # noqa: D102
    @property
    def error(self) -> Errors: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One condition of a promotion, and how it came out."""

    name: str
    figure: float | None
    """None where there was nothing to measure."""
    limit: float
    outcome: Literal["passed", "failed", "skipped"]
    """skipped: too little to measure on; it neither helps nor hinders."""
    n: int
    """Reviews (or examples) behind the figure."""
    sentence: str

    @property
    def is_passed(self) -> bool:
        """Whether it lets the candidate through."""
        return self.outcome != "failed"


class Examination(Protocol):
    """A behavioural test as `behaviour` reports it."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def n(self) -> int: ...  # noqa: D102
    @property
    def n_failed(self) -> int: ...  # noqa: D102


def fresh_labels(n_fresh: int, limits: PromotionGates) -> Gate:
    """Without people's judgement of new reviews nothing says that the candidate is better."""
    found = f"{n_fresh:,} fresh held-out reviews" if n_fresh else "no fresh labels"
    return Gate(
        name="fresh_labels",
        figure=n_fresh,
        limit=limits.min_fresh_rows,
        outcome=_outcome(n_fresh >= limits.min_fresh_rows),
        n=n_fresh,
        sentence=f"{found} to compare on ({limits.min_fresh_rows} needed)",
    )


def better_on_fresh(ours: Answers, theirs: Answers, limits: PromotionGates, *, n_learnt: int = 0) -> Gate:
    """Better than the champion on the same fresh reviews, by one of two one-sided paired tests, corrected for being two.

    Right answers are compared by the exact McNemar test (McNemar 1947). It sees only reviews on which the models disagree,
    a tenth of them or fewer. The squared errors of the probabilities (Brier 1950) change on every review, and are compared
    by a permutation test (Pitman 1937); they count only where the candidate is right no less often. `n_learnt` of the
    reviews were learnt from by the candidate, and judged by models without them (`crossing`).
    """
    won, lost = int((ours.is_right & ~theirs.is_right).sum()), int((theirs.is_right & ~ours.is_right).sum())
    p_values = [float(binomtest(won, won + lost, 0.5, alternative="greater").pvalue) if won + lost else 1.0]
    if won >= lost:
        p_values.append(_smaller_errors_p(ours.error, theirs.error))
    said = (
        f"right on {_percent(ours.is_right)} of {_reviews(len(ours.error), n_learnt)}, the champion on {_percent(theirs.is_right)} "
        f"({won} won, {lost} lost, squared error {ours.error.mean():.3f} against {theirs.error.mean():.3f}, "
    )
    return _tested("better_on_fresh", min(1.0, 2 * min(p_values)), len(ours.error), said, limits)


def _reviews(n: int, n_learnt: int) -> str:
    """How many there were, and of which kind.

    >>> _reviews(600, 0), _reviews(1600, 1000)
    ('600 fresh reviews', '1,600 fresh reviews (600 held out, 1,000 judged by models fitted without their products)')
    """
    told = f" ({n - n_learnt:,} held out, {n_learnt:,} judged by models fitted without their products)" if n_learnt else ""
    return f"{n:,} fresh reviews{told}"


def _smaller_errors_p(ours: Errors, theirs: Errors) -> float:
    """P-value of a mean difference as large by chance, signs being as likely as not; the same for the same errors."""
    found = permutation_test(
        (theirs - ours,),
        np.mean,
        vectorized=True,
        permutation_type="samples",
        alternative="greater",
        n_resamples=_PERMUTATIONS,
        batch=_PERMUTATIONS // 20,
        rng=0,
    )
    return float(found.pvalue)


def kept_on_standing(ours: Flags, theirs: Flags, limits: PromotionGates) -> Gate:
    """Hardly worse than the champion on what has been learnt before."""
    if not len(ours):
        return _skipped("kept_on_standing", limits.max_standing_loss, 0, "no standing reviews held out to compare on")
    loss = float(theirs.mean() - ours.mean())
    return Gate(
        name="kept_on_standing",
        figure=loss,
        limit=limits.max_standing_loss,
        # A loss of exactly the limit is allowed, whatever the last bit of a difference of means says.
        outcome=_outcome(loss <= limits.max_standing_loss + 1e-12),
        n=len(ours),
        sentence=f"right on {_percent(ours)} of {len(ours):,} standing reviews, the champion on {_percent(theirs)} "
        f"(a loss of {100 * limits.max_standing_loss:.1f} points is allowed)",
    )


def better_than_majority(ours: Flags, labels: npt.NDArray[np.str_], limits: PromotionGates) -> Gate:
    """A first model has nobody to beat but whoever always says the commonest class."""
    share = float(np.unique(labels, return_counts=True)[1].max() / len(labels))
    p_value = float(binomtest(int(ours.sum()), len(labels), share, alternative="greater").pvalue)
    said = (
        f"the first model, right on {_percent(ours)} of {len(labels):,} held-out reviews, where always saying "
        f"the commonest class is on {100 * share:.1f} % ("
    )
    return _tested("better_than_majority", p_value, len(labels), said, limits)


def class_floors(
    predicted: npt.NDArray[np.str_], labels: npt.NDArray[np.str_], classes: Sequence[str], limits: PromotionGates
) -> list[Gate]:
    """F1 of every class: overall figures hide a class that is given up."""
    floors = {"negative": limits.min_f1_negative, "neutral": limits.min_f1_neutral, "positive": limits.min_f1_positive}
    return [_class_floor(name, predicted == name, labels == name, floors[name], limits.min_class_rows) for name in classes]


def _class_floor(name: str, said: Flags, true: Flags, floor: float, min_rows: int) -> Gate:
    n = int(true.sum())
    if n < min_rows:
        return _skipped(f"floor_{name}", floor, n, f"too few {name} reviews held out to judge the class ({n} of {min_rows})")
    f1 = float(2 * (said & true).sum() / (said.sum() + true.sum()))
    return Gate(
        name=f"floor_{name}",
        figure=f1,
        limit=floor,
        outcome=_outcome(f1 >= floor),
        n=n,
        sentence=f"F1 of {name} is {f1:.3f} (at least {floor:g} needed)",
    )


def calibration(error: float, n: int, limits: PromotionGates) -> Gate:
    """Probabilities mean what they say; see `evaluation.calibration_error`."""
    return Gate(
        name="calibration",
        figure=error,
        limit=limits.max_ece,
        outcome=_outcome(error <= limits.max_ece),
        n=n,
        sentence=f"calibration error {error:.3f} on {n:,} held-out reviews (at most {limits.max_ece:g} allowed)",
    )


def behaviour(results: Iterable[Examination], limits: BehaviourLimits) -> list[Gate]:
    """Behavioural tests (Ribeiro et al. 2020): each may fail on a share of its examples."""
    return [_behaviour(result, getattr(limits, result.name, limits.other)) for result in results if result.n]


def _behaviour(result: Examination, limit: float) -> Gate:
    share = result.n_failed / result.n
    return Gate(
        name=f"behaviour_{result.name}",
        figure=share,
        limit=limit,
        outcome=_outcome(share <= limit),
        n=result.n,
        sentence=f"fails {result.n_failed} of {result.n} sentences about {result.name.replace('_', ' ')} "
        f"({100 * limit:g} % allowed)",
    )


def kept_on_slices(parts: Sequence[SliceComparison], limits: PromotionGates) -> Gate:
    """Not clearly worse than the champion on any part of the reviews, which a mean would hide.

    Parts are small and many, so that a loss counts only when it is also more than chance, corrected for their number.
    """
    lost = [part for part in parts if part.p_value <= limits.alpha and part.champion - part.candidate > limits.max_slice_loss]
    told = "; ".join(
        f"{part.column} {part.name}: {100 * part.candidate:.1f} % of {part.n:,}, the champion {100 * part.champion:.1f} %"
        for part in sorted(lost, key=lambda part: part.p_value)
    )
    return Gate(
        name="kept_on_slices",
        figure=max((part.champion - part.candidate for part in lost or parts), default=None),
        limit=limits.max_slice_loss,
        outcome=_outcome(not lost) if parts else "skipped",
        n=len(parts),
        sentence=f"clearly worse on parts of the reviews ({told})" if lost else f"not clearly worse on any of {len(parts)} parts",
    )


def speed(reviews_per_second: float, n: int, limits: PromotionGates) -> Gate:
    """Quick enough for the nights that come."""
    return Gate(
        name="speed",
        figure=reviews_per_second,
        limit=limits.min_reviews_per_second,
        outcome=_outcome(reviews_per_second >= limits.min_reviews_per_second),
        n=n,
        sentence=f"scores {reviews_per_second:,.0f} reviews a second (at least {limits.min_reviews_per_second:,} needed)",
    )


def size(n_bytes: int, limits: PromotionGates) -> Gate:
    """Small enough for every worker that has to hold it."""
    megabytes = n_bytes / 1e6
    return Gate(
        name="size",
        figure=megabytes,
        limit=limits.max_model_megabytes,
        outcome=_outcome(megabytes <= limits.max_model_megabytes),
        n=1,
        sentence=f"takes {megabytes:,.1f} MB (at most {limits.max_model_megabytes:,} allowed)",
    )


def reason(gates: Sequence[Gate]) -> str:
    """Why a candidate is held, or what speaks for it."""
    failed = [gate for gate in gates if not gate.is_passed]
    told = failed or [gate for gate in gates if gate.name in ("better_on_fresh", "kept_on_standing", "better_than_majority")]
    return "; ".join(gate.sentence for gate in told)


def _tested(name: str, p_value: float, n: int, said: str, limits: PromotionGates) -> Gate:
    return Gate(
        name=name,
        figure=p_value,
        limit=limits.alpha,
        outcome=_outcome(p_value <= limits.alpha),
        n=n,
        sentence=f"{said}p {_p(p_value)}, at most {limits.alpha:g} allowed)",
    )


def _skipped(name: str, limit: float, n: int, sentence: str) -> Gate:
    return Gate(name=name, figure=None, limit=limit, outcome="skipped", n=n, sentence=sentence)


def _p(value: float) -> str:
    """A p-value in a sentence.

    >>> _p(0.0123), _p(0.0)
    ('= 0.012', '< 1e-99')
    """
    return f"= {value:.2g}" if value >= 1e-99 else "< 1e-99"  # noqa: PLR2004  # nobody asks further


def _outcome(is_good: bool) -> Literal["passed", "failed"]:
    return "passed" if is_good else "failed"


def _percent(is_right: Flags) -> str:
    return f"{100 * is_right.mean():.1f} %"

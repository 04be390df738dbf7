"""How often drift checks cry wolf and how soon they see the wolf: nights drawn from reviews that nothing has seen before.

`python -m tests.benchmarks.drift_nights` simulates quiet years and planted drift, with the product's own measuring and
verdicts, on several divisions of the films, and states every figure with its interval beside what it has to reach. One
line a figure; the same seeds give the same figures. What nights are made of is `drift_material`'s business.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from scipy import stats

from sentiment_core.domain import DriftVerdict
from sentiment_core.drift.checks import checks, failures
from sentiment_core.drift.history import History, Labels, Night, PastNight
from sentiment_core.drift.measure import Measurement, measure
from sentiment_core.drift.reference import group_numbers
from sentiment_core.drift.verdict import conclude
from sentiment_core.policy import DRIFT_MODES, Drift
from tests.benchmarks.drift_material import Material, material, policy
from tests.benchmarks.measuring import REPOSITORY, BenchError, Tell
from tests.benchmarks.table import Row

if TYPE_CHECKING:
    from tests.benchmarks.parts import Bench

FIRST = date(2026, 1, 1)
DOMAINS = ("books", "electronics", "youtube", "flipkart")
GARBAGE = ("letters", "emoji", "bytes", "words", "advert", "one text", "praise")
HARMLESS = ("html", "mojibake")
FULL, QUICK = {"years": 4, "nights": 365, "trials": 50}, {"years": 1, "nights": 60, "trials": 10}
"""In `make bench`, some minutes, a year of each division; by itself this module plays twenty, in the better part of an hour."""
FULL_ROUNDS = 5
"""Of the other parts, where `make bench` is not a first look."""
_LABELLED_SHARE = 0.2
_RAMP = 60
"""Nights from nothing to a fifth."""
_PAST_NIGHTS = 180
"""As many earlier nights as the policy looks back upon."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line."""

    name: str
    n: int
    """Nights or trials behind it."""
    value: float
    low: float
    high: float
    """95 % interval: of shares Clopper and Pearson's, of means plus and minus two standard errors."""
    goal: float
    is_at_most: bool
    note: str = ""

    @property
    def is_reached(self) -> bool:
        """Whether the value itself lies on the right side."""
        return self.value <= self.goal if self.is_at_most else self.value >= self.goal

    def __str__(self) -> str:
        sign = "<=" if self.is_at_most else ">="
        return (
            f"{self.name:58s} {self.value:8.4f}  [{self.low:.4f}, {self.high:.4f}]  {sign} {self.goal:<6g} "
            f"{'yes' if self.is_reached else 'NO':3s}  n={self.n:,} {self.note}"
        )


def share(name: str, n_found: int, n: int, goal: float, *, is_at_most: bool, note: str = "") -> Figure:
    """A share with the interval of Clopper and Pearson.

    >>> share("none of 7300", 0, 7300, 0.003, is_at_most=True).high < 0.0006
    True
    """
    low = float(stats.beta.ppf(0.025, n_found, n - n_found + 1)) if n_found else 0.0
    high = float(stats.beta.ppf(0.975, n_found + 1, n - n_found)) if n_found < n else 1.0
    return Figure(name=name, n=n, value=n_found / n, low=low, high=high, goal=goal, is_at_most=is_at_most, note=note)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A night and what became of it."""

    measured: Measurement
    verdicts: dict[str, DriftVerdict]
    """By mode of the policy; they differ in retrains alone."""
    truth: float
    """Accuracy by all labels."""

    @property
    def word(self) -> str:
        """The verdict where one night is enough."""
        return self.verdicts["threshold"].verdict


class Stage:
    """A model version and the nights it sees; chance comes from a seed."""

    def __init__(self, made: Material, limits: Drift, seed: int) -> None:
        self._made, self.limits = made, limits
        self._rng = np.random.default_rng(seed)
        self._films = made.pools["films"].combine_chunks()
        numbers = group_numbers(self._films)
        order = np.argsort(numbers, kind="stable")
        self._sizes = np.bincount(numbers)
        self._products = np.split(order, np.cumsum(self._sizes)[:-1])

    def rows(self, n: int, *, is_clustered: bool, domain: str = "", part: float = 0.0) -> pa.Table:
        """Reviews of a night: single ones, or all of a product; a part of them of another domain."""
        n_foreign = int(self._rng.binomial(n, part)) if domain else 0
        rows = self._films.take(pa.array(self._own(n - n_foreign, is_clustered=is_clustered)))
        if not n_foreign:
            return rows
        pool = self._made.pools[domain]
        places = self._rng.choice(len(pool), n_foreign, replace=n_foreign > len(pool))
        return pa.concat_tables([rows, pool.take(pa.array(places))])

    def _own(self, n: int, *, is_clustered: bool) -> np.ndarray:
        """Places of films' reviews: single ones, or product after product until there are enough."""
        if not is_clustered:
            return self._rng.choice(len(self._films), n, replace=n > len(self._films))
        order = self._rng.permutation(len(self._products))
        n_products = int(np.searchsorted(np.cumsum(self._sizes[order]), n)) + 1
        return np.concatenate([self._products[place] for place in order[:n_products]])[:n]

    def moody(self, n: int, positive: float) -> pa.Table:
        """Films, so many of them positive."""
        is_positive = self._films["true_label"].to_numpy(zero_copy_only=False) == "positive"
        weights = np.where(is_positive, positive / is_positive.sum(), (1 - positive) / (~is_positive).sum())
        return self._films.take(pa.array(self._rng.choice(len(weights), n, p=weights)))

    def judge(self, rows: pa.Table, *, day: date | None = None, past: tuple[PastNight, ...] = (), n_labels: int = 0) -> Judged:
        """The verdict on a night; a fifth of its labels is known."""
        is_right = rows["label"].to_numpy(zero_copy_only=False) == rows["true_label"].to_numpy(zero_copy_only=False)
        known = is_right[self._rng.random(len(rows)) < _LABELLED_SHARE]
        labels = Labels(n=len(known), n_right=int(known.sum()))
        night = Night(rows=rows, n=len(rows), window_date=day, labels=labels)
        history = History(nights=past, n_new_labels=n_labels)
        measured = measure(self._made.reference, night, history=history, limits=self.limits)
        failed = failures(checks(measured, self.limits))
        verdicts = {mode: conclude(measured, failed, replace(self.limits, mode=mode)) for mode in DRIFT_MODES}
        return Judged(measured=measured, verdicts=verdicts, truth=float(is_right.mean()))

    def nights(self, n_nights: int, make: Callable[[int], pa.Table]) -> Iterator[Judged]:
        """Nights one after the other, each with those before it for a history."""
        past: list[PastNight] = []
        for number in range(n_nights):
            day = FIRST + timedelta(days=number)
            judged = self.judge(make(number), day=day, past=tuple(past[-_PAST_NIGHTS:]), n_labels=10_000)
            past.append(
                PastNight(
                    window_date=day,
                    n=judged.measured.n,
                    verdict=judged.verdicts["threshold"].verdict,
                    p_value=judged.measured.p_value,
                    effect=judged.measured.effect,
                    labels=judged.measured.labels,
                    statistics=judged.measured.statistics,
                )
            )
            yield judged


def quiet_years(
    stages: list[Stage], *, n: int, years: int, nights: int, is_clustered: bool, goal: float, tell: Tell
) -> list[Figure]:
    """False alarms of quiet years; labels arrive all the time, so that only drift is missing for a retrain."""
    words: dict[str, Counter[str]] = {mode: Counter() for mode in DRIFT_MODES}
    errors = []
    for year in range(years):
        tell(f"quiet year {year + 1} of {years}, {n:,} reviews a night")
        stage = stages[year % len(stages)]
        for judged in stage.nights(nights, lambda _, stage=stage: stage.rows(n, is_clustered=is_clustered)):
            for mode, verdict in judged.verdicts.items():
                words[mode][verdict.verdict] += 1
            if judged.measured.estimate is not None:
                errors.append(abs(judged.measured.estimate.accuracy - judged.truth))
    name = f"quiet, n={n:,}, {'clustered by product' if is_clustered else 'not clustered'}"
    total = years * nights
    n_calm = words["threshold"]["quiet"] + words["threshold"]["too_few"]
    found = [share(f"{name}: warn or worse", total - n_calm, total, goal, is_at_most=True)]
    for mode in DRIFT_MODES:
        n_retrains = words[mode]["retrain"]
        bound = float(stats.chi2.ppf(0.95, 2 * (n_retrains + 1)) / 2 / (total / 365))
        note = f"at most {bound:.2f} a year at 95 %"
        found.append(share(f"{name}: retrain in mode {mode}", n_retrains, total, 0.0, is_at_most=True, note=note))
    if n == 2_000:  # what the goal is stated for
        found.append(_mean(f"{name}: error of the estimated accuracy", errors, 0.006))
    return found


def without_history(
    stages: list[Stage], *, n: int, nights: int, is_clustered: bool, goal: float, tell: Tell, is_named: bool = True
) -> Figure:
    """False alarms of quiet nights judged by themselves, as files are.

    Args:
        stages: divisions, each for as many of the nights.
        n: reviews of a night.
        nights: how many.
        is_clustered: whether a night holds all reviews of its products.
        goal: share that may be warned of.
        tell: says what goes on.
        is_named: whether rows say which product they are of; what they are not told of, checks guess from the reference.
    """
    kind = f"{'clustered by product' if is_clustered else 'not clustered'}{'' if is_named else ', products not named'}"
    tell(f"{nights:,} nights without history, {n:,} reviews each, {kind}")
    words: Counter[str] = Counter()
    n_lone = 0
    for number in range(nights):
        stage = stages[number % len(stages)]
        rows = stage.rows(n, is_clustered=is_clustered)
        judged = stage.judge(rows if is_named else _unnamed(rows), day=FIRST)
        words[judged.word] += 1
        n_lone += judged.measured.p_whole <= stage.limits.warn_p < judged.measured.p_value
    note = f"{n_lone} of them but for leaving a product out" if n_lone else ""
    return share(f"no history, n={n:,}, {kind}: warn or worse", nights - words["quiet"], nights, goal, is_at_most=True, note=note)


def _unnamed(rows: pa.Table) -> pa.Table:
    place = rows.column_names.index("product_id")
    return rows.set_column(place, rows.schema.field(place), pa.nulls(len(rows), rows.schema.field(place).type))


def first_night(
    stages: list[Stage], *, domain: str, part: float, n: int, trials: int, is_clustered: bool, goal: float = 0.95
) -> Figure:
    """How often a domain is seen in the first night."""
    n_seen = 0
    for trial in range(trials):
        stage = stages[trial % len(stages)]
        rows = stage.rows(n, is_clustered=is_clustered, domain=domain, part=part)
        n_seen += stage.judge(rows, day=FIRST).word != "quiet"
    kind = "clustered" if is_clustered else "not clustered"
    return share(f"{part:.0%} {domain}, n={n:,}, {kind}: seen at once", n_seen, trials, goal, is_at_most=False)


def within(stages: list[Stage], *, domain: str, part: float, n: int, nights: int, trials: int, goal: float) -> Figure:
    """How often a small part of a domain is seen within some nights, with no nights before it."""
    n_seen = 0
    for trial in range(trials):
        stage = stages[trial % len(stages)]
        make = lambda _, stage=stage: stage.rows(n, is_clustered=True, domain=domain, part=part)  # noqa: E731
        n_seen += any(judged.word != "quiet" for judged in stage.nights(nights, make))
    return share(f"{part:.0%} {domain}, n={n:,}: seen within {nights} nights", n_seen, trials, goal, is_at_most=False)


def ramp(stages: list[Stage], *, domain: str, n: int, quiet: int, trials: int) -> Figure:
    """From nothing to a fifth in 60 nights: at which share it is seen."""
    shares = []
    for trial in range(trials):
        stage = stages[trial % len(stages)]

        def make(number: int, stage: Stage = stage) -> pa.Table:
            return stage.rows(n, is_clustered=True, domain=domain, part=_share_on(number - quiet))

        nights = enumerate(stage.nights(quiet + _RAMP, make))
        seen = next((number for number, judged in nights if number >= quiet and judged.word != "quiet"), quiet + _RAMP)
        shares.append(_share_on(seen - quiet))
    n_soon = sum(value <= 0.05 + 1e-9 for value in shares)
    note = f"seen at {np.mean(shares):.1%} on average, {max(shares):.1%} at worst"
    name = f"ramp of {domain}, n={n:,}, after {quiet} quiet nights: seen by 5 %"
    return share(name, n_soon, trials, 0.95, is_at_most=False, note=note)


def _share_on(number: int) -> float:
    """Of a night of the ramp, from 0."""
    return max(0, number + 1) / _RAMP * 0.2


def never_retrain(stages: list[Stage], *, kind: str, part: float, n: int, trials: int, allowed: tuple[str, ...]) -> Figure:
    """How often what harms nobody, or is no review, gets another word than those allowed."""
    words: Counter[str] = Counter()
    for trial in range(trials):
        stage = stages[trial % len(stages)]
        is_clustered = trial // len(stages) % 2 == 1
        rows = stage.moody(n, 0.8) if kind == "mood" else stage.rows(n, is_clustered=is_clustered, domain=kind, part=part)
        words[stage.judge(rows, day=FIRST).word] += 1
    wrong = trials - sum(words[word] for word in allowed)
    what = "50 to 80 % positive" if kind == "mood" else f"{part:.0%} {kind}"
    note = ", ".join(f"{word} {times}" for word, times in words.most_common())
    return share(f"{what}, n={n:,}: other than {' or '.join(allowed)}", wrong, trials, 0.0, is_at_most=True, note=note)


def estimates(stages: list[Stage], *, domain: str, trials: int) -> Figure:
    """Error of the estimated accuracy on nights half of which are of another domain."""
    errors = []
    for trial in range(trials):
        stage = stages[trial % len(stages)]
        judged = stage.judge(stage.rows(2_000, is_clustered=False, domain=domain, part=0.5), day=FIRST)
        assert judged.measured.estimate is not None
        errors.append(abs(judged.measured.estimate.accuracy - judged.truth))
    return _mean(f"50% {domain}, n=2,000: error of the estimated accuracy", errors, 0.02)


def decision_time(stage: Stage) -> Figure:
    """Seconds that a night of 10,000 takes, the first one of a process not counted."""
    rows = stage.rows(10_000, is_clustered=False)
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        stage.judge(rows, day=FIRST)
        seconds.append(time.perf_counter() - began)
    return _mean("a night of 10,000: seconds to decide", seconds[1:], 1.0)


def _mean(name: str, values: list[float], goal: float) -> Figure:
    error = 2 * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    mean = float(np.mean(values))
    return Figure(name=name, n=len(values), value=mean, low=mean - error, high=mean + error, goal=goal, is_at_most=True)


def figures(stages: list[Stage], *, years: int, nights: int, trials: int, tell: Tell) -> Iterator[Figure]:
    """Everything, one after the other."""
    yield from power(stages, trials=trials, tell=tell)
    for n, is_clustered in ((100, True), (500, True), (2_000, True), (2_000, False)):
        goal = 0.01 if n == 100 else 0.003  # a small night may be wrong more often
        yield from quiet_years(stages, n=n, years=years, nights=nights, is_clustered=is_clustered, goal=goal, tell=tell)
    # Not fewer: of 182 nights, one that is warned of by chance is twice what the goal allows.
    yield from without_histories(stages, nights=years * nights, tell=tell)
    # Two fifths of the films are 10,000 reviews: larger nights would hold all of them.
    large = max(1, years // 4)
    yield from quiet_years(stages, n=8_000, years=large, nights=nights, is_clustered=False, goal=0.003, tell=tell)


def without_histories(stages: list[Stage], *, nights: int, tell: Tell) -> Iterator[Figure]:
    """Files judged by themselves: small and large, clustered or not, and such as do not name products."""
    for is_clustered in (True, False):
        for n in (100, 500, 2_000):
            goal = 0.01 if n == 100 else 0.003
            yield without_history(stages, n=n, nights=nights, is_clustered=is_clustered, goal=goal, tell=tell)
        few = max(1, nights // 5)  # so many reviews are most of what there is: the nights are nearly the same
        yield without_history(stages, n=8_000, nights=few, is_clustered=is_clustered, goal=0.003, tell=tell)
    for n in (500, 2_000):
        yield without_history(stages, n=n, nights=nights, is_clustered=True, is_named=False, goal=0.003, tell=tell)


def power(stages: list[Stage], *, trials: int, tell: Tell) -> Iterator[Figure]:
    """What is planted, and what becomes of it."""
    few = max(4, trials // 5)
    yield decision_time(stages[0])
    for domain in DOMAINS:
        tell(f"{domain}: {trials} trials of each part")
        for is_clustered in (False, True):
            yield first_night(stages, domain=domain, part=0.1, n=2_000, trials=trials, is_clustered=is_clustered)
            yield first_night(stages, domain=domain, part=0.25, n=500, trials=trials, is_clustered=is_clustered)
        yield within(stages, domain=domain, part=0.05, n=2_000, nights=5, trials=trials, goal=0.8)
        # Ten once hid that it failed two times in five. Of 50, 48 is what a ramp seen in .97 of trials reaches four times in five.
        yield ramp(stages, domain=domain, n=2_000, quiet=0, trials=5 * trials)
        yield ramp(stages, domain=domain, n=2_000, quiet=40, trials=few)
        yield estimates(stages, domain=domain, trials=trials)
    yield first_night(stages, domain="negated", part=1.0, n=2_000, trials=few, is_clustered=False)
    tell("what harms nobody, and what is no review")
    for kind in (*HARMLESS, "mood"):
        yield never_retrain(stages, kind=kind, part=1.0, n=2_000, trials=trials, allowed=("quiet", "warn"))
    for kind in GARBAGE:
        for n in (500, 2_000):
            yield never_retrain(stages, kind=kind, part=0.1, n=n, trials=2 * trials, allowed=("warn", "quarantine"))
        # Of much garbage some passes for plausible, and most labels are wrong.
        for part in (0.25, 0.5, 0.9):
            yield never_retrain(stages, kind=kind, part=part, n=2_000, trials=trials, allowed=("warn", "quarantine"))


def make_stages(kept: Path, divisions: int, *, tell: Tell) -> list[Stage]:
    """A stage for each division of the films."""
    limits = policy().drift
    return [Stage(material(kept, division, tell=tell), limits, seed=division) for division in range(divisions)]


def drift(bench: "Bench") -> Iterator[Row]:
    """The part of `make bench`: every figure a row, its interval in a note."""
    sizes, divisions = (QUICK, 1) if bench.sizes.rounds < FULL_ROUNDS else (FULL, 4)
    for figure in figures(make_stages(bench.kept, divisions, tell=bench.tell), **sizes, tell=bench.tell):
        yield Row(
            section="drift: quiet nights and planted drift (shares; errors and seconds in hundredths of one)",
            name=figure.name,
            n=figure.n,
            cpu_s=None,
            wall_s=None,
            mb_per_s=None,
            peak_mb=None,
            ratio=figure.value,
            goal=figure.goal,
            is_share=True,
            is_at_most=figure.is_at_most,
            note=f"95 %: {figure.low:.2%} to {figure.high:.2%}{'; ' if figure.note else ''}{figure.note}",
        )


def main() -> int:
    """Print every figure as it is found; 1 when one misses its goal."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.drift_nights", description=__doc__.splitlines()[0])
    parser.add_argument("--years", type=int, default=20, help="simulated years for each kind of quiet night")
    parser.add_argument("--nights", type=int, default=365, help="nights of a year")
    parser.add_argument("--trials", type=int, default=100, help="trials for each kind of drift")
    parser.add_argument("--divisions", type=int, default=4, help="divisions of the films into training and nights")
    parser.add_argument("--json", action="store_true", help="one line of JSON a figure")
    asked = parser.parse_args()

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        stages = make_stages(REPOSITORY / ".local" / "bench", asked.divisions, tell=tell)
    except BenchError as error:
        tell(str(error))
        return 1
    missed = 0
    for figure in figures(stages, years=asked.years, nights=asked.nights, trials=asked.trials, tell=tell):
        missed += not figure.is_reached
        print(json.dumps({**asdict(figure), "is_reached": figure.is_reached}) if asked.json else figure, flush=True)
    return min(1, missed)


if __name__ == "__main__":
    sys.exit(main())

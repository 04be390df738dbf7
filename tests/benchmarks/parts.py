"""The parts of the benchmark: which contenders are raced against which, on how much text, and what the ratios have to be.

Each part takes a Bench and gives rows. A wrong result is an error, never a row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import corpus, drift_nights, night_parts, nights, peers
from tests.benchmarks.measuring import BenchError, Contender, Race, Tell, race, worker
from tests.benchmarks.models import MODELS, fitted_path
from tests.benchmarks.table import Row

TOLERANCE = 1e-9
OURS = "ours"
SCIKIT_LEARN, PYFUNC, HASHING = "scikit-learn predict_proba", "mlflow.pyfunc predict", "HashingVectorizer(1,2) + dot"
CLEAN_STEM, LIMIT = "clean + stem + scikit-learn", "limit: tokenise and hash"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much text everybody gets, and how often."""

    rounds: int
    n: dict[str, int]
    """Reviews by contender: quick ones get more, so that a turn can be timed."""
    n_features: int
    n_night: int
    n_night_peers: dict[str, int]
    night_models: tuple[str, ...]
    night_rounds: int
    growth: tuple[int, ...]


FULL = Sizes(
    rounds=5,
    n={OURS: 25_000, SCIKIT_LEARN: 4_000, PYFUNC: 4_000, HASHING: 4_000, CLEAN_STEM: 1_000, LIMIT: 25_000},
    n_features=10_000,
    n_night=1_000_000,
    n_night_peers={nights.SCIKIT_LEARN: 20_000, nights.CLEAN_STEM: 5_000},
    night_models=("plain-1m", "naive-bayes"),
    night_rounds=3,
    growth=(100_000, 1_000_000, 4_000_000),
)
QUICK = Sizes(
    rounds=3,
    n={OURS: 10_000, SCIKIT_LEARN: 1_000, PYFUNC: 1_000, HASHING: 1_000, CLEAN_STEM: 300, LIMIT: 10_000},
    n_features=3_000,
    n_night=100_000,
    n_night_peers={nights.SCIKIT_LEARN: 4_000, nights.CLEAN_STEM: 1_000},
    night_models=("plain-1m",),
    night_rounds=1,
    growth=(50_000, 200_000),
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every part works with."""

    sizes: Sizes
    source: corpus.Originals
    kept: Path
    """Models and texts, kept from run to run."""
    workspace: Path
    """Answers and logs of this run."""
    with_peers: bool
    tell: Tell
    paths: dict[str, Path] = field(default_factory=dict)
    """Fitted models, settled once a run."""

    def fitted(self, model: str) -> Path:
        """Path of the fitted model; a process of its own fits it where it has not been."""
        path = self.paths.setdefault(model, fitted_path(model, self.source, self.kept))
        if not path.exists():
            for older in path.parent.glob(f"{model}-*"):
                older.unlink()
            fitter = worker({"contender": f"fit {model}", "model": model, "model_path": str(path)}, self.workspace)
            race([fitter], 1, self.tell)
        return path

    def contender(self, name: str, model: str, *, threads: int = 1) -> Contender:
        """A contender of `contenders`."""
        n = self.sizes.n[name.split(", ", maxsplit=1)[0]]
        return worker({**self.spec(name, model), "n": n, "threads": threads}, self.workspace)

    def spec(self, name: str, model: str) -> dict[str, Any]:
        """What a contender is told."""
        return {
            "contender": name,
            "model": model,
            "model_path": str(self.fitted(model)),
            "answers": str(self.answers(name, model)),
        }

    def answers(self, name: str, model: str) -> Path:
        """Where a contender leaves its probabilities."""
        return self.workspace / f"{model}-{name.replace(' ', '-').replace('/', '-')}.npy"


def kernel(bench: Bench) -> Iterator[Row]:
    """Probabilities of texts in memory, one thread each."""
    yield from _kernel(bench, "plain-1m", [SCIKIT_LEARN, PYFUNC, HASHING, CLEAN_STEM, LIMIT], list(peers.NAMES))
    yield from _kernel(bench, "plain-100k", [SCIKIT_LEARN, LIMIT], goals={LIMIT: 0.15})
    yield from _kernel(bench, "default", [SCIKIT_LEARN, PYFUNC, LIMIT])
    yield from _kernel(bench, "naive-bayes", [SCIKIT_LEARN, LIMIT], [peers.VOWPAL_WABBIT])


def _kernel(
    bench: Bench, model: str, others: list[str], programs: list[str] | None = None, *, goals: dict[str, float] | None = None
) -> Iterator[Row]:
    goals = {SCIKIT_LEARN: 40, peers.VOWPAL_WABBIT: 2.5, **(goals or {})}
    n_features = _n_features(bench, model)
    section = f"one core: {MODELS[model].title}, {n_features:,} features"
    started = [bench.contender(name, model) for name in (OURS, *others)]
    if bench.with_peers and programs:
        ngram_max = MODELS[model].estimator().ngram_max
        started += peers.start(
            programs, bench.source, bench.kept, bench.workspace,
            n=bench.sizes.n[OURS], ngram_max=ngram_max, n_features=n_features, tell=bench.tell,
        )  # fmt: skip
    found = race(started, bench.sizes.rounds, bench.tell)
    difference = _difference(bench, model)
    yield Row.of(section, OURS, found.typical(OURS))
    for name in (name for name in found.turns if name != OURS):
        is_limit = name == LIMIT
        ratio = found.ratio(LIMIT, OURS) if is_limit else found.ratio(name, OURS)
        note = f"differs by at most {difference:.0e}" if name == SCIKIT_LEARN else "ours as a share of it" if is_limit else ""
        yield Row.of(section, name, found.typical(name), ratio=ratio, goal=goals.get(name), is_share=is_limit, note=note)


def _n_features(bench: Bench, model: str) -> int:
    from tests.benchmarks import models

    return int(np.shape(models.load(bench.fitted(model)).coef_)[1])


def _difference(bench: Bench, model: str) -> float:
    """Largest difference from scikit-learn's probabilities; raises BenchError when it is more than rounding."""
    ours, theirs = (np.load(bench.answers(name, model)) for name in (OURS, SCIKIT_LEARN))
    found = float(np.abs(ours[: len(theirs)] - theirs).max())
    if not found <= TOLERANCE:
        raise BenchError(f"{model}: probabilities differ from scikit-learn's by {found:.2e}, more than {TOLERANCE:.0e}")
    return found


def cores(bench: Bench) -> Iterator[Row]:
    """The same texts with one thread and with two."""
    for model in ("plain-1m", "default"):
        section = f"two cores: {MODELS[model].title}"
        one, two = (f"{OURS}, {name}" for name in ("one thread", "two threads"))
        found = race([bench.contender(one, model), bench.contender(two, model, threads=2)], bench.sizes.rounds, bench.tell)
        yield Row.of(section, one, found.typical(one), per_wall=True)
        ratio = found.ratio(one, two, "wall_per_byte")
        yield Row.of(
            section, two, found.typical(two), per_wall=True, ratio=ratio, goal=1.6, note="times one thread, by the clock"
        )


def training(bench: Bench) -> Iterator[Row]:
    """Learning a dictionary and counting its terms."""
    for model in ("plain-100k", "default"):
        names = ("our vectoriser", "CountVectorizer")
        specs = [{"contender": name, "model": model, "n": bench.sizes.n_features} for name in names]
        found = race([worker(spec, bench.workspace) for spec in specs], min(bench.sizes.rounds, 3), bench.tell)
        _agree(found, names)
        section = f"features for training: {MODELS[model].title}"
        yield Row.of(section, names[0], found.typical(names[0]), per_wall=True, note="over all cores")
        theirs = found.typical(names[1])
        by_clock, in_cpu = (found.ratio(names[1], names[0], measure) for measure in ("wall_per_byte", "cpu_per_byte"))
        yield Row.of(section, names[1], theirs, per_wall=True, ratio=by_clock, goal=8, note="by the clock")
        yield Row.of(section, f"{names[1]}, in CPU", theirs, ratio=in_cpu)


def _agree(found: Race, names: tuple[str, str]) -> None:
    # Which of several equally frequent terms make it into a full dictionary is nobody's law; how many and how often is.
    ours, theirs = (found.typical(name).result for name in names)
    if ours != theirs:
        raise BenchError(f"features for training: ours are {ours}, CountVectorizer's {theirs}")


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "kernel": kernel,
    "cores": cores,
    "training": training,
    "end-to-end": night_parts.end_to_end,
    "growth": night_parts.growth,
    "drift": drift_nights.drift,
}

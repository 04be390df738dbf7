"""What a retrain gives back: half of the nights' reviews are suddenly of another domain, a fifth of them gets labelled.

`python -m tests.benchmarks.recovery` trains a champion on films, lets a domain come in, retrains from the labels that
arrived, and asks how much of the way to an oracle, which has every label, the retrained model comes; accuracies are
those on held-out reviews of other products. The pipeline's own functions split, train and compare; only servers are
left out. One line a trial, and at the end the bounds. Same seeds, same figures; a trial takes two minutes of a core, so
that runs of some seeds each can be put together (`--read`). What all seeds and domains gave stands in recovery.md.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentiment_core import schema
from sentiment_core.model.behaviour import examine_behaviour
from sentiment_core.model.comparison import compare
from sentiment_core.model.training import train
from sentiment_core.policy import Policy, read_policy
from sentiment_core.stages.training_sets import _mark_origins
from tests.benchmarks.measuring import REPOSITORY, BenchError

DATA = Path(os.environ.get("REVIEWS_DATA_DIR", REPOSITORY.parent / "shared" / "data"))
FILMS = "imdb_train.parquet"
DOMAINS = {"amazon": "amazon_books_electronics.parquet", "youtube": "youtube_train.parquet", "flipkart": "flipkart_train.parquet"}
LABELLED_SHARE = 0.2
MIN_RECOVERED, MAX_LOSS = 0.5, 0.01
RESULTS = Path(__file__).with_suffix(".md")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Reviews of each part."""

    champion: int = 8_000
    test: int = 2_000
    arrived: int = 4_000
    """Of the other domain at most; as many films come with them."""
    test_share: float = 0.3
    """Of the other domain's reviews, held back to measure on."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Accuracies before, after and with all labels, on the old domain and on the new."""

    domain: str
    seed: int
    outcome: str
    reason: str
    n_labels: int
    before: tuple[float, float]
    after: tuple[float, float]
    oracle: tuple[float, float]
    seconds: float

    def recovered(self) -> float:
        """The share of the gap to the oracle on the new domain that is closed."""
        return (self.after[1] - self.before[1]) / (self.oracle[1] - self.before[1])

    def recovered_on_nights(self) -> float:
        """The same on nights that are half of each."""
        return (sum(self.after) - sum(self.before)) / (sum(self.oracle) - sum(self.before))

    def lost(self) -> float:
        """Accuracy lost on the old domain."""
        return self.before[0] - self.after[0]


def main() -> int:
    """Run the trials, print the bounds; 1 when they are not reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.recovery", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--domain", action="append", choices=DOMAINS)
    parser.add_argument("--trials", type=int, help="recipes tried in each search; default: as the policy says")
    parser.add_argument("--read", type=Path, action="append", default=[], metavar="FILE", help="what an earlier run printed")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    parser.add_argument("--policy", type=Path, default=REPOSITORY / "include" / "policy.toml")
    options = parser.parse_args()
    policy = read_policy(options.policy)
    if options.trials:
        policy = _replaced(policy, options.trials)
    trials = [trial for path in options.read for trial in _printed(path)]
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for trial in play(seed, options.domain or list(DOMAINS), policy, Sizes()):
            trials.append(trial)
            print(
                json.dumps({**vars(trial), "recovered": round(trial.recovered(), 3), "lost": round(trial.lost(), 4)}), flush=True
            )
    found = summarise(trials)
    print(json.dumps(found, indent=1))
    if options.write:
        RESULTS.write_text(_told(trials, found), encoding="utf-8")
    return 0 if found["is_reached"] else 1


def _printed(path: Path) -> Iterator[Trial]:
    """The trials among the lines of an earlier run."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith('{"domain"'):
            values = {name: value for name, value in json.loads(line).items() if name not in ("recovered", "lost")}
            yield Trial(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _told(trials: list[Trial], found: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# What a retrain gives back",
        "",
        "Half of the nights' reviews are suddenly of another domain, and a fifth gets labels: accuracies of the champion, of the",
        "retrained model and of an oracle that has every label. Written by `python -m tests.benchmarks.recovery --write`.",
        "",
        f"* date: {datetime.now(UTC):%Y-%m-%d}; {len(trials)} trials, {found['promoted']} promoted",
        *(f"* {name.replace('_', ' ')}: {_interval(found[name])}" for name in found if name.startswith(("recovered", "lost"))),
        "",
        "| domain | seed | outcome | labels | before: films, new | after: films, new | oracle: films, new | recovered | lost on films |",
        "|---|---:|---|---:|---|---|---|---:|---:|",
    ]
    for trial in sorted(trials, key=lambda trial: (trial.domain, trial.seed)):
        pairs = (f"{100 * films:.1f} %, {100 * new:.1f} %" for films, new in (trial.before, trial.after, trial.oracle))
        cells = [
            trial.domain, str(trial.seed), trial.outcome, f"{trial.n_labels:,}", *pairs,
            f"{100 * trial.recovered():.0f} %", f"{100 * trial.lost():.1f} points",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _interval(bounds: dict[str, float] | None) -> str:
    return (
        "none"
        if bounds is None
        else f"mean {bounds['mean']:.3f}, lower 90 % bound {bounds['lower_90']:.3f}, upper {bounds['upper_90']:.3f}"
    )


def _replaced(policy: Policy, n_trials: int) -> Policy:
    from dataclasses import replace

    return replace(policy, search=replace(policy.search, trials=n_trials))


def play(seed: int, domains: list[str], policy: Policy, sizes: Sizes) -> Iterator[Trial]:
    """The trials of one seed: one champion, and every domain coming in."""
    rng = np.random.default_rng(seed)
    films = _by_product(_rows(FILMS), rng)
    standing, films = films[: sizes.champion], films[sizes.champion :]
    test_films, more_films = films[: sizes.test], films[sizes.test :]
    champion = train(_table(standing), policy=policy, seed=seed)
    for domain in domains:
        began = time.monotonic()
        rows = _by_product(_rows(DOMAINS[domain]), rng)
        n_test = round(sizes.test_share * len(rows))
        test, arrived = rows[:n_test], rows[n_test : n_test + sizes.arrived]
        nights = _shuffled([*arrived, *more_films[: len(arrived)]], rng)
        labelled = nights[: round(LABELLED_SHARE * len(nights))]
        snapshot, oracle_set = (_extended(standing, rows, policy) for rows in (labelled, nights))
        candidate = train(snapshot, policy=policy, seed=seed)
        oracle = train(oracle_set, policy=policy, seed=seed)
        judged = compare(
            champion.estimator,
            candidate.estimator,
            snapshot,
            policy,
            champion_snapshot=_table(standing),
            examine=examine_behaviour,
        )
        before, after, best = (
            (_accuracy(model.estimator, test_films), _accuracy(model.estimator, test)) for model in (champion, candidate, oracle)
        )
        yield Trial(
            domain=domain, seed=seed, outcome=judged.outcome, reason=judged.reason, n_labels=len(labelled),
            before=before, after=after, oracle=best, seconds=round(time.monotonic() - began, 1),
        )  # fmt: skip


def summarise(trials: list[Trial]) -> dict[str, Any]:
    """Means over trials with lower 90 % bounds; a candidate that was held has recovered nothing."""
    promoted = [trial for trial in trials if trial.outcome == "promoted"]
    found: dict[str, Any] = {"trials": len(trials), "promoted": len(promoted)}
    for name, values in {
        "recovered_by_candidates": [trial.recovered() for trial in trials],
        "recovered_holds_counting_nothing": [trial.recovered() if trial in promoted else 0.0 for trial in trials],
        "recovered_by_promoted": [trial.recovered() for trial in promoted],
        "recovered_on_nights_by_promoted": [trial.recovered_on_nights() for trial in promoted],
        "lost_on_films_by_promoted": [trial.lost() for trial in promoted],
    }.items():
        found[name] = _bounds(np.array(values))
    for domain in sorted({trial.domain for trial in trials}):
        own = [trial for trial in promoted if trial.domain == domain]
        found[domain] = {"promoted": len(own), "recovered": _bounds(np.array([trial.recovered() for trial in own]))}
    is_recovered = bool(promoted) and found["recovered_by_promoted"]["lower_90"] >= MIN_RECOVERED
    found["is_reached"] = is_recovered and found["lost_on_films_by_promoted"]["mean"] <= MAX_LOSS
    return found


def _bounds(values: np.ndarray) -> dict[str, float] | None:
    """Mean and the lower bound of a one-sided 90 % bootstrap interval of it."""
    if not len(values):
        return None
    means = np.random.default_rng(0).choice(values, (4_000, len(values))).mean(axis=1)
    return {
        "mean": round(float(values.mean()), 4),
        "lower_90": round(float(np.quantile(means, 0.1)), 4),
        "upper_90": round(float(np.quantile(means, 0.9)), 4),
    }


def _rows(name: str) -> list[dict[str, Any]]:
    path = DATA / name
    if not path.is_file():
        raise BenchError(f"{path}: real reviews are needed; REVIEWS_DATA_DIR says where they are")
    table = pq.read_table(path)
    rows = table.to_pylist()
    if (
        "positive" not in table.column_names
    ):  # comments that are neither are left out: a model of two classes has no word for them
        rows = [row for row in rows if row["label"] != "neutral"]
    return [
        {
            "review_id": str(row["review_id"]),
            "product_id": str(row["product_id"]) if row.get("product_id") is not None else None,
            "source": name.partition("_")[0],
            "text": row["text"],
            "label": row["label"] if "label" in row else "positive" if row["positive"] else "negative",
            "origin": "standing",
            "labelled_at": None,
        }
        for row in rows
    ]


def _by_product(rows: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Products in any order, the rows of each together, so that a cut divides products."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["product_id"] or row["text"], []).append(row)
    members = list(groups.values())
    return [row for place in rng.permutation(len(members)) for row in members[place]]


def _shuffled(rows: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    return [rows[place] for place in rng.permutation(len(rows))]


def _extended(standing: list[dict[str, Any]], labelled: list[dict[str, Any]], policy: Policy) -> pa.Table:
    """The training set that a retrain builds; labels arrive in the order of the rows."""
    fresh = [
        {**row, "labelled_at": np.datetime64("2026-11-01") + np.timedelta64(place, "s")} for place, row in enumerate(labelled)
    ]
    _mark_origins(standing, fresh, SimpleNamespace(policy=policy))
    for row in fresh:
        row["labelled_at"] = None
    return _table([*standing, *fresh])


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema.SNAPSHOT)


def _accuracy(estimator: Any, rows: list[dict[str, Any]]) -> float:
    predicted = estimator.predict([row["text"] for row in rows])
    return round(float(np.mean([label == row["label"] for label, row in zip(predicted, rows, strict=True)])), 4)


if __name__ == "__main__":
    sys.exit(main())

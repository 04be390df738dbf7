"""Rehearsals: what a policy would have made of nights, past or simulated; nothing is set off or written down.

Here nights are fetched, from PostgreSQL, from files (`judging` reads them) or out of a reference, and what came of them is
summed up. How a night is judged is the business of `drift`; what is shown, the command line's.
"""

import multiprocessing
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sentiment_core.errors import Permanent
from sentiment_core.pipeline import n_cores
from sentiment_core.policy import Policy, read_policy
from sentiment_core.stages.judging import Tell, open_model, read_rows
from sentiment_core.stages.services import Services

if TYPE_CHECKING:
    import pyarrow as pa

    from sentiment_core.drift.history import Night
    from sentiment_core.drift.reference import Reference
    from sentiment_core.drift.rehearsal import Planted, Rehearsed

_DATE = re.compile(r"(?:^date=|^)(\d{4}-\d{2}-\d{2})")
_AWAY_FROM_THE_START = 30
"""Nights of a simulated year before drift comes in where no date is named: by then the past has taught what is usual."""
_FIVE = 5
_WORTH_PROCESSES = 200
"""Simulated nights from which on other processes are started: that takes two seconds, a night a twentieth of one."""


@dataclass(frozen=True, kw_only=True)
class Injection:
    """Drift to plant: reviews of a file in the place of a share of the nights' own."""

    path: Path
    share: float
    ramp: int
    first: date | None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be rehearsed."""

    policy_path: Path | None
    folder: Path | None
    first: date | None
    last: date | None
    model: str
    injections: tuple[Injection, ...]
    n_years: int
    n_nights: int
    n_reviews: int
    labelled_share: float
    is_clustered: bool


def replay(services: Services, asked: Asked, *, tell: Tell) -> dict[str, Any]:
    """Judge past nights again, oldest first, each with the history that it would have had."""
    from sentiment_core.drift.rehearsal import Rehearsal, with_planted

    policy, path = _policy(services, asked)
    opened = open_model(services, asked.model)
    planted = _planted(services, opened, asked, None, tell)
    rehearsal = Rehearsal(reference=opened.reference, policy=policy)
    played = []
    for night in _nights(services, opened, asked, tell):
        tell(f"judging {night.window_date}")
        mixed, share = with_planted(night, planted, seed=0)
        played.append(rehearsal.play(mixed, planted_share=share))
    if not played:
        raise Permanent(
            "rehearsal", expected="at least one night", found="none in that range",
            remedy="name another range with --from and --to, or a folder of files by date with --folder",
        )  # fmt: skip
    words = [night.verdict.verdict for night in played]
    return {
        "policy": str(path),
        "mode": policy.drift.mode,
        "model_version": opened.ref.version,
        "nights": [_told(night) for night in played],
        "counts": {word: words.count(word) for word in ("quiet", "warn", "retrain", "quarantine", "too_few")},
        "warnings": _dates(played, "warn"),
        "quarantines": _dates(played, "quarantine"),
        "retrains": [str(night.window_date) for night in played if night.sets_off_retrain],
        "planted": [_detected(played, drift) for drift in planted],
        "note": ""
        if not rehearsal.requests
        else "Nothing was trained: after a retrain the rehearsal went on with the same model.",
    }


def rehearse_years(services: Services, asked: Asked, *, tell: Tell) -> dict[str, Any]:
    """Years of nights out of the reference, and what a policy makes of them, with intervals."""
    from sentiment_core.drift.rehearsal import rate, share

    policy, path = _policy(services, asked)
    opened = open_model(services, asked.model)
    if opened.reference is None:
        from sentiment_core.drift.measure import HOW_TO_MAKE_A_REFERENCE

        raise Permanent(
            f"version {opened.ref.version}",
            expected="a reference to draw nights from",
            found="none",
            remedy=HOW_TO_MAKE_A_REFERENCE,
        )
    first = asked.first or date(datetime.now(UTC).year, 1, 1)
    planted = _planted(services, opened, asked, first + timedelta(days=_AWAY_FROM_THE_START), tell)
    years: list[list[Rehearsed]] = []
    jobs = [
        _Year(reference=opened.reference, policy=policy, year=year, first=first, asked=asked, planted=tuple(planted))
        for year in range(asked.n_years)
    ]
    tell(f"0 of {asked.n_years} years")
    for played in _side_by_side(jobs):
        years.append(played)
        tell(f"{len(years)} of {asked.n_years} years")
    told = [_year(played) for played in years]
    n_alarms = sum(year["warn"] + year["retrain"] + year["quarantine"] for year in told)
    return {
        "policy": str(path),
        "mode": policy.drift.mode,
        "model_version": opened.ref.version,
        "nights_a_year": asked.n_nights,
        "n_reviews": asked.n_reviews,
        "is_clustered": asked.is_clustered,
        "years": told,
        "a_year": {
            name: asdict(rate([year[name] for year in told], n_nights=asked.n_nights))
            for name in ("warn", "retrain", "retrains", "quarantine")
        },
        "alarm_share": asdict(share(n_alarms, asked.n_years * asked.n_nights)),
        "planted": [_power(years, drift) for drift in planted],
        "note": "Half of the reference's products were the reference, the nights came from the others: of a reference half as large, "
        "and from the same few thousand reviews again and again, so that more alarms are counted than there would be.",
    }


@dataclass(frozen=True, kw_only=True)
class _Year:
    """A year to simulate, with all that a process of its own needs."""

    reference: "Reference"
    policy: Policy
    year: int
    first: date
    asked: Asked
    planted: "tuple[Planted, ...]"

    def play(self) -> "list[Rehearsed]":
        from threadpoolctl import threadpool_limits

        from sentiment_core.drift.rehearsal import quiet_year

        asked = self.asked
        with threadpool_limits(1):  # years run side by side: threads of their own would only wait for each other
            return list(
                quiet_year(
                    self.reference, self.policy, year=self.year, first=self.first, n_nights=asked.n_nights,
                    n_reviews=asked.n_reviews, labelled_share=asked.labelled_share,
                    is_clustered=asked.is_clustered, planted=self.planted,
                )
            )  # fmt: skip


def _side_by_side(jobs: Sequence[_Year]) -> "Iterator[list[Rehearsed]]":
    """The years in order, as many at once as there are cores."""
    n_processes = min(n_cores(), len(jobs))
    n_nights = sum(job.asked.n_nights for job in jobs)
    if n_processes == 1 or n_nights < _WORTH_PROCESSES:
        yield from (job.play() for job in jobs)
        return
    with ProcessPoolExecutor(n_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_Year.play, jobs)


def _policy(services: Services, asked: Asked) -> tuple[Policy, Path]:
    path = asked.policy_path or services.settings.policy_path
    return read_policy(path), path


def _nights(services: Services, model: Any, asked: Asked, tell: Tell) -> Iterator["Night"]:
    return _nights_of_files(services, model, asked, tell) if asked.folder else _nights_scored(services, model, asked)


def _nights_of_files(services: Services, model: Any, asked: Asked, tell: Tell) -> Iterator["Night"]:
    """Nights from a folder, by the dates in the names; a night's files are judged together."""
    import pyarrow as pa

    from sentiment_core.drift.history import Night
    from sentiment_core.drift.rehearsal import labels_of

    for day, paths in sorted(_files_by_date(asked).items()):
        parts = []
        for path in paths:
            tell(f"scoring {path.name}")
            parts.append(read_rows(services, model, path, tell))
        rows = pa.concat_tables([rows for rows, _ in parts]).combine_chunks()
        # Each file brings a sample of its own; a large one among small ones would be drowned without its share.
        rows = _in_proportion(rows, parts)
        yield Night(rows=rows, n=sum(n for _, n in parts), window_date=day, labels=labels_of(rows))


def _in_proportion(rows: "pa.Table", parts: Sequence[tuple["pa.Table", int]]) -> "pa.Table":
    import pyarrow as pa

    least = min(len(part) / max(n, 1) for part, n in parts)
    if all(abs(len(part) / max(n, 1) - least) < 1e-9 for part, n in parts):  # noqa: PLR2004  # equal but for rounding
        return rows
    rng = np.random.default_rng(0)
    kept = [part.take(pa.array(np.sort(rng.choice(len(part), round(least * n), replace=False)))) for part, n in parts]
    return pa.concat_tables(kept).combine_chunks()


def _files_by_date(asked: Asked) -> dict[date, list[Path]]:
    from sentiment_core.reviews.layout import is_review_key

    folder = asked.folder or Path()
    if not folder.is_dir():
        raise Permanent(f"folder {folder}", expected="a folder of files by date", found="none", remedy="check its name")
    found: dict[date, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        day = next((date.fromisoformat(match[1]) for part in place.parts if (match := _DATE.match(part))), None)
        if path.is_file() and is_review_key(str(place)) and day and _is_asked(day, asked):
            found.setdefault(day, []).append(path)
    return found


def _is_asked(day: date, asked: Asked) -> bool:
    return (asked.first or date.min) <= day <= (asked.last or date.max)


def _nights_scored(services: Services, model: Any, asked: Asked) -> Iterator["Night"]:
    """Past nights as the model scored them, out of their sketches, with the labels that have arrived since."""
    import pyarrow as pa

    from sentiment_core.drift.rehearsal import TRUE_LABEL, labels_of
    from sentiment_core.stages.checking import night_of
    from sentiment_core.store import records

    version = model.ref.version
    for day, n in records.nights_of_version(services.engine, version, first=asked.first or date.min, last=asked.last or date.max):
        night = night_of(services, day, version, n=n)
        said = records.labels_of(services.engine, day, version)
        labels = pa.array([said.get(key) for key in night.rows["review_id"].to_pylist()], pa.string())
        rows = night.rows.append_column(TRUE_LABEL, labels)
        yield replace(night, rows=rows, labels=night.labels or labels_of(rows))


def _planted(services: Services, model: Any, asked: Asked, first: date | None, tell: Tell) -> list["Planted"]:
    from sentiment_core.drift.rehearsal import Planted

    found = []
    for injection in asked.injections:
        rows, _ = read_rows(services, model, injection.path, tell)
        if not len(rows):
            raise Permanent(
                str(injection.path),
                expected="reviews to plant",
                found="none that can be read",
                remedy="check the file's column text",
            )
        day = injection.first or first
        if day is None:
            raise Permanent(
                f"drift to plant from {injection.path.name}",
                expected="the first night, from=YYYY-MM-DD",
                found="none",
                remedy="add it",
            )
        found.append(Planted(name=injection.path.name, rows=rows, share=injection.share, first=day, ramp=injection.ramp))
    return found


def _told(night: "Rehearsed") -> dict[str, Any]:
    verdict = night.verdict
    return {
        "date": str(night.window_date),
        "n": verdict.n,
        "verdict": verdict.verdict,
        "p_value": verdict.p_value,
        "effect": verdict.effect,
        "estimated_accuracy": verdict.estimated_accuracy,
        "labelled_accuracy": verdict.labelled_accuracy,
        "sets_off_retrain": night.sets_off_retrain,
        "objection": night.objection,
        "planted_share": round(night.planted_share, 4),
        "sentence": verdict.sentence,
    }


def _dates(nights: Sequence["Rehearsed"], word: str) -> list[str]:
    return [str(night.window_date) for night in nights if night.verdict.verdict == word]


def _detected(nights: Sequence["Rehearsed"], drift: "Planted") -> dict[str, Any]:
    from sentiment_core.drift.rehearsal import nights_until

    return {
        "domain": drift.name,
        "share": drift.share,
        "from": str(drift.first),
        "ramp": drift.ramp,
        "nights_to_warn": nights_until(nights, drift.first),
        "nights_to_retrain": nights_until(nights, drift.first, is_retrain=True),
    }


def _year(nights: Sequence["Rehearsed"]) -> dict[str, Any]:
    words = [night.verdict.verdict for night in nights]
    counts = {word: words.count(word) for word in ("warn", "retrain", "quarantine", "too_few")}
    retrains = [str(night.window_date) for night in nights if night.sets_off_retrain]
    return {"nights": len(nights), **counts, "retrains": len(retrains), "retrain_dates": retrains}


def _power(years: Sequence[Sequence["Rehearsed"]], drift: "Planted") -> dict[str, Any]:
    from sentiment_core.drift.rehearsal import share

    each = [_detected(nights, drift) for nights in years]
    warned = [found["nights_to_warn"] or float("inf") for found in each]
    median = float(np.median(warned))
    return {
        **{name: each[0][name] for name in ("domain", "share", "from", "ramp")},
        "nights_to_warn": [found["nights_to_warn"] for found in each],
        "nights_to_retrain": [found["nights_to_retrain"] for found in each],
        "median_nights_to_warn": median if np.isfinite(median) else None,
        "first_night": asdict(share(sum(n == 1 for n in warned), len(years))),
        "within_five_nights": asdict(share(sum(n <= _FIVE for n in warned), len(years))),
        "n_retrained": sum(found["nights_to_retrain"] is not None for found in each),
    }

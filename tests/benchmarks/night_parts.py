"""Nights from S3 to PostgreSQL on the embedded servers: the product against pandas, and against itself with more reviews.

CPU time is that of the client and of all servers; what each took is a line of its own. The slow ways get fewer reviews,
and are compared a byte of text, as if they were linear.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.benchmarks import corpus, models
from tests.benchmarks.measuring import Contender, Race, Turn, at_the_start, worker
from tests.benchmarks.nights import CLEAN_STEM, OURS, SCIKIT_LEARN
from tests.benchmarks.servers import PEER_TABLE, Servers, started
from tests.benchmarks.table import Row

if TYPE_CHECKING:
    from tests.benchmarks.parts import Bench

FIRST_DAY = date(2026, 11, 1)
_PEAK_GOAL_MB = 700
_LARGE_NIGHT = 1_000_000
_WARM_UP_REVIEWS = 1_000
# Wall and CPU: how many times quicker than each.
_GOALS = {SCIKIT_LEARN: (35, 20), CLEAN_STEM: (100, 70)}


class Nights:
    """Servers with a registered model and one day's folder for every size of night."""

    def __init__(self, bench: "Bench", servers: Servers, model: str) -> None:
        self._bench = bench
        self._servers = servers
        self._model = model
        self._days: dict[int, tuple[date, int]] = {}
        estimator = models.load(bench.fitted(model))
        bench.tell(f"registering {model}")
        servers.register(model, estimator, bench.source.texts.slice(0, 500))

    def contender(self, name: str) -> Contender:
        """A process that scores nights; it may use every core."""
        return worker({**self._bench.spec(name, self._model), "threads": 0}, self._bench.workspace, variables={})

    def turn(self, contender: Contender, n: int) -> Turn:
        """One night of `n` reviews into a fresh database, checked; CPU time with the servers'."""
        day, n_bytes = self._day(n)
        with self._servers.database() as url:
            self._bench.tell(f"{contender.name}: a night of {n:,} reviews")
            before = self._servers.cpu()
            turn = contender.go(settings=self._servers.settings(url, self._model), day=day.isoformat(), n_bytes=n_bytes)
            spent = {name: cpu_s - before[name] for name, cpu_s in self._servers.cpu().items()}
            self._bench.tell(f"{contender.name}: counting")
            self._servers.check(url, "scored_reviews" if contender.name == OURS else PEER_TABLE, n)
        stages = {f"client: {name}": seconds for name, seconds in turn.result.items()}
        by_server = {name: [None, cpu_s] for name, cpu_s in spent.items()}
        return replace(turn, cpu_s=turn.cpu_s + sum(spent.values()), result=stages | by_server)

    def _day(self, n: int) -> tuple[date, int]:
        if n not in self._days:
            scaled = corpus.ScaledCorpus(self._bench.source, self._bench.kept)
            parts = scaled.parts(n, part_rows=min(n, corpus.PART_ROWS), tell=self._bench.tell)
            day = FIRST_DAY + timedelta(days=len(self._days))
            self._servers.deliver(day, parts, self._bench.tell)
            self._days[n] = day, sum(_text_bytes(path) for path in parts)
        return self._days[n]


def end_to_end(bench: "Bench") -> Iterator[Row]:
    """Ours against scikit-learn and against cleaning and stemming, both with pandas' to_sql."""
    for model in bench.sizes.night_models:
        with _nights(bench, model) as nights:
            sizes = {OURS: bench.sizes.n_night, **bench.sizes.n_night_peers}
            found = _race(nights, sizes, bench.sizes.night_rounds, bench)
        section = f"S3 to PostgreSQL: {models.MODELS[model].title}"
        yield from _with_stages(section, "ours", found.typical(OURS))
        for name in bench.sizes.n_night_peers:
            wall, cpu = (found.ratio(name, OURS, measure) for measure in ("wall_per_byte", "cpu_per_byte"))
            title = name.removeprefix("night, ")
            lines = list(_with_stages(section, title, found.typical(name)))
            yield replace(lines[0], ratio=wall, goal=_GOALS[name][0], note="by the clock")
            yield replace(lines[0], name=f"{title}, in CPU", ratio=cpu, goal=_GOALS[name][1], note="servers included")
            yield from lines[1:]


def growth(bench: "Bench") -> Iterator[Row]:
    """Nights of more and more reviews, each in a process of its own: time a review, and memory."""
    with _nights(bench, bench.sizes.night_models[0]) as nights:
        turns: list[Turn] = []
        for n in bench.sizes.growth:
            with at_the_start([nights.contender(OURS)], bench.tell) as [contender]:
                nights.turn(contender, _WARM_UP_REVIEWS)
                turns.append(nights.turn(contender, n))
            rate, first = (turn.n / turn.wall_s for turn in (turns[-1], turns[0]))
            yield Row.of(
                "growth: S3 to PostgreSQL, memory of the client", f"{rate:,.0f} reviews/s", turns[-1], per_wall=True,
                ratio=rate / first, note="rate against the first line's", is_memory=n >= _LARGE_NIGHT,
                goal=_PEAK_GOAL_MB if n >= _LARGE_NIGHT else None,
            )  # fmt: skip


@contextmanager
def _nights(bench: "Bench", model: str) -> Iterator[Nights]:
    # Servers have passwords of their own: another part's folder would not let them in.
    with started(Path(tempfile.mkdtemp(prefix="servers-", dir=bench.workspace)), bench.tell) as servers:
        yield Nights(bench, servers, model)


def _race(nights: Nights, sizes: dict[str, int], rounds: int, bench: "Bench") -> Race:
    turns: dict[str, list[Turn]] = {name: [] for name in sizes}
    with at_the_start([nights.contender(name) for name in sizes], bench.tell) as started_:
        for contender in started_:
            nights.turn(contender, _WARM_UP_REVIEWS)
        for _ in range(rounds):
            for contender in started_:
                turns[contender.name].append(nights.turn(contender, sizes[contender.name]))
    return Race(turns)


def _with_stages(section: str, name: str, turn: Turn) -> Iterator[Row]:
    yield Row.of(section, name, turn, per_wall=True)
    for stage, (wall_s, cpu_s) in turn.result.items():
        yield Row(section=section, name=f"· {stage}", n=None, cpu_s=cpu_s, wall_s=wall_s, mb_per_s=None, peak_mb=None)


def _text_bytes(path: Path) -> int:
    """Bytes of the column `text`, from the file's own figures where it has them."""
    return sum(
        int(pc.sum(pc.binary_length(batch.column(0))).as_py()) for batch in pq.ParquetFile(path).iter_batches(columns=["text"])
    )

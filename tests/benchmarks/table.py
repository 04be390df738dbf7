"""The table of results: on a terminal, as Markdown, as JSON. What the figures are is decided by `parts`."""

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.benchmarks.measuring import MEGABYTE, Turn

COLUMNS = ("", "n", "CPU s", "wall s", "MB/s", "peak MB", "ratio", "goal", "met")
WIDTH = 100
_WIDTHS = (34, 9, 6, 6, 6, 7, 6, 9, 3)
_DISTRIBUTIONS = ("numba", "numpy", "scikit-learn", "pyarrow", "mlflow", "pandas")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    section: str
    name: str
    n: int | None
    cpu_s: float | None
    wall_s: float | None
    mb_per_s: float | None
    peak_mb: float | None
    ratio: float | None = None
    """How many times quicker ours is; a share where `is_share`."""
    goal: float | None = None
    """What the ratio has to reach; where `is_memory`, what peak_mb has to stay under."""
    is_share: bool = False
    is_memory: bool = False
    is_at_most: bool = False
    """Whether the ratio must not exceed the goal."""
    note: str = ""

    @classmethod
    def of(cls, section: str, name: str, turn: Turn, *, per_wall: bool = False, **more: Any) -> "Row":
        """A row from a typical turn; MB/s are those of CPU time unless `per_wall`."""
        seconds = turn.wall_s if per_wall else turn.cpu_s
        return cls(
            section=section, name=name, n=turn.n, cpu_s=turn.cpu_s, wall_s=turn.wall_s,
            mb_per_s=turn.n_bytes / MEGABYTE / seconds, peak_mb=turn.peak_bytes / MEGABYTE, **more,
        )  # fmt: skip

    @property
    def is_reached(self) -> bool | None:
        """None where there is no goal."""
        if self.goal is None:
            return None
        if self.is_memory:
            return self.peak_mb is not None and self.peak_mb <= self.goal
        if self.is_at_most:
            return self.ratio is not None and self.ratio <= self.goal
        return self.ratio is not None and self.ratio >= self.goal

    def cells(self) -> tuple[str, ...]:
        """Text of the columns; the goal carries a mark where it is not reached."""
        return (
            self.name,
            _shown(self.n, "{:,}"),
            _shown(self.cpu_s, _seconds),
            _shown(self.wall_s, _seconds),
            _shown(self.mb_per_s, "{:,.1f}" if (self.mb_per_s or 0) < 100 else "{:,.0f}"),
            _shown(self.peak_mb, "{:,.0f}"),
            _shown(self.ratio, self._times),
            _shown(self.goal, "<= {:,.0f} MB" if self.is_memory else self._goal),
            {None: "", True: "yes", False: "NO"}[self.is_reached],
        )

    def _goal(self, goal: float) -> str:
        return f"{'<=' if self.is_at_most else '>='} {self._times(goal)}"

    def _times(self, value: float) -> str:
        if self.is_share:
            return f"{value:.1%}"
        return f"{value:,.0f}x" if value >= 100 else f"{value:.3g}x"


def show(rows: Sequence[Row], notes: Iterable[str], console: Console) -> None:
    """Print the table, at home in 100 columns."""
    console.print(_section([], is_header=True))
    for section, members in groupby(rows, key=lambda row: row.section):
        console.print(f"\n{section}", style="bold", highlight=False)
        console.print(_section(members))
    console.print()
    for note in notes:
        console.print(note, style="dim", highlight=False)


def _section(rows: Iterable[Row], *, is_header: bool = False) -> Table:
    # Of fixed widths, so that the sections stand below one another as one table.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=is_header, header_style="bold underline")
    for number, (column, width) in enumerate(zip(COLUMNS, _WIDTHS, strict=True)):
        table.add_column(column, justify="right" if number else "left", width=width)
    for row in rows:
        name, *figures, reached = row.cells()
        style = {None: "", True: "green", False: "bold red"}[row.is_reached]
        table.add_row(Text(f"  {name}"), *figures, Text(reached, style=style))
        if row.note:
            table.add_row(Text(f"    {row.note}", style="dim"))
    return table


def markdown(rows: Sequence[Row], notes: Iterable[str], machine: dict[str, str]) -> str:
    """The table as a document, with the machine and the date."""
    lines = ["# Benchmarks", "", "Written by `make bench`; every ratio was measured in one run, contenders taking turns.", ""]
    lines += [f"* {name}: {value}" for name, value in machine.items()]
    for section, members in groupby(rows, key=lambda row: row.section):
        lines += ["", f"## {section}", "", "| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
        for row in members:
            name, *figures = row.cells()
            lines.append("| " + " | ".join([name + (f" ({row.note})" if row.note else ""), *figures]) + " |")
    return "\n".join([*lines, "", *(f"{note}\n" for note in notes)])


def as_json(rows: Sequence[Row], notes: Iterable[str], machine: dict[str, str]) -> dict[str, Any]:
    """Everything as plain values."""
    return {"machine": machine, "rows": [{**asdict(row), "is_reached": row.is_reached} for row in rows], "notes": list(notes)}


def describe_machine(postgres: str | None) -> dict[str, str]:
    """What was measured on, and with what."""
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in _DISTRIBUTIONS)]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "machine": f"{_processor()}, {psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB, {platform.platform()}",
        "versions": ", ".join(versions + ([postgres] if postgres else [])),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _shown(value: float | None, how: str | Callable[[float], str]) -> str:
    if value is None:
        return ""
    return how.format(value) if isinstance(how, str) else how(value)


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"

"""What the pages say of models: who is champion, how every version came to its state, its gates, and the recipes tried.

Pure functions over events, oldest first, and over the gates and trials that are kept with them; no markup, no I/O. MLflow is not asked: what it knows of a decision stands in
model_events as well.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sentiment_core.store.overview import ModelEvent
from sentiment_core.trials import Trial, is_number, parameters, ranked, scale, varied, words
from sentiment_pages.charts import Strip, draw_strip
from sentiment_pages.views import NOTHING, long_date

# Word for a version's state, and the mark and colour that go with it.
STATES = {
    "champion": ("Champion", "champion"),
    "challenger": ("Challenger", "challenger"),
    "held": ("Held", "none"),
    "retired": ("Retired", "none"),
    "rolled_back": ("Rolled back", "refused"),
    "registered": ("Registered", "none"),
}
OUTCOMES = {"passed": ("Passed", "passed"), "failed": ("Failed", "refused"), "skipped": ("Not judged", "none")}
STRIP_WIDTH = 150


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """A gate of a comparison."""

    name: str
    outcome: str
    """Key of OUTCOMES."""
    figure: str
    limit: str
    n: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class RecipeRow:
    """A recipe that was tried in a search."""

    place: int
    name: str
    is_whole: bool
    """False when it was given up before its last fold."""
    mean: str
    accuracy: str
    macro_f1: str
    seconds: str
    strip: Strip | None
    parameters: str


@dataclass(frozen=True, kw_only=True)
class Version:
    """A model version, out of all its events."""

    number: int
    state: str
    """Key of STATES."""
    events: tuple[ModelEvent, ...]
    ended: ModelEvent | None = None
    """What took the champion's place from it, where that was a rollback."""

    @property
    def trained_at(self) -> datetime:
        """When it was first heard of."""
        return self.events[0].at

    @property
    def story(self) -> str:
        """What happened to it last, in words."""
        if self.ended:
            return self.ended.reason[:1].upper() + self.ended.reason[1:]
        return f"{word(self.events[-1])}: {self.events[-1].reason}"

    @property
    def figures(self) -> dict[str, Any]:
        """Figures on the held-out reviews: those of its training, else of its latest comparison."""
        found = [event.figures for event in self.events if event.figures]
        trained = [event.figures for event in self.events if event.event == "registered" and event.figures]
        return (trained or found or [{}])[-1]

    @property
    def decision(self) -> ModelEvent | None:
        """The event of its latest comparison with a champion."""
        return next((event for event in reversed(self.events) if event.has_gates), None)

    @property
    def search(self) -> ModelEvent | None:
        """The event of its training, where what was tried is known."""
        return next((event for event in reversed(self.events) if event.has_trials), None)


def versions(events: Sequence[ModelEvent]) -> list[Version]:
    """Every version with its state, the newest first.

    The challenger is the latest that has never been champion.
    """
    states: dict[int, str] = {}
    rollbacks: dict[int, ModelEvent] = {}
    champion: int | None = None
    for event in events:
        number = event.model_version
        if event.event in ("promoted", "rolled_back"):
            if champion is not None and champion != number:
                states[champion] = "retired" if event.event == "promoted" else "rolled_back"
                rollbacks |= {champion: event} if event.event == "rolled_back" else {}
            states[number], champion = "champion", number
        elif states.get(number) in (None, "registered"):
            states[number] = event.event
    latest = max(states, default=0)
    if states.get(latest) in ("registered", "held"):
        states[latest] = "challenger"
    return [
        Version(
            number=number,
            state=state,
            events=tuple(event for event in events if event.model_version == number),
            ended=rollbacks.get(number) if state == "rolled_back" else None,
        )
        for number, state in sorted(states.items(), reverse=True)
    ]


def headline(found: Iterable[Version]) -> str:
    """Who is champion, in a sentence."""
    champion = next((version for version in found if version.state == "champion"), None)
    return f"Version {champion.number} is champion." if champion else "No version is champion yet."


def since(found: Iterable[Version]) -> str:
    """Since when, and how it came to it."""
    champion = next((version for version in found if version.state == "champion"), None)
    event = next((e for e in reversed(champion.events) if e.event in ("promoted", "rolled_back")), None) if champion else None
    if event is None:
        return ""
    how = "Promoted" if event.event == "promoted" else "Champion again"
    return f"{how} on {long_date(event.at.date())}: {event.reason}."


def word(event: ModelEvent) -> str:
    """What happened, as the start of a sentence."""
    return {"rolled_back": "Champion again", "held": "Held", "promoted": "Promoted", "registered": "Registered"}.get(
        event.event, event.event
    )


def figure(value: Any, places: int = 3) -> str:
    """A figure as a table has it: a dash for nothing.

    >>> figure(0.91234), figure(None) == NOTHING, figure(12345)
    ('0.912', True, '12,345')
    """
    if not is_number(value):
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{places}f}"


def share(value: Any) -> str:
    """A share in per cent; a dash for nothing."""
    return f"{value:.1%}" if is_number(value) else NOTHING


def gate_rows(found: Iterable[dict[str, Any]]) -> list[GateRow]:
    """The gates of a comparison, those that failed first."""
    rows = [
        GateRow(
            name=words(gate["name"]),
            outcome=gate["outcome"],
            figure=_measure(gate["figure"]),
            limit=_measure(gate["limit"]),
            n=figure(gate["n"]),
            sentence=gate["sentence"],
        )
        for gate in found
    ]
    return sorted(rows, key=lambda row: ("failed", "passed", "skipped").index(row.outcome))


def _measure(value: Any) -> str:
    """A figure of any size in three digits or so.

    >>> [_measure(value) for value in (0.0123, 5e-9, 41234.5, 300)]
    ['0.0123', 'below 0.0001', '41,234', '300']
    """
    if not is_number(value):
        return NOTHING
    if value and abs(value) < 1e-4:  # noqa: PLR2004 (what nobody reads digits of)
        return "below 0.0001" if value > 0 else "0.0000"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004


def recipe_rows(found: Iterable[dict[str, Any]]) -> list[RecipeRow]:
    """What a search tried, the best first."""
    in_order = ranked(map(Trial.from_json, found))
    names, ends = varied(in_order), scale(in_order)
    return [
        RecipeRow(
            place=place,
            name=trial.name,
            is_whole=trial.is_whole,
            mean=figure(trial.mean, 4),
            accuracy=share(trial.means.get("accuracy")),
            macro_f1=figure(trial.means.get("macro_f1")),
            seconds=figure(float(trial.seconds), 1),
            strip=draw_strip(trial.compared, ends, width=STRIP_WIDTH),
            parameters=parameters(trial, names),
        )
        for place, trial in enumerate(in_order, 1)
    ]

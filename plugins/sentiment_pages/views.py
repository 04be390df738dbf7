"""What the pages say: verdicts, dates and figures in words.

Pure functions and constants; no markup, no I/O. Every word a reader meets outside the templates is here.
"""

from collections.abc import Sequence
from datetime import date

from sentiment_core.store.overview import Check, NightRow

NOTHING = "\N{EN DASH}"
# Word for the table, and how a sentence about the night goes on.
VERDICTS = {
    "quiet": ("Quiet", "was quiet"),
    "warn": ("Warning", "was unusual, but not enough to call for a retrain"),
    "retrain": ("Retrain", "drifted far enough to call for a retrain"),
    "quarantine": ("Quarantine", "looks broken: somebody should look at what was delivered"),
    "too_few": ("Too few", "had too few reviews to judge"),
}
_RUNS = {
    "running": ("Running", "is being scored now"),
    "failed": ("Failed", "failed: the run in the DAG score_reviews says why"),
}
_UNCHECKED = ("Not checked", "has not been checked for drift")

_FRESH_DAYS = 2  # last night's run scores the day before; one day more while it is still running


def word(night: NightRow | Check) -> str:
    """A night's state in a word or two: its verdict, else what its run is doing."""
    return _state(night)[0]


def symbol(night: NightRow | Check) -> str:
    """The key of the mark and colour that go with the word."""
    if night.verdict in VERDICTS:
        return str(night.verdict)
    return "failed" if getattr(night, "status", None) == "failed" else "none"


def _state(night: NightRow | Check) -> tuple[str, str]:
    if night.verdict:
        return VERDICTS.get(night.verdict, (night.verdict, f"was judged {night.verdict}"))
    return _RUNS.get(getattr(night, "status", None) or "", _UNCHECKED)


def headline(night: NightRow) -> str:
    """How the latest night was, in a sentence."""
    return f"The latest night, {long_date(night.window_date)}, {_state(night)[1]}."


def to_look_at(nights: Sequence[NightRow]) -> list[NightRow]:
    """The nights that somebody has to look at, because what was delivered seems broken and has not been mended since.

    >>> [night.check_id for night in to_look_at([NightRow(window_date=date(2026, 11, 1), check_id=7, verdict="quarantine")])]
    [7]
    """
    return [night for night in nights if night.verdict == "quarantine"]


def summary(night: NightRow) -> str:
    """A night's figures, in a sentence.

    >>> from datetime import date
    >>> summary(NightRow(window_date=date(2026, 11, 1), n_reviews=1540, positive_share=0.782, model_versions=(2,)))
    '1,540 reviews, 78.2% of them positive, scored by model version 2.'
    """
    if not night.n_reviews:
        return "It holds no reviews."
    reviews = "1 review" if night.n_reviews == 1 else f"{night.n_reviews:,} reviews"
    return f"{reviews}, {percent(night.positive_share)} of them positive, scored by model {versions(night.model_versions)}."


def staleness(night: NightRow, today: date) -> str | None:
    """A remark when the latest night is older than nightly runs would leave it."""
    days = (today - night.window_date).days
    return f"That was {days} days ago; no later night has been scored." if days > _FRESH_DAYS else None


def versions(numbers: tuple[int, ...]) -> str:
    """Model versions, the one that scored most first.

    >>> versions((2,)), versions((2, 1)), versions(())
    ('version 2', 'versions 2 and 1', 'no version')
    """
    if not numbers:
        return "no version"
    if len(numbers) == 1:
        return f"version {numbers[0]}"
    return f"versions {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def long_date(day: date) -> str:
    """A date as a sentence has it.

    >>> long_date(date(2026, 11, 6))
    'Friday 6 November 2026'
    """
    return f"{day:%A} {day.day} {day:%B %Y}"


def percent(share: float | None) -> str:
    """A share as a table has it; a dash for nothing.

    >>> percent(0.7816), percent(None) == NOTHING
    ('78.2%', True)
    """
    return NOTHING if share is None else f"{share:.1%}"

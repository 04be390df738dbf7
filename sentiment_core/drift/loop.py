"""When a night that asks for a retrain gets one: after the last has shown what it did, and not twice from the same evidence.

A pure rule over the requests made before, counted in nights and not in hours, so that a rehearsal of past nights
decides as the nights themselves. Which night asks for a retrain is the business of `verdict`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Literal

from sentiment_core.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Request:
    """A retrain that a night has set off."""

    window_date: date
    """The night."""
    n_labels: int
    """Labels that there were when it was set off."""
    outcome: Literal["promoted", "held"] | None
    """What came of it; None while it runs, or when it ended without an answer."""
    has_trained: bool
    """A candidate was trained; a retrain that is held for want of labels has none."""


def retrained_on(requests: Iterable[Request]) -> date | None:
    """The latest night whose retrain has trained a candidate, or may still do so."""
    return max((request.window_date for request in requests if request.has_trained or request.outcome is None), default=None)


def why_not_now(day: date, requests: Iterable[Request], *, n_labels: int, policy: Policy) -> str:
    """Why a night that asks for a retrain does not get one, as a sentence; empty when it does.

    Args:
        day: the night.
        requests: made before, by any night.
        n_labels: labels that there are now.
        policy: its cooldown, and how many labels a retrain needs.

    >>> from types import SimpleNamespace as Section
    >>> policy = Section(drift=Section(cooldown_nights=7), retrain=Section(min_fresh_labels=200))
    >>> held = Request(window_date=date(2026, 11, 1), n_labels=50, outcome="held", has_trained=False)
    >>> why_not_now(date(2026, 11, 2), [held], n_labels=250, policy=policy)
    ''
    >>> why_not_now(date(2026, 11, 20), [held], n_labels=249, policy=policy)
    'The retrain that 2026-11-01 set off was held, and 199 labels have come since: 200 are new evidence.'
    """
    reasons = (_objection(day, request, n_labels, policy) for request in sorted(requests, key=_by_date, reverse=True))
    return next(filter(None, reasons), "")


def _by_date(request: Request) -> date:
    return request.window_date


def _objection(day: date, request: Request, n_labels: int, policy: Policy) -> str:
    # Nights on both sides: late rows may have an older night judged after a younger one has set off its retrain.
    is_recent = abs((day - request.window_date).days) < policy.drift.cooldown_nights
    whose = f"The retrain that {request.window_date} set off"
    if request.outcome is None:
        return f"{whose} has not ended: one at a time." if is_recent else ""
    if is_recent and request.has_trained:
        return f"{whose} was {request.outcome}; the next is {policy.drift.cooldown_nights} nights later at the earliest."
    n_new = n_labels - request.n_labels
    needed = policy.retrain.min_fresh_labels
    if request.outcome == "held" and n_new < needed:
        return f"{whose} was held, and {n_new} labels have come since: {needed} are new evidence."
    return ""

"""Who is champion, since when and why: comparing, promoting, holding, rolling back.

MLflow's alias says who is champion, `model_events` why. Both change under one lock in PostgreSQL, so that of two
decisions at once the second sees the first. Every change is written down with its reason and its run.
"""

from collections.abc import Iterable
from typing import Any

from sentiment_core import __version__
from sentiment_core.domain import ModelRef
from sentiment_core.errors import Permanent, Transient
from sentiment_core.stages.services import Services
from sentiment_core.stages.training_sets import read_snapshot


def line_of_champions(events: Iterable[dict[str, Any]]) -> list[int]:
    """The champion and those before it that may be returned to, the latest last: whoever was rolled back is not among them.

    >>> line_of_champions([{"event": "promoted", "model_version": n} for n in (1, 2, 3)])
    [1, 2, 3]
    >>> line_of_champions([{"event": "promoted", "model_version": 1}, {"event": "promoted", "model_version": 2},
    ...                    {"event": "rolled_back", "model_version": 1}, {"event": "promoted", "model_version": 3}])
    [1, 3]
    """
    line: list[int] = []
    for event in events:
        version = event["model_version"]
        if event["event"] == "promoted":
            line = [*line, version] if line[-1:] != [version] else line
        elif event["event"] == "rolled_back":
            while line and line[-1] != version:
                line.pop()
            line = line or [version]
    return line


def current_champion(services: Services) -> ModelRef | None:
    """The champion; None where there is none yet. Raises Transient while MLflow does not answer."""
    from sentiment_core.registry import NoModel

    try:
        champion = services.registry.resolve("champion")
    except NoModel:
        return None
    return certain(champion)


def certain(ref: ModelRef) -> ModelRef:
    """What MLflow itself has said; raises Transient for what only the cache remembers."""
    if ref.is_degraded:
        raise Transient(
            "registry",
            expected="an answer from MLflow",
            found=f"none; version {ref.version} is what the cache remembers",
            remedy="try again when MLflow is back",
        )
    return ref


def compare_with_champion(services: Services, candidate: ModelRef) -> dict[str, Any]:
    """Score candidate and champion anew on the same held-out rows and say which gates pass."""
    from sentiment_core.model.behaviour import examine_behaviour
    from sentiment_core.model.comparison import compare

    champion = current_champion(services)
    if champion and champion.version == candidate.version:  # this step is tried again after the promotion
        champion = None
    judged = compare(
        services.registry.open(champion).estimator if champion else None,
        services.registry.open(candidate).estimator,
        read_snapshot(services, str(candidate.snapshot)),
        services.policy,
        champion_snapshot=read_snapshot(services, champion.snapshot) if champion and champion.snapshot else None,
        examine=examine_behaviour,
        n_bytes=services.registry.size_of(candidate),
    )
    return {
        "outcome": judged.outcome,
        "reason": judged.reason,
        "metrics": judged.metrics,
        "champion": champion.version if champion else None,
        "candidate": candidate.version,
    }


def conclude(
    services: Services,
    candidate: ModelRef,
    comparison: dict[str, Any],
    *,
    run_id: str,
    approved: bool | None,
    refusal: str = "not approved by a person",
) -> dict[str, Any]:
    """Promote or hold; `approved` is a person's answer, None where nobody was asked.

    Tried again, it tells what was decided and decides nothing: somebody may have rolled back meanwhile.
    """
    from sentiment_core.store.records import champion_lock

    with champion_lock(services.engine):
        decided = _decided(services, candidate, run_id)
        outcome, reason = decided or _decide(services, candidate, comparison, approved, refusal)
        if not decided:
            if outcome == "promoted":
                services.registry.set_alias("champion", candidate.version)
            record(
                services, candidate.version, outcome, reason,
                run_id=run_id, snapshot=candidate.snapshot, metrics=comparison["metrics"],
            )  # fmt: skip
    services.registry.log_outcome(candidate, outcome=outcome, reason=reason, metrics=comparison["metrics"])
    return {"model_version": candidate.version, "outcome": outcome, "reason": reason}


def _decided(services: Services, candidate: ModelRef, run_id: str) -> tuple[str, str] | None:
    """What this run has written down already."""
    from sentiment_core.store.records import decisions

    return next(
        (
            (event["event"], event["reason"])
            for event in decisions(services.engine)
            if (event["run_id"], event["model_version"]) == (run_id, candidate.version) and event["event"] in ("promoted", "held")
        ),
        None,
    )


def _decide(
    services: Services, candidate: ModelRef, comparison: dict[str, Any], approved: bool | None, refusal: str
) -> tuple[str, str]:
    outcome, reason = comparison["outcome"], comparison["reason"]
    if outcome == "promoted" and approved is False:
        return "held", f"{refusal}; the gates passed: {reason}"
    champion = current_champion(services)
    if outcome == "promoted" and champion and champion.version not in (comparison["champion"], candidate.version):
        compared = comparison["champion"]
        return "held", f"version {champion.version} became champion while this candidate was compared with {compared}"
    return outcome, reason


def promote(services: Services, which: str | int, *, run_id: str, reason: str) -> dict[str, Any]:
    """Make a version champion because a person says so, whatever the gates said.

    Raises:
        Permanent: no such version, or its files are not to be trusted; the champion stays.
    """
    from sentiment_core.store.records import champion_lock, decisions

    ref = certain(services.registry.resolve(which))
    services.registry.open(ref)  # a version that cannot be loaded would stop the next night
    with champion_lock(services.engine):
        before = current_champion(services)
        is_known = line_of_champions(decisions(services.engine))[-1:] == [ref.version]
        if before and before.version == ref.version and is_known:
            return {"model_version": ref.version, "outcome": "unchanged", "previous": ref.version, "reason": "champion already"}
        services.registry.set_alias("champion", ref.version)
        record(services, ref.version, "promoted", reason, run_id=run_id, snapshot=ref.snapshot)
    return {
        "model_version": ref.version,
        "outcome": "promoted",
        "previous": before.version if before else None,
        "reason": reason,
    }


def roll_back(services: Services, *, run_id: str, reason: str) -> dict[str, Any]:
    """Make the last good champion champion again: the latest before today's that was not itself rolled back.

    Raises:
        Permanent: there is none; the champion stays.
    """
    from sentiment_core.store.records import champion_lock, decisions

    with champion_lock(services.engine):
        current = current_champion(services)
        line = line_of_champions(decisions(services.engine))
        target = _last_good(services, line, current.version if current else None)
        if current is None or target is None:
            raise Permanent(
                "rollback",
                expected="a champion, and one before it",
                found=f"version {current.version} and none before it" if current else "no champion",
                remedy="promote another version: `sentiment models` lists them, `sentiment promote V` takes one",
            )
        services.registry.set_alias("champion", target.version)
        said = f"version {current.version} rolled back: {reason}"
        record(services, target.version, "rolled_back", said, run_id=run_id, snapshot=target.snapshot)
    return {"model_version": target.version, "outcome": "rolled_back", "previous": current.version, "reason": said}


def _last_good(services: Services, line: list[int], current: int | None) -> ModelRef | None:
    """The latest of a line that is not champion and still registered."""
    from sentiment_core.registry import NoModel

    for version in reversed(line):
        if version != current:
            try:
                return certain(services.registry.resolve(version))
            except NoModel:
                continue  # somebody deleted it
    return None


def history(services: Services) -> list[dict[str, Any]]:
    """Every registered version with its aliases, figures and events, oldest first."""
    from sentiment_core.store.records import events

    happened = events(services.engine)
    return [
        {**version, "events": [event for event in happened if event["model_version"] == version["version"]]}
        for version in services.registry.versions()
    ]


def record(
    services: Services,
    version: int,
    event: str,
    reason: str,
    *,
    run_id: str,
    snapshot: str | None,
    metrics: dict[str, Any] | None = None,
) -> None:
    """Write down what happened to a version."""
    from sentiment_core.store.records import insert_event

    insert_event(
        services.engine,
        model_version=version,
        event=event,
        reason=reason,
        metrics=metrics or {},
        snapshot=snapshot,
        code_version=code_version(),
        run_id=run_id,
    )


def code_version() -> str:
    """The package's version, with the commit where the code is a checkout."""
    from sentiment_core.settings import REPOSITORY

    head = REPOSITORY / ".git" / "HEAD"
    if not head.is_file():
        return __version__
    content = head.read_text(encoding="utf-8").strip()
    if content.startswith("ref: "):
        ref = REPOSITORY / ".git" / content.removeprefix("ref: ")
        content = ref.read_text(encoding="utf-8").strip() if ref.is_file() else ""
    return f"{__version__}+{content[:12]}" if content else __version__

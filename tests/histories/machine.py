"""Histories: everything that may happen to a bucket and a database, in any order, compared with the model after each step.

Runs go on side by side, a step at a time, and any step may be cut short at any statement, commit or call of S3. The
servers are real; what a version has to say of a text is known (`place`).
"""

import copy as copying
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest import mock

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from sqlalchemy import text

from sentiment_core.domain import ModelRef, Selection
from sentiment_core.errors import Permanent, Transient
from sentiment_core.stages import delivery, night, promotion, rescoring, retention
from sentiment_core.stages.listing import objects_of
from sentiment_core.stages.window import Night
from sentiment_core.store import publish
from tests.histories.model import Delivery, Review, World
from tests.histories.place import LABELS, VERSIONS, Models, Place, label_of
from tests.histories.trouble import N_PLACES, Cut

DAYS = tuple(date(2026, 11, day) for day in (1, 2, 3))
MORNING = datetime(2026, 11, 1, 1, tzinfo=UTC)

days = st.sampled_from(DAYS)


def scheduled_at(folder: date) -> datetime:
    """02:00 UTC of the day after."""
    return datetime(folder.year, folder.month, folder.day, 2, tzinfo=UTC) + timedelta(days=1)


names = st.sampled_from(["a", "b"])
# Few ids, few moments: most of what is delivered contends with something.
review_ids = st.sampled_from(["r1", "r2", "r3"])
moments = st.integers(0, 3).map(lambda n: MORNING + timedelta(days=3, seconds=n))
models = st.sampled_from(["champion", "champion", "as-of", "1", "2"])
reviews = st.builds(
    Review,
    row_number=st.just(0),
    review_id=st.one_of(review_ids, review_ids, review_ids, st.none()),
    text=st.sampled_from(["good", "bad", "so so", "well"]),
    product_id=st.sampled_from(["p", "q", None]),
    created_at=st.one_of(st.none(), st.sampled_from([datetime(2026, 11, day, 12, tzinfo=UTC) for day in (1, 2, 3, 20)])),
    rating=st.sampled_from([None, None, 1, 3, 5]),
)
contents = st.lists(reviews, max_size=4).map(lambda rows: tuple(replace(row, row_number=n) for n, row in enumerate(rows)))
# A task passes so many places of a kind, or a few more.
cuts = st.sampled_from(sorted(N_PLACES)).flatmap(lambda kind: st.tuples(st.just(kind), st.integers(0, N_PLACES[kind])))


@dataclass
class Run:
    """A run of the DAG, and which of its tasks is next."""

    night: Night
    ref: ModelRef | None = None
    batches: list[Any] | None = None
    listed: list[list[Delivery]] = field(default_factory=list)
    counts: list[Any] = field(default_factory=list)
    is_over: bool = False


class Histories(RuleBasedStateMachine):
    """One history; `place` is set by whoever runs them."""

    place: Place
    n_histories = 0
    n_steps = 0
    n_cuts = 0
    is_stopped = False
    """Somebody has said stop in the midst of a history, which may end in any way then."""
    wrong: str | None = None
    """What was found where the relations were not the model's."""

    def __init__(self) -> None:
        super().__init__()
        type(self).n_histories += 1
        self.place.trouble.disarm()
        self.place.clear()
        self.services = self.place.services
        self.models = Models()
        self.services.__dict__["registry"] = self.models
        self.world = World(label_of=label_of)
        self.runs: list[Run] = []
        self.clock = MORNING
        self.n_runs = 0
        self.is_bulk = False

    @initialize(version=st.sampled_from(VERSIONS), is_bulk=st.booleans())
    def first_champion(self, version: int, is_bulk: bool) -> None:
        self.is_bulk = is_bulk
        self.promote(version, 0)

    # -- what comes in from outside

    @rule(objects=st.lists(st.tuples(days, names, contents, moments), min_size=1, max_size=4))
    def deliver(self, objects: list[tuple[date, str, tuple[Review, ...], datetime]]) -> None:
        """New objects, rewrites, or the same once more: what lies under the key already decides."""
        bucket = self.services.bucket
        for day, name, rows, modified in objects:
            key = f"incoming/date={day}/{name}.jsonl"
            content = b"".join(_line(row) for row in rows)
            bucket._client.put_object(Bucket=bucket.name, Key=key, Body=content, Metadata={"mtime": str(modified.timestamp())})
            [obj] = bucket.list(key)
            assert obj.last_modified == modified
            self.world.bucket[key] = Delivery(key=key, folder=day, stamp=(obj.etag, obj.size, modified), rows=rows)

    @precondition(lambda self: self.world.bucket)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.world.bucket)))
        bucket = self.services.bucket
        bucket._client.delete_object(Bucket=bucket.name, Key=key)
        del self.world.bucket[key]

    @rule(
        day=days, name=names, review_id=review_ids, review_date=st.one_of(st.none(), days), label=st.sampled_from(LABELS),
        second=st.integers(0, 3),
    )  # fmt: skip
    def put_label(self, *, day: date, name: str, review_id: str, review_date: date | None, label: str, second: int) -> None:
        row = {"review_id": review_id, "review_date": review_date, "label": label,
               "labelled_at": MORNING + timedelta(days=4, seconds=second)}  # fmt: skip
        key = f"labels/date={day}/{name}.jsonl"
        self.services.bucket.put(key, json.dumps(row, default=str).encode())
        self.world.label_files[key] = (day, (row,))

    # -- models

    @rule(version=st.sampled_from(VERSIONS), hours=st.integers(0, 40))
    def promote(self, version: int, hours: int) -> None:
        self.clock += timedelta(hours=hours)
        promotion.promote(self.services, version, run_id=self._run_id("promote"), reason="a person")
        if self.world.line[-1:] != [version]:
            self._happened("promoted", version)

    @rule(hours=st.integers(0, 40))
    def roll_back(self, hours: int) -> None:
        self.clock += timedelta(hours=hours)
        target = self.world.roll_back_target()
        try:
            promotion.roll_back(self.services, run_id=self._run_id("rollback"), reason="a person")
        except Permanent:
            assert target is None
        else:
            self._happened("rolled_back", target)

    def _happened(self, event: str, version: Any) -> None:
        """Nights that are weeks old have champions of their own time."""
        self.world.events.append((self.clock, event, version))
        with self.place.owner.begin() as connection:
            latest = "(select max(event_id) from sentiment.model_events)"
            connection.execute(text(f"update sentiment.model_events set at = :at where event_id = {latest}"), {"at": self.clock})
        self._compare()

    # -- runs, a task at a time

    @precondition(lambda self: len(self.runs) < 3)
    @rule(
        day=days, kind=st.sampled_from(["scheduled", "scheduled", "manual", "backfill"]), model=models,
        force=st.sampled_from([False, False, True]), n_tasks=st.sampled_from([0, 1, 2, 3, 9, 9]), cut=st.one_of(st.none(), cuts),
    )  # fmt: skip
    def begin(self, *, day: date, kind: Any, model: str, force: bool, n_tasks: int, cut: tuple[str, int] | None) -> None:
        """A run's first tasks; the last of them may be cut short."""
        self.runs.append(Run(self._night(day, kind, model, force=force and kind != "scheduled")))
        for number in range(n_tasks):
            if self._advance(self.runs[-1], cut if number == n_tasks - 1 else None):
                break

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), cut=st.one_of(st.none(), cuts, cuts))
    def go_on(self, data: st.DataObject, cut: tuple[str, int] | None) -> None:
        run = data.draw(st.sampled_from(self.runs), label="run")
        self._advance(run, cut)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """All that is left of a run, as a night without trouble does it."""
        run = data.draw(st.sampled_from(self.runs), label="run")
        while not run.is_over:
            self._advance(run, None)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        """A run whose retries are used up says so; what it has staged waits for whoever comes by."""
        run = data.draw(st.sampled_from(self.runs), label="run")
        night.record_failure(self.services, run.night)
        run_id = run.night.run_id
        if run_id in self.world.runs:
            self.world.runs[run_id] = (*self.world.runs[run_id][:2], "failed")
        self.runs.remove(run)
        self._compare()

    def _advance(self, run: Run, cut: tuple[str, int] | None) -> bool:
        """The next task of a run; True when it was the last."""
        if run.ref is None:
            self._do(cut, lambda: self._resolve(run), lambda: self._resolved(run.night))
        elif run.batches is None:
            self._do(cut, lambda: self._list(run), lambda: self.world.note_gone(self._folders(run.night)))
        elif len(run.counts) < len(run.batches):
            batch = run.listed[len(run.counts)]
            self._do(cut, lambda: self._score(run), lambda: self.world.score(
                run.night.run_id, run.ref.version, batch, force=run.night.force))  # fmt: skip
        else:
            self._do(cut, lambda: self._publish(run), lambda: self.world.publish(run.night.run_id))
            if run.is_over and run in self.runs:
                self.runs.remove(run)
        return run.is_over

    def _resolve(self, run: Run) -> None:
        run.ref = night.resolve_model(self.services, run.night)
        assert run.ref.version == self.world.runs[run.night.run_id][1]

    def _resolved(self, of: Night) -> Iterator[None]:
        world = self.world
        pinned = world.runs[of.run_id][1] if of.run_id in world.runs else None
        version = pinned or world.version_of(of.model, of.window_date, scheduled_at(of.window_date))
        world.runs[of.run_id] = (of.window_date, version, "running")
        yield

    def _list(self, run: Run) -> None:
        batches = night.list_new_objects(self.services, run.night)
        expected = [obj for obj in self.world.listing(self._folders(run.night)) if run.night.force or self.world.is_new(obj)]
        expected.sort(key=lambda obj: (-obj.folder.toordinal(), obj.key))
        run.listed = [expected[n : n + 2] for n in range(0, len(expected), 2)]
        assert [batch["n_objects"] for batch in batches] == [len(part) for part in run.listed]
        assert [[obj.key for obj in objects_of(self.services, run.night, batch)] for batch in batches] == [
            [obj.key for obj in part] for part in run.listed
        ]
        run.batches = batches

    def _folders(self, of: Night) -> list[date]:
        back = self.services.policy.nightly.late_days if of.kind == "scheduled" else 0
        return [of.window_date - timedelta(days=n) for n in range(back + 1)]

    def _score(self, run: Run) -> None:
        run.counts.append(night.score_objects(self.services, run.night, run.ref, run.batches[len(run.counts)]))

    def _publish(self, run: Run) -> None:
        # By its size every publication here would be a merge. One without rows is a merge in any case.
        with mock.patch.object(publish, "is_bulk", lambda n_staged, _: self.is_bulk and n_staged > 0):
            night.publish_dates(self.services, run.night, run.ref, run.counts)
        run.is_over = True

    @precondition(lambda self: self.world.label_files)
    @rule(day=days, kind=st.sampled_from(["scheduled", "manual"]), cut=st.one_of(st.none(), cuts))
    def ingest_labels(self, day: date, kind: Any, cut: tuple[str, int] | None) -> None:
        of = self._night(day, kind)
        # Folders from the window's backwards, each in the order of its keys.
        folders = self._folders(of)
        self._do(cut, lambda: delivery.ingest_labels(self.services, of), lambda: self._ingested(folders))

    def _ingested(self, folders: list[date]) -> Iterator[None]:
        for folder in folders:
            yield from self.world.ingest([folder])

    # -- scoring again

    @rule(
        model=models, version=st.sampled_from([None, None, *VERSIONS]), product_id=st.sampled_from([None, None, "p"]),
        first=st.one_of(st.none(), days), last=st.one_of(st.none(), days), cut=st.one_of(st.none(), cuts),
    )  # fmt: skip
    def rescore(self, *, model: str, cut: tuple[str, int] | None, **restrictions: Any) -> None:
        run_id, selection = self._run_id("rescore"), Selection(**restrictions)
        plan = rescoring.plan_rescore(self.services, selection, model=model)

        def act() -> None:
            done = rescoring.apply_rescore(self.services, selection, model=model, run_id=run_id)
            assert (done["n_rows"], done["n_objects"], done["kept"]) == (plan["n_rows"], plan["n_objects"], plan["kept"])
            # The sample of a plan holds every row there is here.
            assert done["n_flipped"] == (plan["flips"]["n"] if plan["flips"] else 0)

        self._do(cut, act, lambda: self.world.rescore(
            run_id, restrictions, lambda folder: self.world.version_of(model, folder, scheduled_at(folder))))  # fmt: skip

    # -- cleaning up

    @rule(cut=st.one_of(st.none(), cuts))
    def clean_up(self, cut: tuple[str, int] | None) -> None:
        """However young it is, only what no publication will ever look at goes; dates that hold nothing lose their leaves."""
        self._do(cut, lambda: retention.forget_rows(self.services, run_id=self._run_id("maintain")), lambda: iter(()))

    # -- what has to hold

    def _do(self, cut: tuple[str, int] | None, act: Callable[[], object], steps: Callable[[], Iterator[None]]) -> None:
        """Do something, cut short or not, and see that PostgreSQL is in one of the states that the model pauses in."""
        type(self).n_steps += 1
        if cut is None:
            for _ in steps():
                pass
            act()
            self._compare()
            return
        states = [copying.deepcopy(self.world)]
        states.extend(copying.deepcopy(self.world) for _ in steps())
        self.place.trouble.arm(*cut)
        try:
            with mock.patch("sentiment_core.store.copy._Payload", self.place.trouble.payload()):
                act()
            self.place.trouble.disarm()
        except (Cut, Transient) as error:
            self.place.trouble.disarm()
            type(self).n_cuts += 1
            note(f"cut short: {error!r}")
            found = self.place.view()
            fitting = [state for state in states if state.view() == found]
            if not fitting:
                self._differ(found, states[0].view(), states[-1].view())
            self.world = fitting[-1]
        else:
            self._compare()

    def _compare(self) -> None:
        found, expected = self.place.view(), self.world.view()
        if found != expected:
            self._differ(found, expected)

    def _differ(self, found: dict[str, Any], *expected: dict[str, Any]) -> None:
        """Fail with the first relation that is none of those expected."""
        names = [name for name in found if all(found[name] != view[name] for view in expected)]
        parts = names[:1] or list(found)
        message = "\n".join(
            f"{name} differs\nfound    {found[name]}\n" + "\n".join(f"expected {view[name]}" for view in expected)
            for name in parts
        )
        if not self.is_stopped:
            type(self).wrong = message
        raise AssertionError(message)

    def teardown(self) -> None:
        """Whatever went before: one more night leaves nothing waiting, and nothing in staging."""
        if self.world.line:
            last = Run(self._night(DAYS[-1], "scheduled"))
            while not self._advance(last, None):
                pass
            assert self.place.rows("select count(*) from sentiment.staged_reviews") == [(0,)]
            assert not self.world.unpublished

    def _night(self, day: date, kind: Any, model: str = "champion", *, force: bool = False) -> Night:
        return Night(window_date=day, run_id=self._run_id(kind), kind=kind, model=model, force=force, allow_retrain=False)

    def _run_id(self, kind: str) -> str:
        self.n_runs += 1
        return f"{kind}__{self.n_runs}"


def _line(row: Review) -> bytes:
    values = {name: value for name, value in vars(row).items() if value is not None and name != "row_number"}
    return json.dumps(values, default=str).encode() + b"\n"

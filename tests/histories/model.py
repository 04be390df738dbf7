"""What the relations have to say, from the words of DESIGN.md 2: a ledger of versions in sequence, and dates published whole.

No SQL and no product code. What changes several things at once is one function; what a run does in several transactions
is a generator that pauses after each, so that a run cut short has to leave one of the states it pauses in.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

Identity = tuple[date, str]


@dataclass(frozen=True, kw_only=True)
class Review:
    """A row of an object; row_number is its place."""

    row_number: int
    review_id: str | None
    text: str
    product_id: str | None = None
    created_at: datetime | None = None
    rating: int | None = None

    def review_date(self, folder: date) -> date:
        return self.created_at.date() if self.created_at else folder

    def is_valid(self, folder: date) -> bool:
        day = self.review_date(folder)
        return self.review_id is not None and folder - timedelta(days=7) <= day <= folder + timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """An object as it lies in the bucket; `stamp` is what a listing shows of it."""

    key: str
    folder: date
    stamp: tuple[str, int, datetime]
    """ETag, size, LastModified."""
    rows: tuple[Review, ...]
    """Without any, the object cannot be read."""

    @property
    def valid(self) -> list[Review]:
        return [row for row in self.rows if row.is_valid(self.folder)]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A row that is current, or was."""

    key: str
    sequence: int
    row_number: int
    version: int
    run_id: str
    text: str
    label: str
    staging: int = field(default=0)
    """Tells two scorings of the same row apart; of no meaning outside."""

    @property
    def seen(self) -> tuple[Any, ...]:
        """What can be read of it in PostgreSQL."""
        return (self.key, self.sequence, self.row_number, self.version, self.run_id, self.text, self.label)


@dataclass(kw_only=True)
class Version:
    """An object version in the ledger."""

    delivery: Delivery
    sequence: int
    is_failed: bool = False
    run_id: str = ""
    version: int | None = None
    rows: dict[tuple[date, int], Scored] = field(default_factory=dict)
    """By review_date and row number."""


@dataclass(kw_only=True)
class World:
    """Everything that a history can change."""

    label_of: Callable[[str, int], str]
    """What a model version says of a text."""
    bucket: dict[str, Delivery] = field(default_factory=dict)
    label_files: dict[str, tuple[date, tuple[dict[str, Any], ...]]] = field(default_factory=dict)
    ledger: dict[str, list[Version]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    unpublished: set[tuple[str, int, date]] = field(default_factory=set)
    """Key, sequence and review_date of what has been staged, or is about to be replaced."""
    current: dict[Identity, Scored] = field(default_factory=dict)
    history: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    labels: dict[Identity, tuple[str, datetime]] = field(default_factory=dict)
    runs: dict[str, tuple[date, int, str]] = field(default_factory=dict)
    """Window, version and status by run id, in the order in which they began."""
    events: list[tuple[datetime, str, int]] = field(default_factory=list)
    n_stagings: int = 0

    # -- models

    @property
    def line(self) -> list[int]:
        """Champions that may be returned to; the last is the champion."""
        line: list[int] = []
        for _, event, version in self.events:
            if event == "rolled_back":
                line = line[: len(line) - line[::-1].index(version)]
            elif line[-1:] != [version]:
                line.append(version)
        return line

    def roll_back_target(self) -> int | None:
        return next((version for version in reversed(self.line) if version != self.line[-1]), None)

    def version_of(self, which: str, window: date, scheduled_at: datetime) -> int:
        if which.isdigit():
            return int(which)
        if which == "as-of":
            for day, version, status in self.runs.values():
                if day == window and status == "succeeded":
                    return version
            for at, _, version in reversed(self.events):
                if at <= scheduled_at:
                    return version
        return self.line[-1]

    # -- a night

    def latest(self, key: str) -> Version | None:
        versions = self.ledger.get(key)
        return versions[-1] if versions else None

    def live(self, key: str) -> Version | None:
        """The version whose rows hold: the newest that could be read."""
        return next((version for version in reversed(self.ledger.get(key, [])) if not version.is_failed), None)

    def is_new(self, delivery: Delivery) -> bool:
        latest = self.latest(delivery.key)
        return latest is None or latest.delivery.stamp != delivery.stamp

    def listing(self, folders: list[date]) -> list[Delivery]:
        return [self.bucket[key] for key in sorted(self.bucket) if self.bucket[key].folder in folders]

    def note_gone(self, folders: list[date]) -> Iterator[None]:
        for key in self.ledger:
            live = self.live(key)
            if live and live.delivery.folder in folders:
                (self.gone.discard if key in self.bucket else self.gone.add)(key)
        yield

    def score(self, run_id: str, version: int, batch: list[Delivery], *, force: bool) -> Iterator[None]:
        """One transaction an object; an object is read as it is by now."""
        for listed in batch:
            self._score_object(run_id, version, listed, force=force)
            yield

    def _score_object(self, run_id: str, version: int, listed: Delivery, *, force: bool) -> None:
        latest, there = self.latest(listed.key), self.bucket.get(listed.key)
        if latest and not latest.is_failed and latest.delivery.stamp == listed.stamp and not force:
            return
        if there and there.stamp[0] != listed.stamp[0]:
            self._score_object(run_id, version, there, force=force)
        elif there and listed.rows:
            self._stage(run_id, version, listed)
        elif latest is None or latest.delivery.stamp != listed.stamp:
            self._append(listed, run_id, is_failed=True)
        elif latest.is_failed:
            latest.run_id = run_id

    def _append(self, delivery: Delivery, run_id: str, *, is_failed: bool = False) -> Version:
        versions = self.ledger.setdefault(delivery.key, [])
        versions.append(Version(delivery=delivery, sequence=len(versions) + 1, is_failed=is_failed, run_id=run_id))
        return versions[-1]

    def _stage(self, run_id: str, version: int, delivery: Delivery) -> None:
        latest, before = self.latest(delivery.key), self.live(delivery.key)
        self.unpublished |= {(before.delivery.key, before.sequence, day) for day, _ in before.rows} if before else set()
        if latest is None or latest.delivery.stamp != delivery.stamp:
            latest = self._append(delivery, run_id)
        self.n_stagings += 1
        latest.is_failed, latest.run_id, latest.version = False, run_id, version
        latest.rows = {}
        for row in delivery.valid:
            day = row.review_date(delivery.folder)
            latest.rows[day, row.row_number] = Scored(
                key=delivery.key, sequence=latest.sequence, row_number=row.row_number, version=version, run_id=run_id,
                text=row.text, label=self.label_of(row.text, version), staging=self.n_stagings,
            )  # fmt: skip
            self.unpublished.add((delivery.key, latest.sequence, day))
        self.gone.discard(delivery.key)
        self._take_ratings(delivery)

    def _take_ratings(self, delivery: Delivery) -> None:
        given = [
            (row.created_at or delivery.stamp[2], row.row_number, (row.review_date(delivery.folder), row.review_id), row.rating)
            for row in delivery.valid
            if row.rating
        ]
        latest = {identity: (at, rating) for at, _, identity, rating in sorted(given, key=lambda item: item[:2])}
        for identity, (at, rating) in latest.items():
            self._take_label(identity, "negative" if rating <= 2 else "neutral" if rating == 3 else "positive", at)

    def _take_label(self, identity: Any, label: str, at: datetime) -> None:
        if identity not in self.labels or at >= self.labels[identity][1]:
            self.labels[identity] = (label, at)

    def winners(self, day: date) -> dict[Identity, Scored]:
        """Among the live versions' rows of a date, by identity the latest by (LastModified, key, row number)."""
        best: dict[Identity, tuple[Any, Scored]] = {}
        for key in self.ledger:
            live = self.live(key)
            for row in live.delivery.valid if live else ():
                scored = live.rows.get((day, row.row_number))
                place = (live.delivery.stamp[2], key, row.row_number)
                identity = (day, row.review_id)
                if scored and (identity not in best or place > best[identity][0]):
                    best[identity] = (place, scored)
        return {identity: scored for identity, (_, scored) in best.items()}

    def publish(self, run_id: str) -> Iterator[None]:
        """One transaction a date, and one for the run."""
        for day in sorted({day for *_, day in self.unpublished}):
            found = self.winners(day)
            for identity in {identity for identity in self.current if identity[0] == day}:
                if self.current[identity] != found.get(identity):
                    self.history[(*identity, *self.current[identity].seen)] += 1
                    del self.current[identity]
            self.current |= found
            self.unpublished = {entry for entry in self.unpublished if entry[2] != day}
            yield
        window, version, _ = self.runs[run_id]
        self.runs[run_id] = (window, version, "succeeded")
        yield

    # -- scoring again

    def rescore(self, run_id: str, selection: dict[str, Any], target_of: Callable[[date], int]) -> Iterator[None]:
        """One transaction for each date of each object version whose text can still be read.

        Current rows, and those that are only outranked, are replaced; what is still in staging stays as it was scored.
        """
        found = [
            (target_of(version.delivery.folder), key, version.sequence, version)
            for key, versions in self.ledger.items()
            for version in versions
        ]
        for target, key, _, version in sorted(found, key=lambda item: item[:3]):
            there = self.bucket.get(key)
            if there and there.stamp[0] == version.delivery.stamp[0]:
                for day in sorted({day for day, _ in version.rows}):
                    self._rescore_date(run_id, selection, target, version, day)
                    yield

    def _rescore_date(self, run_id: str, selection: dict[str, Any], target: int, version: Version, day: date) -> None:
        def again(row: Scored) -> Scored:
            product = version.delivery.rows[row.row_number].product_id
            is_meant = (
                row.version != target
                and selection["version"] in (None, row.version)
                and selection["product_id"] in (None, product)
                and (selection["first"] or day) <= day <= (selection["last"] or day)
            )
            if not is_meant:
                return row
            self.n_stagings += 1
            label = self.label_of(row.text, target)
            return replace(row, version=target, run_id=run_id, label=label, staging=self.n_stagings)

        place = (version.delivery.key, version.sequence)
        is_published = (*place, day) not in self.unpublished
        new = {number: again(row) for (of, number), row in version.rows.items() if of == day and is_published}
        for identity, row in self.current.items():
            if identity[0] == day and (row.key, row.sequence) == place:
                changed = new.get(row.row_number) or again(row)
                if changed != row:
                    self.history[(*identity, *row.seen)] += 1
                    self.current[identity] = changed
        version.rows |= {(day, number): row for number, row in new.items()}

    # -- labels

    def ingest(self, folders: list[date]) -> Iterator[None]:
        for key in sorted(self.label_files):
            folder, rows = self.label_files[key]
            if folder in folders:
                for row in rows:
                    day = row["review_date"] or max((day for day, name in self.current if name == row["review_id"]), default=None)
                    if day:
                        self._take_label((day, row["review_id"]), row["label"], row["labelled_at"])
                yield

    def runners_up(self) -> set[tuple[Any, ...]]:
        """Of published objects, the last row of each identity where another object's is current."""
        found: dict[tuple[Any, ...], Scored] = {}
        for key in self.ledger:
            live = self.live(key)
            for (day, number), row in sorted(live.rows.items()) if live else ():
                if (key, row.sequence, day) not in self.unpublished:
                    found[day, live.delivery.rows[number].review_id, key] = row
        return {
            (day, review_id, *row.seen)
            for (day, review_id, key), row in found.items()
            if (shown := self.current.get((day, review_id))) is None or shown.key != key
        }

    # -- what is seen

    def view(self) -> dict[str, Any]:
        """Everything that PostgreSQL has to show."""
        return {
            "scored_reviews": {identity: row.seen for identity, row in self.current.items()},
            "score_history": self.history,
            "runner_ups": self.runners_up(),
            "source_objects": {
                (key, version.sequence): (version.delivery.stamp[0], *self._state(key, version))
                for key, versions in self.ledger.items()
                for version in versions
            },
            "quarantined_reviews": {
                (key, row.row_number)
                for key in self.ledger
                if (live := self.live(key))
                for row in live.delivery.rows
                if not row.is_valid(live.delivery.folder)
            },
            "labels": {identity: label for identity, (label, _) in self.labels.items()},
            "scoring_runs": dict(self.runs),
            "model_events": [(event, version) for _, event, version in self.events],
            "unpublished": {day for *_, day in self.unpublished},
        }

    def _state(self, key: str, version: Version) -> tuple[Any, ...]:
        live = self.live(key)
        if version.is_failed:
            return ("failed", version.run_id, None)
        counts = (len(version.rows), len(version.delivery.rows) - len(version.rows))
        if version is live:
            is_staged = any((key, version.sequence, day) in self.unpublished for day, _ in version.rows)
            status = "gone" if key in self.gone else "staged" if is_staged else "scored"
            return (status, version.run_id, version.version, *counts)
        return ("old", version.run_id, version.version, *counts)

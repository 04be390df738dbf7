"""`sentiment demo`: six nights through real Airflow runs, with drift, a retrain and a promotion, told as a story.

It delivers reviews, triggers DAG runs over REST and watches; everything else is done by the machine itself. At the
end it counts what was delivered, by reading the files again in its own naive way, and compares that with the table.
Running it again delivers the same files and changes nothing.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sentiment_core.errors import Permanent
from sentiment_core.settings import LOCAL_DIR
from sentiment_core.stages.services import Services

if TYPE_CHECKING:
    from sentiment_core.local.airflow_api import AirflowApi
    from sentiment_core.reviews.nights import DemoPlan
    from sentiment_core.reviews.nights import Night as DemoNight

DAGS = ("score_reviews", "retrain_model", "ingest_labels")
RUN_DEADLINE_S = 900
console = Console(highlight=False)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(demo)


def demo(
    reviews: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with Parquet files of real reviews; default: a synthetic sample.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample and of the split into nights.")] = 1,
) -> None:
    """Set up the stack and run six nights through Airflow: score, drift, retrain, promote."""
    from sentiment_core.cli.stack import bring_up

    started = time.monotonic()
    bring_up()
    from sentiment_core.cli import load_settings

    story = Story(services=Services(load_settings()), airflow=_airflow(), started=started)
    plan = _plan(reviews, seed)
    story.say(plan.story)
    story.run(plan)
    story.conclude(plan)


def _airflow() -> "AirflowApi":
    from sentiment_core.local.airflow_api import local_api

    return local_api()


def _plan(reviews: Path | None, seed: int) -> "DemoPlan":
    """The nights to play; a demo that is run again plays the same nights again."""
    from sentiment_core.reviews.nights import plan_nights

    note = LOCAL_DIR / "demo.json"
    source = str(reviews.resolve()) if reviews else "synthetic"
    # Not yesterday: that night belongs to the schedule, whose run waits for its folder as soon as the DAG is unpaused.
    last_date = datetime.now(UTC).date() - timedelta(days=2)
    if note.is_file():
        played = json.loads(note.read_text(encoding="utf-8"))
        if played["source"] != source or played["seed"] != seed:
            raise Permanent(
                "demo",
                expected=f"the reviews this stack has played already ({played['source']}, seed {played['seed']})",
                found=f"{source}, seed {seed}",
                remedy="run the same demo again, or start over in a fresh clone (or `make down` and remove .local)",
            )
        last_date = date.fromisoformat(played["last_date"])
    plan = plan_nights(reviews_dir=reviews, seed=seed, last_date=last_date)
    note.write_text(json.dumps({"source": source, "seed": seed, "last_date": last_date.isoformat()}), encoding="utf-8")
    return plan


@dataclass
class Story:
    """The demo in progress."""

    services: Services
    airflow: "AirflowApi"
    started: float
    runs: list[tuple[str, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        """One line, with the seconds since the start."""
        console.print(f"[dim]\\[{time.monotonic() - self.started:4.0f} s][/dim] {text}", soft_wrap=True)

    def run(self, plan: "DemoPlan") -> None:
        """Deliver and trigger, night by night."""
        for dag_id in DAGS:
            self.airflow.unpause(dag_id)
        self._first_champion(plan)
        quiet = [night for night in plan.nights if not night.is_mixed]
        mixed = [night for night in plan.nights if night.is_mixed]
        self._score(quiet)
        for night in mixed:
            self._score([night])
            self._await_retrain(night)
            self._deliver_labels(night)

    def _first_champion(self, plan: "DemoPlan") -> None:
        from sentiment_core.stages.training_sets import write_snapshot

        if any("champion" in version["aliases"] for version in self.services.registry.versions()):
            self.say("a champion is registered already")
            return
        key = write_snapshot(self.services, plan.training)
        self.say(f"training the first model from {len(plan.training):,} labelled reviews (DAG retrain_model)")
        run_id = self._trigger("retrain_model", conf={"reason": "first model", "snapshot": key})
        self._wait("retrain_model", run_id)
        self._tell_events(run_id)

    def _score(self, nights: Sequence["DemoNight"]) -> None:
        triggered = []
        for night in nights:
            self._deliver(night)
            triggered.append(self._trigger("score_reviews", partition_key=night.date.isoformat()))
        for night, run_id in zip(nights, triggered, strict=True):
            self._wait("score_reviews", run_id)
            self._tell_night(night, run_id)

    def _deliver(self, night: "DemoNight") -> None:
        from sentiment_core.reviews.layout import incoming_prefix

        for delivery in night.deliveries:
            self.services.bucket.put_if_changed(incoming_prefix(night.date) + delivery.name, delivery.data)

    def _deliver_labels(self, night: "DemoNight") -> None:
        """Labels of a night arrive the day after it."""
        from sentiment_core.reviews.layout import labels_prefix

        if night.labels is None:
            return
        day = night.date + timedelta(days=1)
        self.services.bucket.put_if_changed(f"{labels_prefix(day)}labels-of-{night.date}.jsonl", night.labels)
        run_id = self._trigger("ingest_labels", partition_key=day.isoformat())
        self._wait("ingest_labels", run_id)
        self.say(f"{day}  {night.labels.count(b'\n'):,} labels of {night.date} have arrived (DAG ingest_labels)")

    def _trigger(self, dag_id: str, **request: Any) -> str:
        run = self.airflow.trigger(dag_id, run_id=f"demo__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}", **request)
        self.runs.append((dag_id, run["dag_run_id"]))
        return str(run["dag_run_id"])

    def _wait(self, dag_id: str, run_id: str) -> None:
        with console.status(f"{dag_id} {run_id}"):
            state = self.airflow.wait(dag_id, run_id, timeout_s=RUN_DEADLINE_S)
        if state != "success":
            failed = [task["task_id"] for task in self.airflow.task_instances(dag_id, run_id) if task["state"] == "failed"]
            raise Permanent(
                f"run {run_id} of {dag_id}",
                expected="success",
                found=f"{state}, in task {', '.join(failed) or '?'}",
                remedy=f"read its log: {self.airflow.base_url}/dags/{dag_id}/runs/{run_id}",
            )

    def _await_retrain(self, night: "DemoNight") -> None:
        """Wait for the retrain that this night's run set off, if it did."""
        check = self._latest_check(night.date)
        run_id = f"drift__{night.date}"
        known = {run["dag_run_id"] for run in self.airflow.dag_runs("retrain_model")}
        if check["verdict"] != "retrain" or run_id not in known:
            return
        self.say("           the drift has set off DAG retrain_model")
        self.runs.append(("retrain_model", run_id))
        self._wait("retrain_model", run_id)
        self._tell_events(run_id)

    def _tell_night(self, night: "DemoNight", run_id: str) -> None:
        from sentiment_core.store.records import scoring_run

        run = scoring_run(self.services.engine, run_id, night.date) or {"n_objects": 0}
        check = self._latest_check(night.date)
        scored = f"{run['n_scored']:,} rows scored by version {run['model_version']}, {run['n_quarantined']:,} quarantined"
        self.say(f"{night.date}  {scored if run['n_objects'] else 'nothing new'}; verdict [bold]{check['verdict']}[/bold]")

    def _tell_events(self, run_id: str) -> None:
        from sentiment_core.store.records import events

        for event in events(self.services.engine):
            if event["run_id"] == run_id:
                said = "" if event["event"] == "registered" else f": {event['reason'].split(' (asked for')[0]}"
                self.say(f"           version {event['model_version']} {event['event']}{said}")

    def _latest_check(self, day: date) -> dict[str, Any]:
        from sentiment_core.store.records import nights

        return next(row for row in nights(self.services.engine, limit=1000) if row["review_date"] == day)

    def conclude(self, plan: "DemoPlan") -> None:
        """Compare what was delivered with what is there, and say where everything is."""
        from sentiment_core.reviews.nights import expected_identities
        from sentiment_core.store.records import count_scored, nights

        expected = len({identity for night in plan.nights for identity in expected_identities(night)})
        dates = [night.date for night in plan.nights]
        found, distinct = count_scored(self.services.engine, min(dates), max(dates))
        shown = [row for row in nights(self.services.engine, limit=1000) if row["review_date"] in dates]
        console.print()
        console.print(_night_table(sorted(shown, key=lambda row: row["review_date"])))
        console.print()
        self._print_versions()
        if not expected == found == distinct:
            raise Permanent(
                "demo",
                expected=f"{expected:,} distinct valid reviews, as delivered",
                found=f"{found:,} rows, {distinct:,} distinct, in sentiment.scored_reviews",
                remedy="look at sentiment.source_objects and sentiment.quarantined_reviews",
            )
        self._farewell(expected)

    def _farewell(self, expected: int) -> None:
        n_tasks = sum(len(self.airflow.task_instances(dag_id, run_id)) for dag_id, run_id in self.runs)
        elapsed = time.monotonic() - self.started
        lines = (
            f"{expected:,} distinct valid reviews were delivered, and as many rows are in sentiment.scored_reviews, each once.",
            f"{len(self.runs)} DAG runs, {n_tasks} tasks, {elapsed:.0f} s. The stack is still running:",
            "",
            f"  Airflow   {self.airflow.base_url}   user admin, password in {LOCAL_DIR / 'airflow' / 'passwords.json'}",
            f"  Nights    {self.airflow.base_url}/sentiment/   (a report: {self.airflow.base_url}/sentiment/reports/1)",
            f"  MLflow    {self.services.settings.mlflow_tracking_uri}",
            '  SQL       .venv/bin/sentiment sql -c "select * from sentiment.daily_sentiment"',
            "  Models    .venv/bin/sentiment models",
            "  Stop it   make down",
        )
        for line in lines:
            console.print(line, soft_wrap=True)

    def _print_versions(self) -> None:
        """What each promoted version is right on, beside the champion before it."""
        from sentiment_core.store.records import events

        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("model", justify="right")
        for name in ("promoted (UTC)", "right on fresh reviews", "right on standing ones"):
            table.add_column(name)
        for event in events(self.services.engine):
            if event["event"] == "promoted":
                at = event["at"].astimezone(UTC)
                figures = (_before_and_after(event["metrics"], part) for part in ("test_fresh", "test_standing"))
                table.add_row(str(event["model_version"]), f"{at:%Y-%m-%d %H:%M}", *figures)
        console.print(table)
        console.print()


def _before_and_after(metrics: dict[str, Any], part: str) -> str:
    """Accuracy of the champion before and of the version promoted, on the same held-out reviews."""
    sides = [(metrics.get(side) or {}).get(part) for side in ("champion", "candidate")]
    known = [f"{figures['accuracy']:.1%}" for figures in sides if figures and figures["n"]]
    return f"{' → '.join(known)} of {sides[-1]['n']:,}" if known and sides[-1] else "none labelled yet"


def _night_table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("night", "reviews", "positive", "model", "verdict", "report"):
        table.add_column(name, justify="right" if name in ("reviews", "positive", "model") else "left", overflow="fold")
    for row in rows:
        table.add_row(
            str(row["review_date"]), f"{row['n_reviews']:,}", f"{row['positive_share']:.0%}", str(row["model_version"]),
            row["verdict"], f"/sentiment/reports/{row['check_id']}",
        )  # fmt: skip
    return table

"""Plays one night of synthetic reviews on the stack of docker-compose.yaml and counts what has arrived.

Run inside: docker compose run --rm --entrypoint python sentiment /opt/sentiment/include/deployment/play_night.py. The
first time a first model is trained; played again, the same night changes nothing. Exit status 1 when a run fails or the
count is off.
"""

import json
import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from sentiment_core.cli import load_settings
from sentiment_core.local.airflow_api import AirflowApi
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.reviews.nights import Sizes, expected_identities, plan_nights
from sentiment_core.stages.services import Services
from sentiment_core.stages.training_sets import write_snapshot
from sentiment_core.store.records import count_scored

NIGHT = date(2026, 11, 20)
SIZES = Sizes(n_training=2_000, n_quiet=500, n_mixed=())


def main(airflow_url: str, password: str) -> int:
    """Train if there is no champion, deliver, score, count."""
    airflow = AirflowApi(airflow_url, "admin", password)
    services = Services(load_settings())
    plan = plan_nights(reviews_dir=None, seed=1, last_date=NIGHT, n_quiet_nights=1, sizes=SIZES)
    if not any("champion" in version["aliases"] for version in services.registry.versions()):
        snapshot = write_snapshot(services, plan.training)
        play(airflow, "retrain_model", conf={"reason": "first model", "snapshot": snapshot})
    night = plan.nights[0]
    for delivery in night.deliveries:
        services.bucket.put_if_changed(incoming_prefix(night.date) + delivery.name, delivery.data)
    play(airflow, "score_reviews", partition_key=night.date.isoformat())
    expected = len(expected_identities(night))
    found = count_scored(services.engine, night.date, night.date)
    print(f"{expected} distinct valid reviews delivered; rows and distinct rows in sentiment.scored_reviews: {found}")
    return 0 if found == (expected, expected) else 1


def play(airflow: AirflowApi, dag_id: str, **request: object) -> None:
    """Trigger a DAG and wait for its end; raises where that is not success."""
    airflow.unpause(dag_id)
    run = airflow.trigger(dag_id, run_id=f"played__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}", **request)
    state = airflow.wait(dag_id, run["dag_run_id"], timeout_s=900)
    print(f"{dag_id}: {state}")
    if state != "success":
        sys.exit(f"run {run['dag_run_id']} of {dag_id}: {state}; its log is in Airflow's UI and in the bucket airflow-logs")


if __name__ == "__main__":
    passwords = json.loads(Path("/opt/state/passwords.json").read_text(encoding="utf-8"))
    sys.exit(main(os.environ.get("AIRFLOW_URL", "http://api-server:8080"), passwords["admin"]))

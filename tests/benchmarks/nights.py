"""A night in a process of its own: the product's stages, and the ways a night is usually written with pandas.

Prepared and told to go by `worker`; a turn is told which database to write to and which day's folder to read.
"""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import contenders, models
from tests.benchmarks.measuring import own_cpu
from tests.benchmarks.servers import BUCKET, PEER_TABLE

Go = Callable[..., dict[str, Any]]


def prepare(spec: dict[str, Any]) -> Go:
    """The way of scoring a night that the spec names; models that are no registered ones are loaded here, once."""
    return {OURS: _ours, SCIKIT_LEARN: _scikit_learn, CLEAN_STEM: _clean_stem}[spec["contender"]](spec)


def _ours(_spec: dict[str, Any]) -> Go:
    from sentiment_core.settings import Settings
    from sentiment_core.stages import night as stages
    from sentiment_core.stages.services import Services
    from sentiment_core.stages.window import Night

    def go(*, settings: dict[str, str], day: str, n_bytes: int) -> dict[str, Any]:
        services = Services(Settings(**settings))
        night = Night(
            window_date=date.fromisoformat(day), run_id="bench", kind="manual", model="champion", force=False, allow_retrain=False
        )
        watch = _Stages()
        stages.preflight(services)
        ref = stages.resolve_model(services, night)
        batches = stages.list_new_objects(services, night)
        watch.passed("preflight, model, list")
        counts = [stages.score_objects(services, night, ref, batch) for batch in batches]
        watch.passed("read, score, COPY")
        outcome = stages.publish_dates(services, night, ref, counts)
        watch.passed("publish")
        services.engine.dispose()
        return {"n": outcome["n_scored"], "n_bytes": n_bytes, "result": watch.stages}

    return go


def _scikit_learn(spec: dict[str, Any]) -> Go:
    twin = models.MODELS[spec["model"]].twin(models.load(Path(spec["model_path"])))
    return _with_pandas(twin.predict_proba)


def _clean_stem(_spec: dict[str, Any]) -> Go:
    pipeline = contenders.clean_stem_pipeline()
    return _with_pandas(lambda texts: pipeline.predict_proba(texts.map(contenders.clean_and_stem)))


def _with_pandas(score: Callable[[Any], Any]) -> Go:
    """read_parquet from S3, score, to_sql into a table with the same columns and indexes."""
    import pandas as pd

    from sentiment_core.store.engine import connect

    def go(*, settings: dict[str, str], day: str, n_bytes: int) -> dict[str, Any]:
        watch = _Stages()
        frame = pd.read_parquet(
            f"s3://{BUCKET}/incoming/date={day}/",
            storage_options={
                "key": settings["s3_access_key_id"],
                "secret": settings["s3_secret_access_key"],
                "client_kwargs": {"endpoint_url": settings["s3_endpoint_url"], "region_name": "us-east-1"},
            },
        )
        watch.passed("read_parquet")
        rows = _rows(frame, score(frame["text"]), date.fromisoformat(day))
        watch.passed("predict_proba")
        engine = connect(settings["database_url"], role=None)
        rows.to_sql(PEER_TABLE, engine, schema="sentiment", if_exists="append", index=False)
        engine.dispose()
        watch.passed("to_sql")
        return {"n": len(frame), "n_bytes": n_bytes, "result": watch.stages}

    return go


def _rows(frame: Any, probabilities: Any, day: date) -> Any:
    """The columns of scored_reviews."""
    return frame.assign(
        review_date=day, source=None, label=np.where(probabilities[:, 1] > 0.5, "positive", "negative"),
        p_negative=probabilities[:, 0], p_neutral=None, p_positive=probabilities[:, 1], confidence=probabilities.max(axis=1),
        model_name="peer", model_version=1, scored_at=datetime.now(UTC), run_id="bench", object_id=1,
        text_excerpt=frame["text"].str.slice(0, 120),
    ).drop(columns=["text", "date"], errors="ignore")  # fmt: skip


class _Stages:
    """Wall and CPU seconds of this process by stage."""

    def __init__(self) -> None:
        self.stages: dict[str, list[float]] = {}
        self._last = time.perf_counter(), own_cpu()

    def passed(self, name: str) -> None:
        now = time.perf_counter(), own_cpu()
        self.stages[name] = [now[0] - self._last[0], now[1] - self._last[1]]
        self._last = now


OURS, SCIKIT_LEARN, CLEAN_STEM = "night, ours", "night, scikit-learn + to_sql", "night, clean + stem + to_sql"

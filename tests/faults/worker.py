"""A worker of a night, as Airflow runs one: step after step, each tried again while that may help, in a process that can be killed.

Its models say of a text what the hash of version and text says, so that a row that carries the wrong stamp is known by
its label.
"""

import json
import logging
import resource
import sys
import time
import zlib
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sentiment_core.domain import ModelRef
from sentiment_core.errors import Transient
from sentiment_core.registry import LoadedModel
from sentiment_core.settings import Settings
from sentiment_core.stages import night as stages
from sentiment_core.stages.services import Services
from sentiment_core.stages.window import Night

LABELS = ("negative", "positive")
TRANSIENT = 75


def label_of(words: str, version: int) -> str:
    return LABELS[zlib.crc32(f"{version} {words}".encode()) % 2]


@dataclass(frozen=True)
class Scorer:
    """A version that says what the hash of the text says."""

    version: int
    classes_ = np.array(LABELS)

    def examine(self, texts: pa.Array) -> tuple[np.ndarray, dict[str, Any]]:
        is_positive = [label_of(words, self.version) == "positive" for words in texts.to_pylist()]
        p_positive = np.where(is_positive, 0.75, 0.25)
        names = ("n_chars", "n_words", "unknown_share", "upper_share", "non_letter_share")
        return np.column_stack([1 - p_positive, p_positive]), {name: np.zeros(len(texts)) for name in names}

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        return probabilities.argmax(axis=1).astype(np.int8)


@dataclass(frozen=True)
class Models:
    """A registry whose champion is one version."""

    champion: int

    def resolve(self, which: str | int) -> ModelRef:
        version = int(which) if str(which).isdigit() else self.champion
        return ModelRef(name="sentiment", version=version, digest=f"{version:064}")

    def open(self, ref: ModelRef) -> LoadedModel:
        return LoadedModel(estimator=Scorer(ref.version), reference=pa.table({}), ref=ref)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a worker is to do."""

    settings: dict[str, Any]
    day: date
    run_id: str = "run"
    kind: str = "manual"
    champion: int = 1
    force: bool = False
    policy: dict[str, Any] | None = None
    patience_s: float = 0.0
    """How long a step is tried again; 0: not at all."""

    def services(self) -> Services:
        services = Services(Settings(**{**self.settings, "state_dir": Path(self.settings["state_dir"])}))
        policy = services.policy
        nightly = replace(policy.nightly, **(self.policy or {}))
        services.__dict__.update(registry=Models(self.champion), policy=replace(policy, nightly=nightly))
        return services


def work(order: Order) -> dict[str, Any]:
    """A night from preflight to publication; raises what its steps raise when trying again does not help in time."""
    services = order.services()
    night = Night(
        window_date=order.day, run_id=order.run_id, kind=order.kind, model="champion", force=order.force, allow_retrain=False
    )

    def step(function: Any, *arguments: Any) -> Any:
        deadline = time.monotonic() + order.patience_s
        while True:
            try:
                return function(services, *arguments)
            except Transient as error:
                if time.monotonic() > deadline:
                    raise
                logging.getLogger("worker").info("tried again: %s", error)
                time.sleep(0.1)  # Airflow waits 15 s and longer

    try:
        step(stages.preflight)
        ref = step(stages.resolve_model, night)
        counts = [step(stages.score_objects, night, ref, batch) for batch in step(stages.list_new_objects, night)]
        return step(stages.publish_dates, night, ref, counts)
    finally:
        services.engine.dispose()


def main(order: Order, outcome: str) -> None:
    """In a process of its own: the outcome goes to a file; ends with 75 when another try may help."""
    logging.basicConfig(level=logging.INFO, filename=f"{outcome}.log")
    try:
        done = work(order)
    except Transient as error:
        logging.getLogger("worker").exception("transient")
        Path(outcome).write_text(json.dumps({"error": f"{type(error).__name__}: {error}"}), encoding="utf-8")
        sys.exit(TRANSIENT)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    Path(outcome).write_text(json.dumps({**done, "peak_bytes": peak}), encoding="utf-8")

"""The model that answers single questions: opened once, kept in memory, swapped as a whole.

Any number of threads may ask while another swaps; each is answered by one version from beginning to end. Here is no
HTTP, and nothing of the database or the bucket: what is needed is MLflow, or what the cache has of it.
"""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sentiment_core.errors import SentimentError, Transient
from sentiment_core.policy import Serving, read_policy
from sentiment_core.settings import ModelSettings
from sentiment_core.stages.explaining import check_text

if TYPE_CHECKING:
    from sentiment_core.domain import ModelRef
    from sentiment_core.registry import Registry

_PROOF = "A good film"

log = logging.getLogger(__name__)


class NothingServed(Transient):
    """There is no model in memory, and none could be had."""


class StaleAnswer(Transient):
    """MLflow is away: what the cache has is good enough to start with, and not to swap for."""


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A version in memory."""

    which: str
    """The alias or number that was asked for."""
    ref: "ModelRef"
    estimator: Any
    loaded_at: datetime

    @property
    def classes(self) -> list[str]:
        """The labels it knows."""
        return [str(name) for name in self.estimator.classes_]

    def score(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Sentiment, confidence and scores of texts, one dict a text; the bulk scorer, in one call."""
        import pyarrow as pa

        from sentiment_core.scoring import score_texts

        table = score_texts(self.estimator, pa.array(texts, pa.large_string()))
        classes = [name.removeprefix("p_") for name in table.column_names if name.startswith("p_")]
        scores = zip(*(table[f"p_{name}"].to_pylist() for name in classes), strict=True)
        said = zip(texts, table["label"].to_pylist(), table["confidence"].to_pylist(), scores, strict=True)
        return [
            {"text": text, "sentiment": label, "confidence": confidence, "scores": dict(zip(classes, row, strict=True))}
            for text, label, confidence, row in said
        ]


class ModelService:
    """One model that answers."""

    def __init__(self, registry: "Registry", limits: Serving, which: str = "champion") -> None:
        self.limits = limits
        self._registry = registry
        self._which = which
        self._served: ServedModel | None = None
        self._swapping = threading.Lock()
        self._looked_at = float("-inf")  # by the monotonic clock
        self._missing: SentimentError | None = None

    @property
    def in_memory(self) -> ServedModel | None:
        """What answers now, without looking for it."""
        return self._served

    def served(self) -> ServedModel:
        """What answers; looked for where there is nothing yet, by one caller at a time and every `retry_seconds`.

        Raises:
            NothingServed: with the reason.
        """
        served = self._served
        if served is not None:
            return served
        if not self._swapping.acquire(blocking=False):  # a thread is a thing to be sparing of: others need them too
            raise NothingServed(
                f"model {self._which}", expected="one in memory", found="it being loaded", remedy="ask again in some seconds"
            )
        try:
            return self._served or self._look()
        finally:
            self._swapping.release()

    def _look(self) -> ServedModel:
        if self._missing is None or time.monotonic() - self._looked_at >= self.limits.retry_seconds:
            try:
                self._served = self._open(self._which)
            except SentimentError as error:
                log.warning("no model to answer with: %s", error)
                self._missing = error
            else:
                return self._served
            finally:
                self._looked_at = time.monotonic()
        found = self._missing
        raise NothingServed(found.thing, expected=found.expected, found=found.found, remedy=found.remedy) from found

    def check(self, texts: Sequence[str]) -> None:
        """Refuse texts that no model is asked about; raises RefusedText, which names the text by its place."""
        for number, text in enumerate(texts, 1):
            check_text(text, f"text {number}" if len(texts) > 1 else "text", self.limits.max_text_chars)

    def reload(self, which: str | None = None) -> ServedModel:
        """Open what an alias or number means now and let it answer; whatever fails, the one before goes on answering.

        Args:
            which: None for what was asked for last.

        Raises:
            NoModel: no such alias or version.
            Transient: MLflow is away; what the cache knows is taken only where there is no model at all.
            Permanent: the version is not to be trusted, or cannot score.
        """
        with self._swapping:
            opened = self._open(which or self._which)
            self._served, self._which = opened, opened.which
        log.info("version %s of %s answers now", opened.ref.version, opened.ref.name)
        return opened

    def _open(self, which: str) -> ServedModel:
        ref = self._registry.resolve(which)
        if ref.is_degraded and self._served is not None:
            raise StaleAnswer(
                "MLflow", expected=f"to hear what {which} is", found="no answer", remedy="start it (`make up`), then reload"
            )
        served = ServedModel(which=which, ref=ref, estimator=self._registry.open(ref).estimator, loaded_at=datetime.now(UTC))
        served.score([_PROOF])  # loads what is compiled, and shows that it can before anybody depends on it
        return served


def open_service(settings: ModelSettings, which: str = "champion") -> ModelService:
    """A service over MLflow; nothing is loaded yet.

    Raises:
        Permanent: the policy's file is off.
    """
    from sentiment_core.registry import Registry

    registry = Registry(settings.mlflow_tracking_uri, settings.model_name, settings.state_dir / "models")
    return ModelService(registry, read_policy(settings.policy_path).serving, which)

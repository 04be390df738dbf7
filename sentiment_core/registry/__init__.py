"""All of MLflow: registering a candidate, resolving an alias to a version, opening a version that is trusted.

This module talks to the server; `artefact` knows a version's files and what of them is trusted, `cache` keeps opened
versions on disk, so that scoring goes on while MLflow is away. No training, no policy, no SQL.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from sentiment_core.domain import ModelRef
from sentiment_core.drift.reference import Reference
from sentiment_core.errors import Permanent, Transient
from sentiment_core.registry import tracking
from sentiment_core.registry.artefact import (
    DIGEST,
    MODEL_FILE,
    PREPARED,
    Candidate,
    UntrustedModel,
    digest_of,
    load_estimator,
    load_lens,
    load_reference,
    save_model,
)
from sentiment_core.registry.cache import ModelCache
from sentiment_core.text.lens import Lens

_TAG = "sentiment."
_MLFLOW_DEFAULTS = {
    # Seven retries with exponential backoff would hide an absent server for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

log = logging.getLogger(__name__)


class NoModel(Permanent):
    """There is no such version or alias."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A version in memory."""

    estimator: Any
    """The scikit-learn estimator: `predict_proba`, `examine`, `classes_`."""
    reference: Reference | None
    """What its nights are compared with; None where an earlier version of the product made it."""
    ref: ModelRef
    lens: Lens | None = None
    """What drift checks see of a text; None as above."""


class Registry:
    """One registered model of one MLflow."""

    def __init__(self, tracking_uri: str, name: str, cache_dir: Path) -> None:
        for variable, value in _MLFLOW_DEFAULTS.items():
            os.environ.setdefault(variable, value)
        self.tracking_uri = _without_credentials(tracking_uri)
        self.name = name
        self._cache = ModelCache(Path(cache_dir), f"{self.tracking_uri}\n{name}")

    def register(
        self, candidate: Candidate, *, snapshot_key: str | None, code_version: str, run_name: str, description: str = ""
    ) -> ModelRef:
        """Store a candidate with its figures as the next version.

        Args:
            candidate: estimator, metrics, reference and params.
            snapshot_key: key of its training set in the bucket.
            code_version: version of this code.
            run_name: the run that trained it.
            description: why it was trained, for people.

        Raises:
            Transient: MLflow is away.
            Permanent: MLflow refuses.
        """
        with self._mlflow("registering a model") as client, tempfile.TemporaryDirectory(prefix="sentiment-model-") as folder:
            tags = {"snapshot": snapshot_key or "", "code_version": code_version, "run": run_name}
            run = client.create_run(
                self._experiment(client),
                start_time=tracking.begun(candidate.seconds),
                run_name=run_name,
                tags={_TAG + name: value for name, value in tags.items()} | tracking.about(description, code_version),
            )
            try:
                tracking.log_candidate(client, run.info.run_id, candidate, snapshot_key=snapshot_key)
                tracking.log_trials(client, run.info.experiment_id, run.info.run_id, candidate.trials, tags)
                model_dir = Path(folder) / "model"
                save_model(candidate, model_dir, run.info.run_id)
                tags["digest"] = digest_of(model_dir)
                tracking.log_values(client, run.info.run_id, metrics=_sizes(model_dir))
                client.log_artifacts(run.info.run_id, str(model_dir), "model")
                version = client.create_model_version(
                    self._registered(client),
                    source=f"{run.info.artifact_uri}/model",
                    run_id=run.info.run_id,
                    tags={_TAG + name: value for name, value in tags.items()},
                    description=description,
                    await_creation_for=0,  # a version is ready at once
                )
            except BaseException:
                with contextlib.suppress(Exception):  # the first failure is the one to tell
                    client.set_terminated(run.info.run_id, "FAILED")
                raise
            client.set_terminated(run.info.run_id, "FINISHED")
            return self._ref(version)

    def log_outcome(self, ref: ModelRef, *, outcome: str, reason: str, metrics: dict[str, Any]) -> None:
        """Note on the run of a version what became of it; see `tracking.log_outcome`."""
        with self._mlflow(f"run of model {ref.name} version {ref.version}") as client:
            run_id = client.get_model_version(ref.name, str(ref.version)).run_id
            tracking.log_outcome(client, run_id, outcome=outcome, reason=reason, metrics=metrics)

    def resolve(self, which: str | int) -> ModelRef:
        """Pin an alias or a version number.

        While MLflow is away, what was resolved before and lies in the cache is given with `is_degraded`: for an alias
        the version it last meant.

        Raises:
            NoModel: no such alias or version.
            Transient: MLflow is away and the cache does not help.
        """
        try:
            with self._mlflow(f"model {self.name}") as client:
                ref = self._ref(self._find(client, which))
        except Transient as error:
            known = self._cache.last_known(which)
            if known is None:
                raise
            log.warning("MLflow is away, version %s from the cache is used: %s", known.version, error)
            return replace(known, is_degraded=True)
        self._cache.remember(str(which), ref)
        return ref

    def open(self, ref: ModelRef) -> LoadedModel:
        """Load a version, from the cache where it lies there; what is loaded has the digest of the ref.

        Raises:
            UntrustedModel: the files differ from the digest, or hold other types than `artefact.trusted_types`.
            Transient: not in the cache, and MLflow is away.
        """
        folder = self._cache.find(ref) or self._download(ref)
        return LoadedModel(estimator=load_estimator(folder), reference=load_reference(folder), lens=load_lens(folder), ref=ref)

    def size_of(self, ref: ModelRef) -> int:
        """Bytes of a version's files, as every worker holds them; raises as `open` does."""
        folder = self._cache.find(ref) or self._download(ref)
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def set_alias(self, alias: str, version: int) -> None:
        """Point an alias at a version; atomic."""
        with self._mlflow(f"alias {alias} of model {self.name}") as client:
            client.set_registered_model_alias(self.name, alias, str(version))

    def versions(self) -> list[dict[str, Any]]:
        """Every version, oldest first: version, aliases, digest, snapshot, code_version, run, description, created_at, mlflow_run_id."""
        with self._mlflow(f"model {self.name}") as client:
            found = client.search_model_versions(f"name='{self.name}'", max_results=10_000)
            if not found:
                return []
            aliases = client.get_registered_model(self.name).aliases
        return [
            {
                "version": int(version.version),
                "aliases": sorted(alias for alias, target in aliases.items() if int(target) == int(version.version)),
                "digest": version.tags.get(_TAG + "digest"),
                "snapshot": version.tags.get(_TAG + "snapshot") or None,
                "code_version": version.tags.get(_TAG + "code_version"),
                "run": version.tags.get(_TAG + "run"),
                "description": version.description or "",
                "created_at": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(),
                "mlflow_run_id": version.run_id,
            }
            for version in sorted(found, key=lambda version: int(version.version))
        ]

    @contextlib.contextmanager
    def _mlflow(self, thing: str) -> Iterator[Any]:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            yield MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
        except MlflowException as error:
            raise self._translate(thing, error) from error
        except (RequestException, ConnectionError, TimeoutError) as error:  # how transfers of files fail
            raise self._away(thing, error) from error
        except Exception as error:
            # MLflow straight on a database lets its errors through; naming their class would import a second vendor.
            if type(error).__module__.startswith("sqlalchemy."):
                raise self._away(thing, error) from error
            raise

    def _translate(self, thing: str, error: Any) -> Permanent | Transient:
        if error.error_code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"):
            return Permanent(
                thing,
                expected=f"access to MLflow at {self.tracking_uri}",
                found=str(error),
                remedy="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or put them into MLFLOW_TRACKING_URI",
            )
        if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "ABORTED"):
            return self._away(thing, error)  # a refused connection arrives as INTERNAL_ERROR
        return Permanent(thing, expected="MLflow to accept it", found=str(error), remedy="see MLflow's log")

    def _away(self, thing: str, error: Exception) -> Transient:
        return Transient(
            thing,
            expected=f"an answer from MLflow at {_shown(self.tracking_uri)}",
            found=str(error)[:500],
            remedy="start it (`make up`) or correct MLFLOW_TRACKING_URI",
        )

    def _experiment(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self.name)
        if found is None:
            try:
                return str(client.create_experiment(self.name, tags=tracking.EXPERIMENT_TAGS))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(self.name)  # somebody else was quicker
        return str(found.experiment_id)

    def _registered(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(self.name, description="Sentiment of reviews: texts to probabilities")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self.name

    def _find(self, client: Any, which: str | int) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            if str(which).isdigit():
                return client.get_model_version(self.name, str(which))
            return client.get_model_version_by_alias(self.name, str(which))
        except MlflowException as error:
            # MLflow says INVALID_PARAMETER_VALUE of an alias that is not set.
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise NoModel(
                f"{which if not str(which).isdigit() else f'version {which}'} of model {self.name}",
                expected="a registered version",
                found="none in MLflow",
                remedy="train one with `make demo` or a run of the DAG retrain_model; `sentiment models` lists what there is",
            ) from error

    def _ref(self, version: Any) -> ModelRef:
        digest = version.tags.get(_TAG + "digest", "")
        if not DIGEST.fullmatch(digest):
            raise UntrustedModel(
                f"model {self.name} version {version.version}",
                expected="a digest in its tags",
                found=repr(digest),
                remedy="register models through this product; point the alias at a version that was",
            )
        return ModelRef(
            name=self.name,
            version=int(version.version),
            digest=digest,
            snapshot=version.tags.get(_TAG + "snapshot") or None,
        )

    def _download(self, ref: ModelRef) -> Path:
        from mlflow.artifacts import download_artifacts

        with self._cache.room() as room:
            with self._mlflow(f"files of model {ref.name} version {ref.version}") as client:
                source = client.get_model_version_download_uri(ref.name, str(ref.version))
                found = download_artifacts(artifact_uri=source, dst_path=str(room), tracking_uri=self.tracking_uri)
            return self._cache.add(ref, Path(found))


def _sizes(folder: Path) -> list[tuple[str, float, int]]:
    """Bytes of a model: what is learnt, and all that a scorer maps into memory."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    prepared = sum(path.stat().st_size for path in files if PREPARED in path.relative_to(folder).parts)
    return [("model_bytes", (folder / MODEL_FILE).stat().st_size, 0), ("model_prepared_bytes", prepared, 0)]


def _without_credentials(tracking_uri: str) -> str:
    """Hand a password in the address to MLflow through its own variables, which its messages do not show."""
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return tracking_uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _shown(tracking_uri: str) -> str:
    """An address without its password; a database's may stand in it."""
    parts = urlsplit(tracking_uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

"""The files of a model version: how they are written, what their digest is, and what of them is trusted.

A model is read by skops with our own list of types, never with the list that its files bring along; the code that
travels with it serves other people's processes and is never imported by ours. Nothing here talks to a server.
"""

import hashlib
import logging
import re
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Protocol

import yaml  # type: ignore[import-untyped]  # comes with MLflow

from sentiment_core import memory
from sentiment_core.domain import ModelRef
from sentiment_core.drift.reference import Reference
from sentiment_core.errors import Permanent
from sentiment_core.families import installed_families
from sentiment_core.text.lens import Lens
from sentiment_core.trials import Trial

# Everything a stored model of ours may be made of besides numpy arrays and plain values.
TRUSTED_TYPES = ("sentiment_core.model.estimator.SentimentClassifier",)
_STATE = {
    "term_bytes_", "char_bytes_", "scale_", "coef_", "intercept_", "calibration_coef_", "calibration_intercept_", "offsets_",
    "classes_", "char_max", "classifier", "ratio_power",
}  # fmt: skip
DIGEST = re.compile(r"[0-9a-f]{64}")

MODEL_FILE = "model.skops"
_REFERENCE_FILE = "extra_files/reference.arrow"
_LENS = "lens"
# What scoring builds out of the estimator, as files to be mapped into memory; loaders that are not ours build it themselves.
PREPARED = "prepared"
_PACKAGE = Path(__file__).resolve().parent.parent
# What a model cannot import, since it lies above or beside it (the layers in pyproject.toml), need not travel with it: every
# file is a request when a version is stored, and one when a worker fetches it.
_LEFT_AT_HOME = {"cli", "warm.py", "stages", "local", "reviews", "scoring.py", "registry", "reports", "reports.py", "store"}
_DISTRIBUTIONS = ("mlflow", "numba", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "skops")
_LOCAL_ONLY = {"registered_model_meta"}  # written beside a downloaded model by MLflow, never stored with it

log = logging.getLogger(__name__)


class UntrustedModel(Permanent):
    """The stored files are not what was registered, or hold what we do not load."""


class Candidate(Protocol):
    """What is registered; see `model.training.Candidate`."""

    @property
    def estimator(self) -> Any: ...  # noqa: D102
    @property
    def metrics(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def reference(self) -> Reference: ...  # noqa: D102
    @property
    def lens(self) -> Lens | None: ...  # noqa: D102
    @property
    def params(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def trials(self) -> Sequence[Trial]: ...  # noqa: D102
    @property
    def curves(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def seconds(self) -> float: ...  # noqa: D102
    @property
    def reviews_per_second(self) -> float: ...  # noqa: D102


def save_model(candidate: Candidate, folder: Path, run_id: str) -> None:
    """Write everything a version consists of into a new folder; the run's id is noted in it."""
    import mlflow.sklearn
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    with tempfile.TemporaryDirectory(prefix="sentiment-model-") as beside:
        reference = Path(beside) / Path(_REFERENCE_FILE).name
        reference.write_bytes(candidate.reference.to_bytes())
        code = Path(beside) / _PACKAGE.name
        shutil.copytree(_PACKAGE, code, ignore=_left_at_home)
        mlflow.sklearn.save_model(
            candidate.estimator,
            str(folder),
            mlflow_model=Model(artifact_path="model", run_id=run_id),
            serialization_format="skops",
            skops_trusted_types=trusted_types(),
            # Given in full: left out, MLflow infers them by loading the model in another process (20 to 30 s).
            signature=ModelSignature(inputs=Schema([ColSpec("string", "text")]), outputs=Schema([ColSpec("string")])),
            pip_requirements=[f"{name}=={installed_version(name)}" for name in _DISTRIBUTIONS],
            code_paths=[str(code)],
            extra_files=[str(reference)],
        )
    candidate.estimator.save_prepared(folder / PREPARED)
    if candidate.lens is not None:
        candidate.lens.save(folder / _LENS)


def _left_at_home(folder: str, names: list[str]) -> set[str]:
    return {"__pycache__", *(_LEFT_AT_HOME if Path(folder) == _PACKAGE else ())} & set(names)


def trusted_types() -> list[str]:
    """What a stored model may be made of: our own type, and those of families that installed packages bring."""
    return [*TRUSTED_TYPES, *(name for family in installed_families() for name in family.trusted_types)]


def digest_of(folder: Path) -> str:
    """SHA-256 over the sorted (path, SHA-256) of a model's files; what a loader leaves beside them does not count."""
    total = hashlib.sha256()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    for name in sorted(files):
        if name in _LOCAL_ONLY or "__pycache__" in name.split("/"):
            continue
        with files[name].open("rb") as stream:
            total.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def check_digest(folder: Path, ref: ModelRef) -> None:
    """Raise UntrustedModel when the files are not what was registered."""
    found = digest_of(folder)
    if found != ref.digest:
        raise UntrustedModel(
            f"files of model {ref.name} version {ref.version}",
            expected=f"digest {ref.digest}",
            found=found,
            remedy="find out who changed them; promote another version meanwhile",
        )


def load_estimator(folder: Path) -> Any:
    """The estimator of a folder whose digest has been checked."""
    import skops.io

    flavor = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8")).get("flavors", {}).get("sklearn", {})
    storage, types = flavor.get("serialization_format"), flavor.get("skops_trusted_types") or []
    if storage != "skops" or flavor.get("pickled_model") != MODEL_FILE:
        raise _untrusted(folder, "the format skops", repr(storage))
    types = {*types, *skops.io.get_untrusted_types(file=folder / MODEL_FILE)}
    trusted = trusted_types()
    if not types <= set(trusted):
        raise _untrusted(folder, "no types but " + ", ".join(trusted), ", ".join(sorted(types - set(trusted))))
    estimator = skops.io.load(folder / MODEL_FILE, trusted=trusted)
    memory.trim()  # skops reads the file twice, and each array as bytes first
    is_own = f"{type(estimator).__module__}.{type(estimator).__qualname__}" in TRUSTED_TYPES
    if is_own and (missing := _STATE - vars(estimator).keys()):
        raise Permanent(
            f"model {folder.name}",
            expected="the arrays that this version of the product reads",
            found=f"none named {', '.join(sorted(missing))}: an earlier version made it",
            remedy="train it anew: a run of the DAG retrain_model, or `make demo`",
        )
    if (folder / PREPARED).is_dir():
        estimator.open_prepared(folder / PREPARED)
        memory.trim()  # what was read and is mapped now
        return estimator
    log.warning("%s holds no compiled dictionary, it is compiled now; models registered anew bring theirs", folder)
    return estimator.prepare()


def load_reference(folder: Path) -> Reference | None:
    """The reference of a folder whose digest has been checked; None where an earlier version of the product made the model."""
    path = folder / _REFERENCE_FILE
    return Reference.from_bytes(path.read_bytes()) if path.is_file() else None


def load_lens(folder: Path) -> Lens | None:
    """The lens of a folder whose digest has been checked; None where it has none."""
    return Lens.open(folder / _LENS) if (folder / _LENS).is_dir() else None


def _untrusted(folder: Path, expected: str, found: str) -> UntrustedModel:
    return UntrustedModel(
        f"model {folder.name}", expected=expected, found=found, remedy="register models through this product only"
    )

"""Other people's programs, installed on demand into an environment of their own: fastText, Vowpal Wabbit, Spark.

fastText and Vowpal Wabbit are given texts cut into tokens beforehand, as their documentation asks for, outside what is
timed; Spark runs the whole usual pipeline. One that cannot be installed or started is left out, and its reason is
told. What they do in their turns stands in `peer_turns`.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.corpus import Originals
from tests.benchmarks.measuring import ONE_THREAD, REPOSITORY, BenchError, Contender, Tell
from tests.benchmarks.models import tokens

FASTTEXT, VOWPAL_WABBIT, SPARK = "fastText predict", "Vowpal Wabbit", "Spark local[2], clean + stem"
_PACKAGES = {
    FASTTEXT: ["fasttext-numpy2-wheel"],  # the original does not build, and does not know numpy 2
    VOWPAL_WABBIT: ["vowpalwabbit"],
    SPARK: ["pyspark>=4", "pandas", "pyarrow", "scikit-learn", "nltk", "numba", "skops"],
}
NAMES = tuple(_PACKAGES)
_WORKERS_OWN = ["psutil", "numpy"]
_SPARK_SHARE = 10  # Spark scores at the pace of the usual pipeline: it gets a tenth of the texts

_reasons: list[str] = []


def start(
    names: list[str], source: Originals, kept: Path, workspace: Path, *, n: int, ngram_max: int, n_features: int, tell: Tell
) -> Iterator[Contender]:
    """Those of the named peers that can be had, ready; told `n` reviews each, and how large a model to learn."""
    python = _environment(kept.parent / "bench-venv", tell)
    for name in names:
        packages, contender = _PACKAGES[name], None
        try:
            tell(f"installing {name}")
            _install(python, packages)
            tell(f"preparing {name}")
            contender = _contender(name, python, workspace, _spec(name, source, workspace, n) | _size(ngram_max, n_features))
            contender.wait_until_ready()
        except BenchError as error:
            _reasons.append(f"{name} was left out: {str(error).strip().splitlines()[-1]}")
            if contender:
                contender.stop()
            continue
        yield contender


def reasons() -> list[str]:
    """Why some could not be had."""
    return _reasons


def _environment(folder: Path, tell: Tell) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        tell(f"making {folder}")
        _run([_uv(), "venv", "--quiet", "--python", sys.executable, str(folder)])
    return python


def _install(python: Path, packages: list[str]) -> None:
    if packages == _PACKAGES[SPARK] and not shutil.which("java"):
        raise BenchError("there is no Java")
    _run([_uv(), "pip", "install", "--quiet", "--python", str(python), *_WORKERS_OWN, *packages])


def _uv() -> str:
    return str(Path(sys.executable).with_name("uv"))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(done.stderr)


def _contender(name: str, python: Path, workspace: Path, spec: dict[str, Any]) -> Contender:
    variables = {**ONE_THREAD, "PYTHONPATH": str(REPOSITORY), "PYSPARK_PYTHON": str(python), "SPARK_LOCAL_IP": "127.0.0.1"}
    command = [str(python), "-m", "tests.benchmarks.worker"]
    return Contender(command, spec, workspace / "logs" / f"{spec['peer']}.log", variables)


def _size(ngram_max: int, n_features: int) -> dict[str, Any]:
    # Four slots a term: a model whose terms share their weights would be another one.
    return {"ngram_max": ngram_max, "slot_bits": (4 * n_features - 1).bit_length()}


def _spec(name: str, source: Originals, workspace: Path, n: int) -> dict[str, Any]:
    texts, labels = source.training()
    spec = {"contender": name, "folder": str(workspace)}
    if name == SPARK:
        return {**spec, "peer": "spark", "n": n // _SPARK_SHARE}
    scored = source.texts.slice(0, n)
    kind = "fasttext" if name == FASTTEXT else "vw"
    line = _fasttext_line if name == FASTTEXT else _vw_line
    for file, some, theirs in (("train", texts, labels), ("score", scored, [None] * n)):
        lines = (line(tokens(text), label) for text, label in zip(some.to_pylist(), theirs, strict=False))
        (workspace / f"{kind}-{file}.txt").write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")
    return {**spec, "peer": kind, "n": len(scored), "n_bytes": _bytes(scored)}


def _bytes(texts: Any) -> int:
    from tests.benchmarks.corpus import byte_count

    return byte_count(texts)


def _fasttext_line(words: list[str], label: str | None) -> str:
    return " ".join([f"__label__{label}", *words] if label else words)


def _vw_line(words: list[str], label: str | None) -> str:
    # Its format gives these two characters a meaning.
    escaped = " ".join(words).replace(":", "_colon_").replace("|", "_bar_")
    return f"{ {'positive': '1 ', 'negative': '-1 '}.get(label or '', '') }| {escaped}"

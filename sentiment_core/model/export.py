"""A model as open files: dictionary and weights as Parquet, rules as JSON, and a script that rebuilds it from them.

What is written is enough to rebuild the model out of scikit-learn's parts; `rebuild` does. No registry, no reading back.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment_core.errors import Permanent
from sentiment_core.model.estimator import SentimentClassifier, linear
from sentiment_core.text.stop_words import stop_words

_SCRIPT = Path(__file__).with_name("rebuild.py")


def export_model(model: Any, folder: Path, about: dict[str, Any]) -> list[Path]:
    """Write dictionary.parquet (term, kind, and for each score its scale and weight), model.json and rebuild.py.

    Args:
        model: a fitted one.
        folder: made where it is missing; must be empty otherwise.
        about: what is to be said of the model, as plain values.

    Raises:
        Permanent: the folder holds something, or cannot be written; the model is no sum over terms.
    """
    model = linear(model)
    paths = [folder / name for name in ("dictionary.parquet", "model.json", _SCRIPT.name)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise Permanent(f"folder {folder}", expected="an empty one", found="files in it", remedy="name another, or empty it")
        pq.write_table(_dictionary(model), paths[0], compression="zstd")
        paths[1].write_text(json.dumps({**about, **_description(model)}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.copyfile(_SCRIPT, paths[2])
    except OSError as error:
        raise Permanent(
            f"folder {folder}", expected="a place to write to", found=str(error), remedy="name another, or make room"
        ) from error
    return paths


def _scores(model: SentimentClassifier) -> list[str]:
    classes = [str(name) for name in model.classes_]
    return classes if len(model.coef_) == len(classes) else classes[1:]


def _dictionary(model: SentimentClassifier) -> pa.Table:
    blocks = {"words": model.vocabulary, "characters": model.characters}
    terms = [
        pa.Array.from_buffers(
            pa.large_string(), len(block), [None, pa.py_buffer(block.term_offsets), pa.py_buffer(block.term_bytes)]
        )
        for block in blocks.values()
    ]
    kinds = [name for name, block in blocks.items() for _ in range(len(block))]
    columns: dict[str, Any] = {"term": pa.chunked_array(terms), "kind": pa.array(kinds, pa.string()).dictionary_encode()}
    for place, name in enumerate(_scores(model)):
        columns[f"scale_{name}"] = model.scale_[min(place, len(model.scale_) - 1)]
        columns[f"weight_{name}"] = model.coef_[place]
    return pa.table(columns)


def _description(model: SentimentClassifier) -> dict[str, Any]:
    is_presence = model.weighting != "tfidf"
    calibration = {"coef": model.calibration.coef.tolist(), "intercept": model.calibration.intercept.tolist()}
    return {
        "classes": [str(name) for name in model.classes_],
        "scores": _scores(model),
        "counts": "presence" if is_presence else "1 + log(count)",
        "norm": "counts x scale; rows of words and rows of characters each of length one",
        "characters": [model.char_min, model.char_max] if model.char_max else None,
        "link": model.link,
        "intercepts": model.intercept_.tolist(),
        "calibration": calibration if len(model.calibration.coef) else None,
        "decision_offsets": dict(zip([str(name) for name in model.classes_], model.offsets_.tolist(), strict=True)),
        "rules": model.rules.as_dict(),
        "patterns": model.rules.patterns(),
        "masks": model.rules.masks(),
        "stop_words": sorted(stop_words()) if model.drop_stop_words else [],
        "parameters": model.get_params(),
    }

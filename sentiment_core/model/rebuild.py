"""Rebuilds an exported model out of scikit-learn's and NLTK's parts: the reference that bulk scoring is compared with.

A copy of this file lies in every export (`sentiment export`), beside dictionary.parquet and model.json, and needs nothing
else of the product: pandas with pyarrow, scikit-learn, and NLTK where words are stemmed or negations marked.

    python rebuild.py FOLDER "a text" "another"
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import hstack
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression


class RebuiltModel:
    """`classes_` and `predict_proba` of an exported model, some thirty times slower than the model itself."""

    def __init__(self, folder: Path) -> None:
        model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        frame = pd.read_parquet(folder / "dictionary.parquet")
        self.classes_ = np.array(model["classes"])
        self._link = model["link"]
        self._analyser = Analyser(model)
        kinds = {"words": self._analyser, "characters": self._analyser.characters}
        self._blocks = [
            (
                frame["kind"] == kind,
                CountVectorizer(
                    analyzer=analyser,
                    vocabulary=frame["term"][frame["kind"] == kind].tolist(),
                    binary=model["counts"] == "presence",
                    dtype=np.float64,
                ),
            )
            for kind, analyser in kinds.items()
            if (frame["kind"] == kind).any()
        ]
        self._is_sublinear = model["counts"] == "1 + log(count)"
        self._regressions = [
            _regression(model, frame, names) for names in ([model["scores"]] if model["link"] == "softmax" else [[n] for n in model["scores"]])
        ]  # fmt: skip
        self._calibration = _logistic(self.classes_, **model["calibration"]) if model["calibration"] else None
        self._offsets = np.array([model["decision_offsets"][name] for name in model["classes"]])

    def predict(self, texts: list[str]) -> Any:
        """The class whose log probability and offset add up to most."""
        return self.classes_[(self.predict_proba(texts) * np.exp(self._offsets)).argmax(axis=1)]

    def predict_proba(self, texts: list[str]) -> Any:
        """Probabilities, one row a text and one column a class."""
        counts = [(is_here, counter.transform(texts)) for is_here, counter in self._blocks]
        rows = [
            (regression, hstack([self._weigh(block, scale[is_here]) for is_here, block in counts], format="csr"))
            for scale, regression in self._regressions
        ]
        if self._calibration:
            scores = [regression.decision_function(row).reshape(len(texts), -1) for regression, row in rows]
            return self._calibration.predict_proba(np.concatenate(scores, axis=1))
        found = [regression.predict_proba(row) for regression, row in rows]
        if self._link != "one against the rest":
            return found[0]
        each = np.column_stack([probabilities[:, 1] for probabilities in found])
        return each / each.sum(axis=1, keepdims=True)

    def _weigh(self, counts: Any, scale: Any) -> Any:
        weights = TfidfTransformer(sublinear_tf=self._is_sublinear)
        weights.idf_ = scale.to_numpy()
        return weights.transform(counts)


def _regression(model: dict[str, Any], frame: pd.DataFrame, names: list[str]) -> tuple[pd.Series, LogisticRegression]:
    regression = _logistic(
        np.array(model["classes"] if len(names) > 1 else [f"not {names[0]}", names[0]]),
        frame[[f"weight_{name}" for name in names]].to_numpy().T,
        [model["intercepts"][model["scores"].index(name)] for name in names],
    )
    return frame[f"scale_{names[0]}"], regression


def _logistic(classes: Any, coef: Any, intercept: Any) -> LogisticRegression:
    regression = LogisticRegression()
    regression.classes_, regression.coef_, regression.intercept_ = classes, np.array(coef), np.array(intercept)
    return regression


class Analyser:
    """A text into its terms, by the rules of model.json in the order in which they act."""

    def __init__(self, model: dict[str, Any]) -> None:
        self._rules, self._patterns, self._masks = model["rules"], model["patterns"], model["masks"]
        self._stop_words = set(model["stop_words"])
        if model["characters"]:
            # scikit-learn's own, on texts that are cleaned already.
            self._runs = CountVectorizer(
                analyzer="char_wb", ngram_range=tuple(model["characters"]), lowercase=False
            ).build_analyzer()
        self._token = re.compile(
            "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in self._patterns.items() if kind not in ("html_tag", "number"))
        )
        if self._rules["stem"]:
            from nltk.stem.porter import PorterStemmer

            self._stem = PorterStemmer().stem

    def __call__(self, text: str) -> list[str]:
        """Terms in the order of the text, shorter ones first."""
        tokens = self._tokens(text)
        longest = range(1, self._rules["ngram_max"] + 1)
        return [" ".join(tokens[first : first + n]) for n in longest for first in range(len(tokens) - n + 1)]

    def characters(self, text: str) -> list[str]:
        """Runs of characters inside words, a blank on each side."""
        return list(self._runs(self._cleaned(text)))

    def _cleaned(self, text: str) -> str:
        if self._rules["strip_html"]:
            text = re.sub(self._patterns["html_tag"], " ", text)
        return text.lower() if self._rules["lower_case"] else text

    def _tokens(self, text: str) -> list[str]:
        text = self._cleaned(text)
        found = [(match.lastgroup or "", match.group()) for match in self._token.finditer(text)]
        marks = self._marks(found)
        return [
            (self._masks.get(kind) or self._plain(kind, token)) + mark
            for (kind, token), mark in zip(found, marks, strict=True)
            if not (self._rules["drop_stop_words"] and kind not in self._masks and token in self._stop_words)
        ]

    def _marks(self, found: list[tuple[str, str]]) -> list[str]:
        if not self._rules["mark_negation"]:
            return [""] * len(found)
        from nltk.sentiment.util import mark_negation

        words = ["x" if kind in self._masks else token for kind, token in found]  # an address negates nothing
        return [marked[len(word) :] for word, marked in zip(words, mark_negation(list(words)), strict=True)]

    def _plain(self, kind: str, token: str) -> str:
        if kind != "word":
            return token
        if "number" in self._masks and re.fullmatch(self._patterns["number"], token):
            return str(self._masks["number"])
        return str(self._stem(token, to_lowercase=False)) if self._rules["stem"] else token


def main() -> None:
    """Print the probabilities of the texts on the command line."""
    model = RebuiltModel(Path(sys.argv[1]))
    for text, row in zip(sys.argv[2:], model.predict_proba(sys.argv[2:]), strict=True):
        print(json.dumps({"text": text, **dict(zip(model.classes_.tolist(), row.tolist(), strict=True))}))


if __name__ == "__main__":
    main()

"""What a model does with sentences whose answer anybody knows: negated, put in other words, spelled otherwise.

After CheckList (Ribeiro et al. 2020): `flips` and `moves` are directional tests, `stays` invariance tests, `is` minimum
functionality. The sentences stand in behaviour.toml, to be extended without code; limits are the policy's. English
only. No labelled reviews, and nothing about one model being better than another.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sentiment_core.errors import Permanent

SENTENCES = Path(__file__).with_name("behaviour.toml")
_SLOT = re.compile(r"\{(\w+)\}")
_MAX_EXAMPLES = 3
_RESPELLINGS: dict[str, Callable[[str], str]] = {
    "upper_case": str.upper,
    "lower_case": str.lower,
    "without_full_stop": lambda text: text.removesuffix("."),
    "wide_blanks": lambda text: text.replace(" ", "  "),
    "curly_apostrophe": lambda text: text.replace("'", "\u2019"),
}
_KEYS = {
    "flips": {"praise", "complaint"},
    "moves": {"praise", "complaint"},
    "stays": {"pairs", "sentences", "swapped", "respelled"},
    "is": {"negative", "neutral", "positive"},
}


@dataclass(frozen=True, kw_only=True)
class BehaviourResult:
    """How a model did on one kind of sentences."""

    name: str
    expectation: str
    """What it should do, in words."""
    n: int
    """Sentences, or pairs of them, that were tried."""
    n_failed: int
    failed_share: float
    examples: tuple[str, ...]
    """Up to three failures, each in words; taken from different templates where there are several."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A sentence with its label, or two whose labels are compared."""

    template: str
    """What it was made from."""
    texts: tuple[str, ...]
    label: str | None = None
    """The only right one, for law `is`."""
    is_praise: bool = True
    """Whether the first of two is the kinder one, for law `moves`."""


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Trials of one kind."""

    name: str
    law: str
    """`flips` (another label), `moves` (a score that is further on the other side), `stays` (the same label) or `is`."""
    expectation: str
    trials: tuple[Trial, ...]


def examine_behaviour(estimator: Any, behaviours: Sequence[Behaviour] | None = None) -> tuple[BehaviourResult, ...]:
    """Try a model on every behaviour.

    Args:
        estimator: `predict`, `predict_proba`, `classes_`, over texts.
        behaviours: None takes those of behaviour.toml.

    A model without a class has nothing to say about sentences of it: those are left out.
    """
    behaviours = standard_behaviours() if behaviours is None else behaviours
    classes = [str(name) for name in estimator.classes_]
    return tuple(_examined(estimator, behaviour, classes) for behaviour in behaviours)


@cache
def standard_behaviours() -> tuple[Behaviour, ...]:
    """Those of behaviour.toml."""
    return read_behaviours(SENTENCES)


def read_behaviours(path: Path) -> tuple[Behaviour, ...]:
    """Parse and expand a file such as behaviour.toml.

    Raises:
        Permanent: naming what is off: a key or law that is unknown, a slot without words, nothing to try.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        slots = document["slots"]
        return tuple(_built(item, slots, path) for item in document["behaviour"])
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise _off(f"sentences {path}", "a readable TOML file with [slots] and [[behaviour]]", repr(error)) from error


def _built(item: Mapping[str, Any], slots: Mapping[str, list[str]], path: Path) -> Behaviour:
    name, law = item["name"], item["law"]
    where = f"behaviour {name} in {path}"
    if law not in _KEYS:
        raise _off(where, "law to be one of " + ", ".join(_KEYS), repr(law))
    if unknown := item.keys() - {"name", "law", "expectation", *_KEYS[law]}:
        raise _off(where, f"the keys of law {law}: " + ", ".join(sorted(_KEYS[law])), ", ".join(sorted(unknown)))
    try:
        trials = tuple(_trials(item, slots))
    except KeyError as error:
        raise _off(where, "slots of [slots], and respellings out of " + ", ".join(_RESPELLINGS), str(error)) from error
    if not trials:
        raise _off(where, "templates", "none")
    return Behaviour(name=name, law=law, expectation=item["expectation"], trials=trials)


def _trials(item: Mapping[str, Any], slots: Mapping[str, list[str]]) -> Iterator[Trial]:
    for key in ("praise", "complaint", "pairs"):
        for first, second in item.get(key, ()):
            for texts in _filled((first, second), slots):
                yield Trial(template=first, texts=texts, is_praise=key != "complaint")
    for label in _KEYS["is"]:
        for template in item.get(label, ()):
            for texts in _filled((template,), slots):
                yield Trial(template=template, texts=texts, label=label)
    for template in item.get("sentences", ()):
        yield from _respelled(template, slots, item.get("respelled", ()))
        for slot in item.get("swapped", ()):
            yield from _swapped(template, slot, slots)


def _respelled(template: str, slots: Mapping[str, list[str]], names: Iterable[str]) -> Iterator[Trial]:
    for (text,) in _filled((template,), slots):
        for name in names:
            if (other := _RESPELLINGS[name](text)) != text:
                yield Trial(template=template, texts=(text, other))


def _swapped(template: str, slot: str, slots: Mapping[str, list[str]]) -> Iterator[Trial]:
    """Each word of the slot against the next."""
    if f"{{{slot}}}" in template:
        for one, other in pairwise(slots[slot]):
            for texts in _filled(tuple(template.replace(f"{{{slot}}}", word) for word in (one, other)), slots):
                yield Trial(template=template, texts=texts)


def _filled(templates: tuple[str, ...], slots: Mapping[str, list[str]]) -> Iterator[tuple[str, ...]]:
    """The templates, with the same words in the same slots, for every choice of words."""
    names = sorted({name for template in templates for name in _SLOT.findall(template)})
    for words in product(*(slots[name] for name in names)):
        chosen = dict(zip(names, words, strict=True))
        filled = (_SLOT.sub(lambda match: chosen[match[1]], template) for template in templates)  # noqa: B023  # used at once
        yield tuple(text[:1].upper() + text[1:] for text in filled)


def _examined(estimator: Any, behaviour: Behaviour, classes: list[str]) -> BehaviourResult:
    trials = [trial for trial in behaviour.trials if trial.label is None or trial.label in classes]
    texts = [text for trial in trials for text in trial.texts]
    column = pa.array(texts, pa.large_string())
    labels = np.asarray(estimator.predict(column)).astype(str).tolist() if texts else []
    kindness = _kindness(estimator.predict_proba(column), classes) if texts else []
    failures: dict[str, list[str]] = {}
    at = 0
    for trial in trials:
        here = slice(at, at + len(trial.texts))
        at = here.stop
        if not _holds(behaviour.law, trial, labels[here], kindness[here]):
            said = (f"“{text}” {label}" for text, label in zip(trial.texts, labels[here], strict=True))
            failures.setdefault(trial.template, []).append(" · ".join(said))
    n_failed = sum(map(len, failures.values()))
    return BehaviourResult(
        name=behaviour.name,
        expectation=behaviour.expectation,
        n=len(trials),
        n_failed=n_failed,
        failed_share=n_failed / len(trials) if trials else 0.0,
        examples=_one_of_each(list(failures.values())),
    )


def _kindness(probabilities: Any, classes: list[str]) -> list[float]:
    """The expected mark between -1 and 1, so that a move towards neutral counts as a move."""
    return (probabilities @ [{"negative": -1.0, "positive": 1.0}.get(name, 0.0) for name in classes]).tolist()  # type: ignore[no-any-return]


def _holds(law: str, trial: Trial, labels: list[str], kindness: list[float]) -> bool:
    if law == "is":
        return labels[0] == trial.label
    if law == "stays":
        return labels[0] == labels[1]
    if law == "flips":
        return labels[0] != labels[1]
    return kindness[0] > kindness[1] if trial.is_praise else kindness[0] < kindness[1]


def _one_of_each(failures: list[list[str]]) -> tuple[str, ...]:
    longest = max(map(len, failures), default=0)
    in_turn = (of_template[place] for place in range(longest) for of_template in failures if place < len(of_template))
    return tuple(text for text, _ in zip(in_turn, range(_MAX_EXAMPLES), strict=False))


def _off(thing: str, expected: str, found: str) -> Permanent:
    return Permanent(thing, expected=expected, found=found, remedy="correct the file")

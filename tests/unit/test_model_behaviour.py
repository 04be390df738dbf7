"""Behavioural tests: what they catch in models that are known to be wrong, and what honest models reach."""

import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_core.errors import Permanent
from sentiment_core.model.behaviour import examine_behaviour, read_behaviours, standard_behaviours
from sentiment_core.model.estimator import SentimentClassifier

KIND = {
    "liked", "like", "enjoyed", "enjoy", "recommend", "happy", "good", "worth", "interesting", "useful", "buy", "buying", "excellent",
    "great", "love", "loved", "best", "wonderful", "perfect", "amazing", "superb", "glad", "better", "right",
}  # fmt: skip
UNKIND = {
    "disappointed", "regret", "bad", "terrible", "waste", "awful", "hated", "hate", "poor", "disappointment", "worst", "boring",
    "horrible", "useless", "garbage", "pathetic",
}  # fmt: skip
NEGATIONS = {"not", "never", "neither", "nor"}


class Rules:
    """A model that counts kind and unkind words, each turned round by a negation before it in its clause."""

    classes_ = np.array(["negative", "positive"])

    def __init__(self, *, reads_negation=True, is_fond_of=(), is_sharp_eyed=False):
        self.reads_negation, self.is_fond_of, self.is_sharp_eyed = reads_negation, set(is_fond_of), is_sharp_eyed

    def _mark(self, text):
        total, sign = 0.05, 1
        words = text if self.is_sharp_eyed else text.lower().replace("\u2019", "'")
        for word in re.findall(r"[\w']+|[.,:]", words):
            if word in ".,:":
                sign = 1
            elif self.reads_negation and (word in NEGATIONS or word.endswith("n't") or word == "don't"):
                sign = -1
            total += (1 if word == "waste" else sign) * ((word in KIND) - (word in UNKIND))  # "do not waste"
            total += 5 * (word in self.is_fond_of)
        return total

    def predict_proba(self, texts):
        positive = 1 / (1 + np.exp(-np.array([self._mark(text) for text in texts.to_pylist()])))
        return np.column_stack([1 - positive, positive])

    def predict(self, texts):
        return self.classes_[self.predict_proba(texts).argmax(axis=1)]


class Always(Rules):
    """A model that says the same of every text."""

    def _mark(self, _):
        return 3.0


def by_name(estimator):
    return {result.name: result for result in examine_behaviour(estimator)}


def test_a_model_that_reads_negation_and_nothing_but_opinions_passes():
    assert {name: result.examples for name, result in by_name(Rules()).items() if result.n_failed} == {}


def test_every_behaviour_is_tried_on_thirty_cases_or_more():
    for behaviour in standard_behaviours():
        texts = Counter(trial.texts for trial in behaviour.trials)
        assert len(texts) >= 30, behaviour.name
        assert max(texts.values()) == 1, behaviour.name
        assert not any("{" in text for trial in texts for text in trial)


def test_a_model_that_always_says_the_same_fails_where_something_should_change():
    found = by_name(Always())
    assert {name: result.failed_share for name, result in found.items()} == {
        "negation": 1.0, "negation_direction": 1.0, "paraphrase": 0.0, "swap": 0.0, "spelling": 0.0, "minimum": 0.5,
    }  # fmt: skip
    assert found["minimum"].n_failed == found["minimum"].n / 2


def test_a_model_that_does_not_read_negation_fails_on_it_alone():
    failed = {name: result.failed_share for name, result in by_name(Rules(reads_negation=False)).items()}
    assert failed.pop("negation") == 1.0
    assert failed.pop("negation_direction") > 0.9  # "regret" and "do not regret" differ by a kind word as well
    assert failed == {"paraphrase": 0, "swap": 0, "spelling": 0, "minimum": 0}


def test_a_model_that_likes_a_name_is_caught_swapping_it():
    found = by_name(Rules(is_fond_of=["wei"]))["swap"]
    assert found.n_failed == 2 * 2  # two complaints name a person, and Wei has a neighbour on each side
    assert all("Wei" in example for example in found.examples)


def test_a_model_that_sees_capitals_and_apostrophes_is_caught():
    assert by_name(Rules(is_sharp_eyed=True))["spelling"].failed_share > 0.1


def test_examples_are_at_most_three_of_different_templates_and_quote_what_was_said():
    examples = by_name(Always())["negation"].examples
    assert examples[0] == (
        "“I liked it and would recommend it.” positive · “I did not like it and would not recommend it.” positive"
    )
    assert len(examples) == len({example.split("”")[0] for example in examples}) == 3


def test_a_neutral_class_counts_between_the_others():
    class Three(Rules):
        classes_ = np.array(["negative", "neutral", "positive"])

        def predict_proba(self, texts):
            marks = np.array([self._mark(text) for text in texts.to_pylist()])
            each = np.exp(np.column_stack([-2 * marks, np.zeros(len(marks)), 2 * marks]))
            return each / each.sum(axis=1, keepdims=True)

    assert sum(result.n_failed for result in examine_behaviour(Three())) == 0


FILE = """
[slots]
what = ["it", "that"]

[[behaviour]]
name = "mine"
law = "is"
expectation = "so"
neutral = ["{what} exists."]
"""


def test_sentences_of_a_class_that_a_model_does_not_know_are_left_out(tmp_path):
    (tmp_path / "mine.toml").write_text(FILE)
    behaviours = read_behaviours(tmp_path / "mine.toml")
    assert [trial.texts for trial in behaviours[0].trials] == [("It exists.",), ("That exists.",)]
    (result,) = examine_behaviour(Rules(), behaviours)
    assert (result.n, result.n_failed, result.failed_share) == (0, 0, 0.0)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('law = "is"', 'law = "was"', "'was'"),
        ('neutral = ["{what}', 'neutral = ["{who}', "'who'"),
        ("neutral", "lukewarm", "lukewarm"),
        ('neutral = ["{what} exists."]', "", "none"),
        ("[slots]", "[slot]", "slots"),
        ('name = "mine"', "name = mine", "Invalid value"),
        ("neutral =", 'respelled = ["backwards"]\nsentences =', "respelled"),
    ],
)
def test_a_file_that_is_off_is_refused_with_the_key_that_is_off(tmp_path, before, after, words):
    path = tmp_path / "off.toml"
    path.write_text(FILE.replace(before, after))
    with pytest.raises(Permanent, match=re.escape(str(path))) as raised:
        read_behaviours(path)
    assert words in str(raised.value)


def test_a_respelling_that_is_unknown_is_refused(tmp_path):
    path = tmp_path / "off.toml"
    path.write_text(FILE.replace('law = "is"', 'law = "stays"').replace("neutral =", 'respelled = ["backwards"]\nsentences ='))
    with pytest.raises(Permanent, match="backwards"):
        read_behaviours(path)


@given(
    st.lists(st.sampled_from(["{a}", "{b}", "{c}", "fine", "poor"]), min_size=1, max_size=6),
    st.lists(st.integers(1, 4), min_size=3, max_size=3),
)
def test_a_template_gives_a_sentence_for_every_choice_of_words(tmp_path_factory, parts, sizes):
    path = tmp_path_factory.mktemp("behaviour") / "law.toml"
    slots = {slot: [f"{slot}{number}" for number in range(size)] for slot, size in zip("abc", sizes, strict=True)}
    template = " ".join(parts)
    path.write_text(
        f'[slots]\na = {slots["a"]}\nb = {slots["b"]}\nc = {slots["c"]}\n[[behaviour]]\nname = "n"\nlaw = "is"\nexpectation = "e"\n'
        f'positive = ["{template}"]\n'
    )
    (behaviour,) = read_behaviours(path)
    used = {part[1] for part in parts if part.startswith("{")}
    assert len({trial.texts for trial in behaviour.trials}) == len(behaviour.trials) == np.prod([len(slots[s]) for s in used])
    assert not any("{" in trial.texts[0] for trial in behaviour.trials)


def test_an_honest_model_reaches_what_the_limits_ask_and_a_reversed_one_does_not(reviews_data_dir):
    rows = pq.read_table(reviews_data_dir / "flipkart_train.parquet")
    positive = rows["positive"].to_numpy()
    honest = by_name(SentimentClassifier().fit(rows["text"], np.where(positive, "positive", "negative")))
    limits = {"negation": 0.95, "negation_direction": 0.5, "paraphrase": 0.2, "swap": 0.15, "spelling": 0.1, "minimum": 0.35}
    assert {name: honest[name].failed_share <= limit for name, limit in limits.items()} == dict.fromkeys(limits, True)
    reversed_one = by_name(SentimentClassifier().fit(rows["text"], np.where(positive, "negative", "positive")))
    assert reversed_one["minimum"].failed_share > limits["minimum"]
    assert reversed_one["negation_direction"].failed_share > limits["negation_direction"]


def test_trying_a_model_changes_nothing_in_it():
    model = SentimentClassifier(min_df=1).fit(["good film", "bad film"], ["positive", "negative"])
    before = model.predict_proba(pa.array(["a good one"]))
    assert examine_behaviour(model) == examine_behaviour(model)
    assert (model.predict_proba(pa.array(["a good one"])) == before).all()

# ruff: noqa: RUF001  # ambiguous characters are the point
"""The kernel against a twin in plain Python and against scikit-learn, and the statistics that fall out of its pass."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.sentiment.util import mark_negation
from nltk.stem.porter import PorterStemmer
from sklearn.feature_extraction.text import CountVectorizer

from sentiment_core import schema
from sentiment_core.text.characters import EMOJI_RANGES
from sentiment_core.text.dictionary import Vocabulary, compile_dictionary
from sentiment_core.text.features import analyse, as_texts, score
from sentiment_core.text.kernel import SQUARE
from sentiment_core.text.learning import learn_vocabulary
from sentiment_core.text.rules import EMAIL, HTML_TAG, MASKS, NEGATED, NUMBER, URL, WORD, WORD_OR_PUNCTUATION, TextRules
from sentiment_core.text.stop_words import stop_words

RELAXED = settings(deadline=None)  # the first example of a test may compile

PLAIN = TextRules(stem=False, strip_html=False)
RULES = st.builds(TextRules, **dict.fromkeys(
    ["strip_html", "lower_case", "mask_urls", "mask_emails", "split_emoji", "mask_numbers", "mark_negation", "drop_stop_words", "stem"],
    st.booleans(),
), ngram_max=st.integers(1, 3))  # fmt: skip
WORDS = st.sampled_from([
    "good", "bad", "not", "Don't", "film", "!!", "...", "naïve", "İstanbul", "ΣΑΣ", "ΑΣ'", "7/10", "\U0001f600", "<b>", "<br", "/>",
    "the", "relational", "flies", "isn’t", "don''t", "'tis", "rock'n'roll", "a’’b", "_", "\x7f", "x_NEG", "42", "4２", "1,000",
    "http://a.b/c?d=e", "HTTPS://X.Y", "www.z", "www.", "http://", "joe@mail.com", "joe.b+c@my-mail.co.uk's", "o'brien@x.com",
    "@x.com", "a@b", "a-b@c.d-", "x@y.com’s.", ".", ";", "?", "\u2003", "\u0085", "\x1c", "K", "Ⱥ", "ǅ", "日本語", "ไม่", "e\u0301",
    "☠️", "👍🏽", "🇩🇪", "a👍b", "never", "nothing", "n't", "good.not", "supercalifragilisticexpialidocious" * 3,
])  # fmt: skip
SOUP = st.text(alphabet=st.sampled_from("aB'’.-_<>@:/wh tps!9é😀 \u2003Σİ"), max_size=30)
TEXTS = st.lists(
    st.one_of(st.lists(WORDS, max_size=12).map(" ".join), st.lists(WORDS, max_size=8).map("".join), SOUP, st.text(max_size=40)),
    min_size=1, max_size=8,
)  # fmt: skip

EMOJI = "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in EMOJI_RANGES) + "]"
STEM = PorterStemmer().stem


def tokens(text, rules):
    """What the kernel computes, said in plain Python."""
    text = re.sub(HTML_TAG, " ", text) if rules.strip_html else text
    text = text.lower() if rules.lower_case else text
    kinds = {"mask_urls": URL, "mask_emails": EMAIL, "word": WORD}
    if rules.split_emoji:
        kinds |= {"emoji": rf"(?!\w){EMOJI}", "run": rf"(?:(?!{EMOJI})[^\w\s])+"}
    else:
        kinds |= {"run": r"[^\w\s]+"}
    pattern = "|".join(f"(?P<{kind}>{part})" for kind, part in kinds.items() if getattr(rules, kind, True))
    found = [(match.lastgroup, match.group()) for match in re.finditer(pattern, text)]
    kept = []
    marked = mark_negation([token if kind not in MASKS else "x" for kind, token in found]) if rules.mark_negation else None
    for place, (kind, word) in enumerate(found):
        token = word
        mark = NEGATED if marked and marked[place] != (token if kind not in MASKS else "x") else ""
        if rules.drop_stop_words and kind not in MASKS and token in stop_words():
            continue
        if kind == "word" and rules.mask_numbers and re.fullmatch(NUMBER, token):
            token = MASKS["mask_numbers"]
        elif kind == "word" and rules.stem:
            token = STEM(token, to_lowercase=False)
        kept.append(MASKS.get(kind, token) + mark)
    return kept


def terms(text, rules):
    words = tokens(text, rules)
    return [" ".join(words[k : k + n]) for n in range(1, rules.ngram_max + 1) for k in range(len(words) - n + 1)]


def counted(texts, vocabulary, rules):
    return analyse(as_texts(texts), compile_dictionary(vocabulary, rules), len(vocabulary))


@settings(RELAXED, max_examples=400)
@given(TEXTS, RULES, st.sampled_from([0, SQUARE - 3, SQUARE]))
def test_dictionary_and_counts_equal_those_of_the_twin(texts, rules, n_others):
    expected = sorted({term for text in texts for term in terms(text, rules)})
    if not expected:
        with pytest.raises(ValueError, match="no term"):
            learn_vocabulary(as_texts(texts), rules, min_df=1, max_features=10_000)
        return
    vocabulary = learn_vocabulary(as_texts(texts), rules, min_df=1, max_features=10_000)
    assert sorted(vocabulary.terms) == expected
    # So many words before them decide which pairs stand in the square, and which in the table.
    vocabulary = Vocabulary.of([*(f"other{k}other" for k in range(n_others)), *vocabulary.terms])
    peer = CountVectorizer(analyzer=lambda text: terms(text, rules), vocabulary=vocabulary.terms)
    assert (counted(texts, vocabulary, rules).counts.toarray() == peer.transform(texts).toarray()).all()


@RELAXED
@given(TEXTS)
def test_counts_equal_those_of_scikit_learn(texts):
    vocabulary = Vocabulary.of(["good", "bad", "not", "don't", "not good", "film !!", "!!", "naïve", "σας"])
    peer = CountVectorizer(token_pattern=WORD_OR_PUNCTUATION, ngram_range=(1, 2), vocabulary=vocabulary.terms)
    assert (counted(texts, vocabulary, PLAIN).counts.toarray() == peer.transform(texts).toarray()).all()


def test_the_learnt_dictionary_equals_that_of_scikit_learn():
    texts = ["good film , good fun", "bad film", "good bad ugly film !", "Good film"]
    peer = CountVectorizer(token_pattern=WORD_OR_PUNCTUATION, ngram_range=(1, 2), min_df=2)
    expected = peer.fit_transform(texts)
    vocabulary = learn_vocabulary(as_texts(texts), PLAIN, min_df=2, max_features=100)
    assert sorted(vocabulary.terms) == peer.get_feature_names_out().tolist()
    counts = counted(texts, vocabulary, PLAIN).counts.toarray()
    assert (counts[:, np.argsort(vocabulary.terms)] == expected.toarray()).all()


def test_a_dictionary_keeps_its_most_frequent_terms_when_it_is_capped():
    texts = ["a a a b", "a b b c", "a b c"]
    vocabulary = learn_vocabulary(as_texts(texts), PLAIN, min_df=1, max_features=2)
    assert vocabulary.terms == ["a", "b"]
    assert counted(texts, vocabulary, PLAIN).counts.toarray().tolist() == [[3, 1], [1, 2], [1, 1]]


def test_a_dictionary_does_not_depend_on_the_number_of_cores(monkeypatch):
    texts = as_texts([f"word{k % 17} and word{k % 5} or not word{k % 3}" for k in range(200)])
    learnt = []
    for n_cores in (1, 2, 5):
        monkeypatch.setattr("sentiment_core.text.learning.n_cores", lambda n_cores=n_cores: n_cores)
        learnt.append(learn_vocabulary(texts, TextRules(ngram_max=3), min_df=2, max_features=60).terms)
    assert learnt[0] == learnt[1] == learnt[2]


def test_a_corpus_with_more_words_than_there_is_room_for_at_first_is_learnt():
    texts = as_texts([" ".join(f"word{k * 1000 + j}" for j in range(1000)) for k in range(150)])
    vocabulary = learn_vocabulary(texts, TextRules(stem=False, ngram_max=1), min_df=1, max_features=1_000_000)
    assert sorted(vocabulary.terms) == sorted(f"word{k}" for k in range(150_000))


@settings(RELAXED, max_examples=200)
@given(TEXTS, st.booleans(), st.booleans(), st.integers(1, 4), st.integers(0, 3))
def test_runs_of_characters_equal_those_of_scikit_learn(texts, strip_html, lower_case, least, more):
    rules = TextRules(strip_html=strip_html, lower_case=lower_case, char_min=least, char_max=least + more)

    def cleaned(text):
        text = re.sub(HTML_TAG, " ", text) if strip_html else text
        return text.lower() if lower_case else text

    peer = CountVectorizer(analyzer="char_wb", ngram_range=(least, least + more), preprocessor=cleaned)
    try:
        expected = peer.fit_transform(texts)
    except ValueError:
        with pytest.raises(ValueError, match="no term"):
            learn_vocabulary(as_texts(texts), rules, min_df=1, max_features=100_000)
        return
    vocabulary = learn_vocabulary(as_texts(texts), rules, min_df=1, max_features=100_000)
    assert sorted(vocabulary.terms) == peer.get_feature_names_out().tolist()
    counts = counted(texts, vocabulary, rules).counts.toarray()
    assert (counts[:, np.argsort(vocabulary.terms)] == expected.toarray()).all()


@pytest.mark.parametrize(("least", "most"), [(0, 3), (4, 3), (1, 9)])
def test_lengths_of_runs_that_make_no_sense_are_refused(least, most):
    with pytest.raises(ValueError, match="lengths of character runs"):
        compile_dictionary(Vocabulary.of(["a"]), TextRules(char_min=least, char_max=most))


@RELAXED
@given(st.sets(st.text(min_size=1, max_size=12)))
def test_a_dictionary_survives_its_arrays(terms):
    packed = Vocabulary.of(sorted(terms))
    again = Vocabulary(packed.term_bytes.copy(), packed.term_offsets.copy())
    assert sorted(again.terms) == sorted(terms)
    assert [term.count(" ") for term in again.terms] == sorted(term.count(" ") for term in terms)
    assert len(again) == len(terms)


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        (["a", "a"], "twice"),
        (["a b", "a b"], "twice"),
        (["a  b"], "no run"),
        ([" a"], "no run"),
        ([""], "no run"),
        (["a b c"], "no run"),
    ],
)
def test_a_term_that_no_text_can_hold_is_refused(terms, problem):
    with pytest.raises(ValueError, match=problem):
        compile_dictionary(Vocabulary.of(terms), TextRules(ngram_max=2))


def test_terms_out_of_order_are_refused():
    packed = Vocabulary.of(["a", "b c"])
    shuffled = Vocabulary(np.frombuffer(b"b ca", np.uint8), np.array([0, 3, 4]))
    assert compile_dictionary(packed, PLAIN).sizes[0] == 1
    with pytest.raises(ValueError, match="behind"):
        compile_dictionary(shuffled, PLAIN)


@settings(RELAXED, max_examples=200)
@given(TEXTS, st.integers(0, 7), RULES)
def test_counts_and_statistics_of_a_text_do_not_depend_on_its_neighbours(texts, place, rules):
    vocabulary = Vocabulary.of(["good", "bad", "not"])
    place %= len(texts)
    together, alone = (counted(some, vocabulary, rules) for some in (texts, [texts[place]]))
    assert (together.counts[place].toarray() == alone.counts.toarray()).all()
    for name, values in alone.statistics.items():
        assert together.statistics[name][place] == values[0]


@RELAXED
@given(TEXTS, RULES)
def test_statistics_are_those_that_drift_checks_compare_and_right(texts, rules):
    statistics = counted(texts, Vocabulary.of(["good"]), rules).statistics
    assert set(statistics) == {field.name for field in schema.DRIFT_NUMERIC} - {"p_positive"}
    for name, values in statistics.items():
        assert len(values) == len(texts)
        assert not name.endswith("_share") or ((values >= 0) & (values <= 1)).all()
    for row, text in enumerate(texts):
        letters, blanks = sum(map(str.isalpha, text)), sum(map(str.isspace, text))
        upper = sum(character.lower() != character for character in text)
        assert statistics["n_chars"][row] == len(text)
        assert statistics["non_letter_share"][row] == pytest.approx((len(text) - letters - blanks) / max(1, len(text)))
        if upper <= letters:  # capitals in circles are no letters
            assert statistics["upper_share"][row] == pytest.approx(upper / max(1, letters))


def test_statistics_of_a_known_text():
    found = counted(["I LOVED it, good FILM 10!"], Vocabulary.of(["good", "film", "i"]), PLAIN).statistics
    assert found["n_words"].tolist() == [6]
    assert found["unknown_share"][0] == pytest.approx(3 / 6)
    assert found["upper_share"][0] == pytest.approx(10 / 16)
    assert found["non_letter_share"][0] == pytest.approx(4 / 25)


def test_a_text_without_words_has_ordinary_statistics():
    found = counted(["", "  ", "!!!"], Vocabulary.of(["good"]), TextRules()).statistics
    assert found["n_words"].tolist() == [0, 0, 0]
    assert found["unknown_share"].tolist() == [0, 0, 0]
    assert found["upper_share"].tolist() == [0, 0, 0]


def test_rules_change_what_is_counted():
    text = "The <br/>FILMS weren't liked, sadly"
    assert tokens(text, TextRules(stem=False)) == ["the", "films", "weren't", "liked", ",", "sadly"]
    assert tokens(text, TextRules(stem=True))[1] == "film"
    assert tokens(text, TextRules(stem=False, mark_negation=True))[2:5] == ["weren't", "liked_NEG", ",_NEG"]
    assert tokens("see WWW.a.b/c or me@x.org 12 👍👍", TextRules(mask_urls=True, mask_emails=True, mask_numbers=True, split_emoji=True)) == [
        "see", "<url>", "or", "<email>", "<number>", "👍", "👍",
    ]  # fmt: skip


@pytest.mark.parametrize("n_bytes", [1, 7, 8, 9, 63, 64, 65, 1_000_000])
@pytest.mark.parametrize("letter", ["x", "é", "日", "!"])
def test_tokens_of_any_length_are_whole(n_bytes, letter):
    word = letter * max(1, n_bytes // len(letter.encode()))
    texts = [word, f"{word} {word}", f"a {word}", f"{word}."]
    vocabulary = Vocabulary.of([word, "a", f"{word} {word}"])
    assert counted(texts, vocabulary, PLAIN).counts.toarray().tolist()[:3] == [[1, 0, 0], [2, 0, 1], [1, 1, 0]]


@RELAXED
@given(TEXTS, RULES)
def test_texts_in_a_slice_of_foreign_memory_are_read_to_their_end_and_no_further(texts, rules):
    column = as_texts(texts)
    data = bytes(column.buffers()[2] or b"")[: column.buffers()[1] and np.frombuffer(column.buffers()[1], np.int64)[len(texts)]]
    offsets = pa.py_buffer(np.frombuffer(column.buffers()[1], np.int64)[: len(texts) + 1].copy())
    tight = pa.Array.from_buffers(pa.large_string(), len(texts), [None, offsets, pa.py_buffer(data)])
    vocabulary = Vocabulary.of(["good", "not", "!!"])
    for part, whole in ((tight, column), (tight.slice(1), column.slice(1))):
        one, other = (counted(some, vocabulary, rules) for some in (part, whole))
        assert (one.counts != other.counts).nnz == 0
        assert all((one.statistics[name] == other.statistics[name]).all() for name in one.statistics)


def test_texts_come_in_every_usual_form():
    texts = ["good", "bad"]
    forms = [
        texts,
        tuple(texts),
        np.array(texts),
        np.array(texts, dtype=object),
        np.array(texts).reshape(2, 1),
        pd.Series(texts),
        pd.Series(texts, dtype="string"),
        pd.DataFrame({"other": [1, 2], "text": texts}),
        pa.array(texts),
        pa.chunked_array([["good"], ["bad"]]),
        pa.array(texts).dictionary_encode(),
        pa.table({"text": texts}),
    ]
    for form in forms:
        found = as_texts(form)
        assert found.to_pylist() == texts
        assert found.type == pa.large_string()
    for empty in ([], pd.Series([], dtype=object), pa.array([], pa.string()), pa.nulls(0), pa.chunked_array([], pa.string())):
        assert as_texts(empty).to_pylist() == []


@pytest.mark.parametrize(
    "wrong", ["a single text", b"bytes", ["good", None], [1, 2], pa.array(["a", None]), [["a", "b"], ["c", "d"]]]
)
def test_what_is_no_column_of_texts_is_refused(wrong):
    with pytest.raises(TypeError, match="expected"):
        as_texts(wrong)


def test_what_is_no_unicode_is_refused():
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xc3(")])
    for wrong in (["good", "\ud800"], broken):
        with pytest.raises(ValueError, match="valid"):
            as_texts(wrong)


PIECES = st.sampled_from([
    b"film ", b"a", "é".encode(), "日".encode(), "😀".encode(), b"\x80", b"\xbf", b"\xc1\x80", b"\xc2", b"\xdf", b"\xe0\x9f\xbf",
    b"\xe0\xa0", b"\xed\xa0\x80", b"\xed\x9f\xbf", b"\xef\xbf", b"\xf0\x8f\xbf\xbf", b"\xf0\x90\x80", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80",
    b"\xf5", b"\xff", b"'", b"<", b"x" * 61,
])  # fmt: skip


@settings(RELAXED, max_examples=400)
@given(st.lists(st.one_of(st.lists(PIECES, max_size=6).map(b"".join), st.binary(max_size=5)), min_size=1, max_size=4), RULES)
def test_scoring_refuses_the_bytes_that_python_refuses_and_no_others(parts, rules):
    offsets = np.cumsum([0, *map(len, parts)])
    texts = pa.Array.from_buffers(pa.large_string(), len(parts), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(parts))])
    broken = [place for place, part in enumerate(parts) if part.decode(errors="replace") != part.decode(errors="ignore")]
    how = {"dictionary": compile_dictionary(Vocabulary.of(["film", "é"]), rules), "weights": np.ones((2, 2)), "is_binary": False}
    if broken:
        with pytest.raises(ValueError, match=f"other bytes in text {broken[0]}$"):
            score(texts, **how)
    else:
        expected = score(as_texts([part.decode() for part in parts]), **how)[0]
        assert (score(texts, **how)[0] == expected).all()


def test_texts_outside_their_memory_are_refused():
    how = {"dictionary": compile_dictionary(Vocabulary.of(["film"]), PLAIN), "weights": np.ones((1, 2)), "is_binary": False}
    places = pa.py_buffer(np.array([0, 4, 2, 4], np.int64))
    texts = pa.Array.from_buffers(pa.large_string(), 3, [None, places, pa.py_buffer(b"film")])
    with pytest.raises(ValueError, match="outside"):
        score(texts, **how)

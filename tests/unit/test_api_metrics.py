"""What the API counts, read by the rules of Prometheus' text format 0.0.4 and by nothing of ours."""

import math
import re
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_core.api.metrics import BUCKETS, Metrics

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r"[a-zA-Z_][a-zA-Z0-9_]*"
VALUE = r'"((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{((?:{LABEL}={VALUE},?)*)\}})? (\S+)")
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def read(text):
    """Families by name: kind and samples (name, labels, value); fails on what is not of the format."""
    assert text.endswith("\n")
    families, current = {}, None
    for line in text.split("\n")[:-1]:
        if found := re.fullmatch(rf"# (HELP|TYPE) ({NAME}) (.+)", line):
            word, name, rest = found.groups()
            if word == "HELP":
                assert name not in families, "one HELP a family, and all its samples in one place"
                current = families[name] = {"kind": None, "samples": []}
            else:
                assert families[name] is current
                assert current["kind"] is None
                assert not current["samples"], "TYPE comes before the samples"
                assert rest in ("counter", "gauge", "histogram", "summary", "untyped")
                current["kind"] = rest
            continue
        found = SAMPLE.fullmatch(line)
        assert found, line
        name, inside, _, value = found.groups()
        family = next(key for key, family in families.items() if family is current)
        suffixes = ("_bucket", "_sum", "_count") if current["kind"] == "histogram" else ("",)
        assert name in {family + suffix for suffix in suffixes}, line
        labels = {
            label: re.sub(r'\\[\\"n]', lambda escape: ESCAPES[escape[0]], text)
            for label, text in re.findall(rf"({LABEL})={VALUE}", inside or "")
        }
        current["samples"].append((name, labels, float(value)))
    for family in families.values():
        seen = [(name, tuple(sorted(labels.items()))) for name, labels, _ in family["samples"]]
        assert len(seen) == len(set(seen)), "a sample stands once"
    return families


def values(families, name):
    return {tuple(labels.values()): value for sample, labels, value in families[name]["samples"] if sample == name}


def test_nothing_counted_is_of_the_format_too():
    families = read(Metrics().to_text(None))
    assert values(families, "sentiment_api_reloads_total") == {("done",): 0, ("failed",): 0}
    assert families["sentiment_api_model_info"]["samples"] == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["/predict", "/health", "other"]),
            st.sampled_from([200, 422, 503]),
            st.one_of(st.floats(0, 100), st.sampled_from(BUCKETS)),
        )
    )
)
def test_a_histogram_is_cumulative_and_counts_every_request(requests):
    metrics = Metrics()
    for path, status, seconds in requests:
        metrics.count_request(path, status, seconds)
    families = read(metrics.to_text(None))
    assert sum(values(families, "sentiment_api_requests_total").values()) == len(requests)
    by_path = defaultdict(list)
    for path, _, seconds in requests:
        by_path[path].append(seconds)
    samples = families["sentiment_api_request_seconds"]["samples"]
    for path, taken in by_path.items():
        mine = [(name.rpartition("_")[2], labels.get("le"), value) for name, labels, value in samples if labels["path"] == path]
        buckets = [(float(end), n) for kind, end, n in mine if kind == "bucket"]
        assert [end for end, _ in buckets] == [*BUCKETS, math.inf]
        assert [n for _, n in buckets] == [sum(seconds <= end for seconds in taken) for end, _ in buckets]
        rest = {kind: value for kind, _, value in mine if kind != "bucket"}
        assert rest == {"sum": pytest.approx(sum(taken)), "count": len(taken)}


@given(st.text(st.characters(codec="utf-8")))
def test_a_label_comes_out_as_it_went_in(words):
    families = read(Metrics().to_text({"name": words, "version": "1"}))
    assert values(families, "sentiment_api_model_info") == {(words, "1"): 1}


def test_sentiments_and_reloads_add_up():
    metrics = Metrics()
    metrics.count_scored(["positive", "negative", "positive"])
    metrics.count_scored(["positive"])
    metrics.count_reload(is_done=True)
    metrics.count_reload(is_done=False)
    families = read(metrics.to_text(None))
    assert values(families, "sentiment_api_reviews_scored_total") == {("positive",): 3, ("negative",): 1}
    assert values(families, "sentiment_api_reloads_total") == {("done",): 1, ("failed",): 1}
    assert families["sentiment_api_reviews_scored_total"]["kind"] == "counter"

"""What a column of labels means, whatever the file: never guessed."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.policy import read_policy
from sentiment_core.reviews.labelled import Columns, read_labelled
from sentiment_core.settings import REPOSITORY

LIMITS = read_policy(Path(REPOSITORY) / "include" / "policy.toml").reading
FORMS = ["parquet", "jsonl", "jsonl.gz", "csv", "csv.gz"]


@pytest.fixture(scope="session")
def read(contents):
    def read_rows(form: str, rows: list[dict], **columns):
        return read_labelled(io.BytesIO(contents(form, rows)), f"some/file.{form}", Columns(**columns), LIMITS)

    return read_rows


def labelled(values, name="label"):
    return [{"text": f"text {place}", name: value} for place, value in enumerate(values)]


def labels_of(found):
    return found.table["label"].to_pylist()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("name", "values", "meant"),
    [
        ("label", ["negative", "positive", "neutral"], ["negative", "positive", "neutral"]),
        ("label", ["Negative", " POSITIVE "], ["negative", "positive"]),
        ("label", [0, 1], ["negative", "positive"]),
        ("label", [0.0, 1.0], ["negative", "positive"]),
        ("label", [False, True], ["negative", "positive"]),
        ("positive", ["true", "false"], ["positive", "negative"]),
        ("rating", [1, 2, 3, 4, 5], ["negative", "negative", "neutral", "positive", "positive"]),
        ("rating", [1.0, 5.0], ["negative", "positive"]),
    ],
)
def test_a_label_means_the_same_in_every_format(form, name, values, meant, read):
    found = read(form, labelled(values, name))
    assert labels_of(found) == meant
    assert found.table.schema.equals(schema.SNAPSHOT)
    assert (found.n_unlabelled, found.n_rejected) == (0, 0)
    assert set(found.table["origin"].to_pylist()) == {"standing"}


def test_stars_of_three_make_no_third_class_and_a_neutral_label_does(read):
    assert not read("jsonl", labelled([1, 3, 5], "rating")).has_neutral
    assert read("jsonl", labelled(["negative", "neutral"])).has_neutral


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize(
    ("name", "values", "shown"),
    [
        ("rating", [1, 7, 10], "7, 10"),
        ("rating", [0, 1], "0"),
        ("rating", [1.5, 4], "1.5"),
        ("label", [1, 2, 3, 4, 5], "2, 3, 4, 5"),
        ("label", [-1, 1], "-1"),
        ("label", ["pos", "neg"], "'pos', 'neg'"),
        ("label", ["positive", "1"], "'positive', '1'"),
        ("stars", [1, 5], "5"),
    ],
)
def test_labels_on_another_scale_are_refused_with_what_was_found(form, name, values, shown, read):
    with pytest.raises(Permanent, match="no other scale is guessed") as refused:
        read(form, labelled(values, name), label=name)
    found = refused.value.found.replace("'", "")
    assert found == shown.replace("'", "")
    assert f"column {name} of some/file.{form}" in str(refused.value)


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_without_a_name_the_first_column_with_labels_is_taken(form, read):
    rows = [{"text": "a", "rating": 9, "positive": 1}, {"text": "b", "rating": 2, "positive": 0}]
    assert labels_of(read(form, rows)) == ["positive", "negative"]
    with pytest.raises(Permanent, match="column rating"):
        read(form, rows, label="rating")


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": "sentiment"}, "sentiment"),
        ({"text": "body"}, "body"),
        ({"product": "film"}, "film"),
        ({}, "label or positive or rating"),
    ],
)
def test_a_missing_column_is_named_with_what_to_do(form, columns, words, read):
    rows = [{"text": "a", "kind": "positive"} | ({"label": 1} if columns else {})]
    with pytest.raises(Permanent, match=words) as refused:
        read(form, rows, **columns)
    assert "-column" in refused.value.remedy or "--help" in refused.value.remedy


@pytest.mark.parametrize("form", FORMS)
def test_rows_without_a_label_or_a_text_are_left_out_and_counted(form, read):
    rows = [
        {"text": "good", "label": "positive"}, {"text": "bad", "label": "negative"}, {"text": "hm", "label": None},
        {"text": " ", "label": "positive"}, {"text": "so so", "label": ""},
    ]  # fmt: skip
    found = read(form, rows)
    assert found.table["text"].to_pylist() == ["good", "bad"]
    assert (found.n_unlabelled, found.n_rejected) == (2, 1)
    assert "only blanks" in found.first_reason


@pytest.mark.parametrize("form", FORMS)
def test_columns_may_have_any_name(form, read):
    rows = [{"id": 1, "body": "good", "verdict": True, "film": "f1", "text": "not this", "review_id": f"r{n}"} for n in range(3)]
    found = read(form, rows, text="body", label="verdict", product="film").table.to_pylist()
    assert {(row["text"], row["label"], row["product_id"]) for row in found} == {("good", "positive", "f1")}
    assert [row["review_id"] for row in found] == ["r0", "r1", "r2"]


def test_a_row_without_an_id_gets_its_place_in_the_file(read):
    assert read("csv", labelled([0, 1])).table["review_id"].to_pylist() == ["file-0", "file-1"]


def test_long_files_come_in_many_batches_and_stay_in_order(read):
    values = [number % 2 for number in range(3 * LIMITS.batch_rows + 5)]
    for form in ("parquet", "jsonl", "csv"):
        found = read(form, labelled(values))
        assert labels_of(found) == ["positive" if value else "negative" for value in values]
        assert len(set(found.table["review_id"].to_pylist())) == len(values)


@given(values=st.lists(st.sampled_from(["negative", "neutral", "positive", None]), min_size=1).filter(any))
def test_no_label_is_lost_or_invented(read, values):
    found = read("parquet", labelled(values))
    assert labels_of(found) == [value for value in values if value]
    assert found.n_unlabelled == values.count(None)

"""`predict` and `explain`, against the real servers."""

import json
from datetime import date
from math import log

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from sentiment_core import cli
from sentiment_core.cli import single
from sentiment_core.errors import Permanent, Transient
from sentiment_core.reviews.bucket import ObjectChanged
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.stages.explaining import explain_review, predict_texts
from sentiment_core.stages.night import score_window

DAY, OTHER_DAY = date(2026, 11, 10), date(2026, 11, 11)
FILM = "What a wonderful film, I loved every minute of it.\n<br />The actors were superb, the plot was not boring."
REVIEWS = [
    {"review_id": "r1", "text": FILM, "product_id": "film-7", "source": "web"},
    {"review_id": "r2", "text": "Boring [b]and[/b] far too long. The worst film I have seen, 1/10!"},
    {"review_id": "r3", "text": "zzyzx"},
]


def jsonl(*rows: dict) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def scored(services, trained_model):
    """A scored night, in which r1 stands, and another one in which r2 stands again."""
    trained_model(services)
    services.bucket.put(incoming_prefix(DAY) + "a.jsonl", b"\n" + jsonl({"review_id": "", "text": "nobody's"}, *REVIEWS))
    services.bucket.put(incoming_prefix(OTHER_DAY) + "b.jsonl", jsonl(REVIEWS[1]))
    for day in (DAY, OTHER_DAY):
        score_window(services, day, model="champion", force=False)
    return services


@pytest.fixture
def command(scored, monkeypatch):
    """Runs a command of `sentiment` against the scored nights."""
    monkeypatch.setattr(single, "load_settings", lambda: scored.settings)

    def run(*arguments, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        return CliRunner().invoke(cli.app, list(arguments))

    return run


def test_a_review_is_explained_by_what_it_consists_of(scored):
    found = explain_review(scored, "r1")
    (stored,) = rows(
        scored, "select label, p_positive, run_id, object_id, row_number from sentiment.scored_reviews where review_id = 'r1'"
    )
    explanation, score = found["explanation"], found["score"]
    assert found["review"]["text"] == FILM
    assert (score["label"], score["p_positive"], found["run"]["run_id"], found["object"]["object_id"]) == tuple(stored[:4])
    assert found["object"]["row_number"] == stored[4]
    assert found["object"]["url"] == scored.bucket.url(incoming_prefix(DAY) + "a.jsonl")
    assert found["model"]["version"] == 1
    assert found["model"]["snapshot"].startswith("snapshots/")
    total = sum(term["contributions"]["positive"] for term in explanation["terms"]) + explanation["intercepts"]["positive"]
    assert total == pytest.approx(log(score["p_positive"] / score["p_negative"]), abs=1e-6)
    assert "loved" in [term["written"] for term in explanation["terms"][:10]]
    assert {"wonderful", "not boring"} <= {term["written"] for term in explanation["terms"]}


def test_the_text_is_that_of_the_version_which_was_scored(scored):
    scored.bucket.put(incoming_prefix(DAY) + "a.jsonl", jsonl({"review_id": "r1", "text": "Another text altogether"}))
    with pytest.raises(ObjectChanged):
        explain_review(scored, "r1")
    score_window(scored, DAY, model="champion", force=False)
    assert explain_review(scored, "r1")["review"]["text"] == "Another text altogether"


def test_an_id_of_two_dates_asks_for_the_date(scored):
    with pytest.raises(Permanent, match=r"found 2026-11-11, 2026-11-10\. .*--date"):
        explain_review(scored, "r2")
    assert explain_review(scored, "r2", review_date=OTHER_DAY)["object"]["url"].endswith("b.jsonl")


@pytest.mark.parametrize(
    ("review_id", "day"), [("nobody", None), ("r1", OTHER_DAY), ("", None), ("r1' or true --", None), ("\udcff", None)]
)
def test_an_unknown_id_is_a_sentence(scored, review_id, day):
    with pytest.raises(Permanent, match="expected a scored review"):
        explain_review(scored, review_id, review_date=day)


def test_a_text_that_is_gone_is_a_sentence(scored):
    scored.bucket._client.delete_object(Bucket=scored.settings.bucket, Key=incoming_prefix(DAY) + "a.jsonl")
    with pytest.raises(Permanent, match="removed from S3"):
        explain_review(scored, "r1")


def test_a_row_whose_place_is_not_known_is_a_sentence(scored):
    with scored.engine.begin() as connection:
        connection.execute(text("update sentiment.scored_reviews set row_number = null where review_id = 'r1'"))
    with pytest.raises(Permanent, match="no row number"):
        explain_review(scored, "r1")


def test_predictions_are_those_of_the_bulk_scorer(scored):
    found = predict_texts(scored, [review["text"] for review in REVIEWS])
    stored = rows(
        scored,
        "select label, confidence, p_negative, p_positive from sentiment.scored_reviews where review_date = :day order by review_id",
        day=DAY,
    )
    for prediction, (label, confidence, p_negative, p_positive) in zip(found, stored, strict=True):
        assert prediction["label"] == label
        assert prediction["confidence"] == pytest.approx(confidence, abs=1e-9)
        assert prediction["scores"] == pytest.approx({"negative": p_negative, "positive": p_positive}, abs=1e-9)
        assert (prediction["model_name"], prediction["model_version"]) == (scored.settings.model_name, 1)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([""], "text: expected words, found none"),
        (["fine", " \n\t"], "text 2: expected words, found none"),
        (["x" * 20_001], "at most 20,000 characters, found 20,001"),
        (["broken \udcff"], "valid UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_before_a_model_is_opened(services, texts, words):
    with pytest.raises(Permanent) as raised:
        predict_texts(services, texts)  # no model is registered here
    assert words in str(raised.value)


def test_without_a_model_predict_says_so(services):
    with pytest.raises(Permanent, match="expected a registered version"):
        predict_texts(services, ["fine"])
    with pytest.raises(Permanent, match="version 9"):
        predict_texts(services, ["fine"], model=9)


def test_predict_prints_a_table_or_json(command):
    shown = command("predict", "I loved this wonderful film", FILM)
    assert shown.exit_code == 0
    assert shown.output.count("positive") >= 2
    assert max(map(len, shown.output.splitlines())) <= 80
    found = json.loads(command("predict", "I loved this wonderful film", "--model", "1", "--json").output)
    assert found[0]["label"] == "positive"
    assert found[0]["confidence"] == found[0]["scores"]["positive"] == max(found[0]["scores"].values())
    assert command("predict").exit_code == 2
    assert command("predict", "fine", "--model", "yesterday's").exit_code == 2


@pytest.mark.parametrize("columns", [80, 120])
def test_explain_prints_what_fits_the_terminal(command, columns):
    shown = command("explain", "r1", columns=columns)
    assert shown.exit_code == 0, shown.exception
    assert max(map(len, shown.output.splitlines())) <= columns
    for words in ("r1 of 2026-11-10", "product film-7", "wonderful", "log-odds", "version 1 of", "object_id", "row "):
        assert words in shown.output, words


def test_explain_takes_text_as_text(command):
    assert "Boring [b]and[/b] far" in command("explain", "r2", "--date", "2026-11-10").output


def test_explain_gives_json(command):
    found = json.loads(command("explain", "r1", "--json").output)
    assert found["review"]["review_date"] == "2026-11-10"
    assert found["run"]["scored_at"].endswith("+00:00")
    assert found["explanation"]["terms"][0]["kind"] == "words"


def test_a_review_without_a_known_word_is_explained_all_the_same(command):
    shown = command("explain", "r3")
    assert shown.exit_code == 0
    assert "intercept" in shown.output


def test_a_date_that_is_none_is_a_matter_of_usage(command):
    assert command("explain", "r1", "--date", "yesterday").exit_code == 2


def test_a_server_that_is_away_is_worth_another_try(scored):
    settings = scored.settings
    unreachable = settings.database_url.rsplit(":", 1)[0] + ":1/none"
    services = type(scored)(type(settings)(**{**vars(settings), "database_url": unreachable}))
    with pytest.raises(Transient):
        explain_review(services, "r1")


def rows(services, query: str, **parameters) -> list[tuple]:
    with services.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query), parameters)]

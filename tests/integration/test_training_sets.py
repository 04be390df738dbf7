"""How labels that arrived late get into the next training set."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from sentiment_core import schema
from sentiment_core.errors import Permanent
from sentiment_core.model.examples import FRESH_ORIGINS, held_out_share, prepare
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.stages.night import score_window
from sentiment_core.stages.retraining import build_snapshot
from sentiment_core.stages.training_sets import classes_of, extend, read_snapshot, with_classes, write_snapshot
from sentiment_core.store.records import events, upsert_labels

DAY = date(2026, 11, 10)
NOON = datetime(2026, 11, 11, 12, tzinfo=UTC)
LABELS = [("review_date", pa.date32()), ("review_id", pa.string()), ("label", pa.string()), ("rating", pa.int8()),
          ("labelled_at", schema.TIMESTAMP)]  # fmt: skip


def row(number: int, **more) -> dict:
    label = "positive" if number % 2 else "negative"
    return {**dict.fromkeys(schema.SNAPSHOT.names), "review_id": f"s{number}", "source": "films", "text": f"standing {number}",
            "label": label, "origin": "standing", **more}  # fmt: skip


def standing(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema.SNAPSHOT)


@pytest.fixture
def reviewed(services, trained_model):
    """Scores and labels reviews; gives the services back."""
    trained_model(services)

    def review_and_label(*reviews: dict):
        lines = [{name: one[name] for name in ("review_id", "text", "source") if one.get(name)} for one in reviews]
        services.bucket.put(incoming_prefix(DAY) + "a.jsonl", "\n".join(map(json.dumps, lines)).encode())
        score_window(services, DAY)
        label(services, *reviews)
        return services

    return review_and_label


def label(services, *reviews: dict) -> None:
    """Minutes after noon, in the order given, where nothing else is said."""
    labels = [
        {"review_date": DAY, "review_id": one["review_id"], "label": one["label"], "rating": None,
         "labelled_at": one.get("labelled_at", NOON + timedelta(minutes=place))}
        for place, one in enumerate(reviews)
    ]  # fmt: skip
    upsert_labels(services.engine, pa.Table.from_pylist(labels, schema=pa.schema(LABELS)))


def fresh(number: int, **more) -> dict:
    return {"review_id": f"f{number}", "text": f"fresh words {number}", "label": "positive", "source": "phones", **more}


def origins(made) -> dict[str, str]:
    return {one["review_id"]: one["origin"] for one in made.table.to_pylist()}


def test_labels_are_joined_on_identity_and_the_latest_are_held_out(reviewed):
    services = reviewed(*(fresh(n) for n in range(20)))
    made = extend(services, standing(*(row(n) for n in range(50))))
    assert (made.n_standing, made.n_fresh, made.n_duplicates, made.n_conflicts) == (50, 20, 0, 0)
    found = origins(made)
    n_latest = int(services.policy.retrain.latest_share * 20)
    assert [found[f"f{n}"] for n in range(20)] == ["fresh"] * (20 - n_latest) + ["latest"] * n_latest
    examples = prepare(made.table, held_out_share=held_out_share(made.table, services.policy.promotion))
    assert not {f"f{n}" for n in range(20 - n_latest, 20)} & set(examples.train["review_id"].to_pylist())
    assert {f"f{n}" for n in range(20 - n_latest, 20)} <= set(examples.test["review_id"].to_pylist())
    assert set(examples.test["origin"].to_pylist()) <= {*FRESH_ORIGINS, "standing"}
    labelled = {one["review_id"]: (one["text"], one["label"], one["labelled_at"]) for one in made.table.to_pylist()}
    assert labelled["f3"] == ("fresh words 3", "positive", NOON + timedelta(minutes=3))


def test_only_a_domain_that_the_set_hardly_knows_is_weighted(reviewed):
    services = reviewed(*(fresh(n, source=source) for n, source in enumerate(["films", "phones", None] * 5)))
    services.__dict__["policy"] = replace(services.policy, retrain=replace(services.policy.retrain, latest_share=0.0))
    found = origins(extend(services, standing(*(row(n) for n in range(50)))))
    assert [found[f"f{n}"] for n in range(3)] == ["familiar", "fresh", "fresh"]


def test_the_same_again_adds_nothing_and_a_later_label_of_a_review_replaces_the_earlier(reviewed):
    services = reviewed(fresh(1), fresh(2, text="  STANDING 7 ", label="positive"), fresh(3), fresh(4, text="fresh words 3"))
    made = extend(services, standing(*(row(n) for n in range(20))))
    assert (made.n_fresh, made.n_duplicates) == (2, 2)
    assert set(origins(made)) == {*(f"s{n}" for n in range(20)), "f1", "f3"}
    again = extend(services, made.table)
    assert (again.n_standing, again.n_fresh) == (22, 0)
    label(services, fresh(1, label="negative", labelled_at=NOON + timedelta(days=1)))
    corrected = extend(services, again.table)
    assert (corrected.n_standing, corrected.n_fresh, corrected.n_conflicts) == (21, 1, 0)
    assert [one["label"] for one in corrected.table.to_pylist() if one["review_id"] == "f1"] == ["negative"]


def test_a_contradicted_text_is_left_out_and_does_not_come_back_unopposed(reviewed):
    services = reviewed(fresh(1, text="standing 7", label="negative"), fresh(2))
    table = standing(*(row(n) for n in range(20)))
    for _ in range(3):
        made = extend(services, table)
        assert made.n_conflicts == 2
        assert {name for name, origin in origins(made).items() if origin == "contradicted"} == {"s7", "f1"}
        examples = prepare(made.table, held_out_share=0.0)
        assert not {"s7", "f1"} & set(examples.train["review_id"].to_pylist())
        table = made.table


def test_three_stars_contradict_nothing_in_a_model_of_two_classes(reviewed):
    services = reviewed(fresh(1, text="standing 7", label="neutral"))
    table = standing(*(row(n) for n in range(20)))
    assert extend(services, table).n_conflicts == 0
    made = extend(services, with_classes(table, ("negative", "neutral", "positive")))
    assert made.n_conflicts == 2
    assert classes_of(made.table) == ("negative", "neutral", "positive")


def test_the_same_rows_are_the_same_object_and_the_classes_come_back(services):
    table = standing(*(row(n) for n in range(20)))
    three = with_classes(table, ("negative", "neutral", "positive"))
    assert write_snapshot(services, table) == write_snapshot(services, with_classes(table, ("negative", "positive")))
    key = write_snapshot(services, three)
    assert key not in (write_snapshot(services, table), None)
    back = read_snapshot(services, key)
    assert back.to_pylist() == table.to_pylist()
    assert classes_of(back) == ("negative", "neutral", "positive")
    assert write_snapshot(services, back) == key
    assert len(list(services.bucket.list("snapshots/"))) == 2


def test_a_training_set_that_was_changed_is_refused(services):
    key = write_snapshot(services, standing(*(row(n) for n in range(20))))
    services.bucket.put(key, b"something else")
    with pytest.raises(Permanent, match="the digest in its name"):
        read_snapshot(services, key)


def test_too_few_labels_hold_the_retrain_with_the_counts(reviewed):
    services = reviewed(*(fresh(n) for n in range(20)), fresh(21, text="fresh words 1", label="negative"))
    found = build_snapshot(services, run_id="run", reason="drift")
    assert (found["outcome"], found["snapshot"], found["n_fresh"], found["n_conflicts"]) == ("held", None, 19, 2)
    assert found["reason"].startswith("19 labels since version 1 was trained; 200 are needed")
    [event] = events(services.engine)
    assert (event["event"], event["run_id"], event["metrics"]["data"]["n_fresh"]) == ("held", "run", 19)


def test_without_champion_and_training_set_it_says_how_to_begin(services):
    with pytest.raises(Permanent, match="sentiment train --data FILE"):
        build_snapshot(services, run_id="run", reason="drift")

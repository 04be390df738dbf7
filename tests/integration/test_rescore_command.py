"""`sentiment rescore`: what it asks for, what it says, and how it ends."""

import json
import re
from datetime import date

import pytest

from sentiment_core import cli
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.stages.night import score_window
from sentiment_core.stages.window import scheduled_at

DAY = date(2026, 11, 1)


@pytest.fixture
def night(services, trained_model, point_commands):
    """A night scored by version 1; version 2 is champion by now."""
    point_commands(services)
    trained_model(services)
    for name in ("kept", "gone"):
        rows = [{"review_id": f"{name}-{n}", "text": f"a wonderful film number {n}", "product_id": "p"} for n in range(40)]
        services.bucket.put(incoming_prefix(DAY) + f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    score_window(services, DAY)
    services.bucket._client.delete_object(Bucket=services.settings.bucket, Key=incoming_prefix(DAY) + "gone.jsonl")
    trained_model(services)
    return services


def rescore(*arguments):
    return cli.run(["rescore", *arguments])


def test_first_the_plan_then_the_doing(night, capsys):
    assert rescore("--plan") == 0
    said = capsys.readouterr().out
    assert re.search(r"Version 2 would score 40 reviews of 1 object again: 0\.0 MB to read, about \d+ s\.", said), said
    assert "Labels that would change: 0.0% (0.0% to 0.0%" in said
    assert "Kept as they are: 40 reviews of 1 object" in said
    assert f"{incoming_prefix(DAY)}gone.jsonl: no longer in the bucket (40 reviews)" in said
    assert rescore("--apply", "--version", "1", "--product", "p", "--from", str(DAY), "--to", str(DAY), "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["model_versions"], done["n_rows"], done["n_flipped"]) == ([2], 40, 0)
    assert [item["n_rows"] for item in done["kept"]] == [40]
    assert rescore("--apply") == 0
    assert "Nothing was scored again." in capsys.readouterr().out
    assert rescore("--plan", "--json", "--model", "as-of") == 0
    assert json.loads(capsys.readouterr().out)["model_versions"] == [1]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--plan", "--apply"],
        ["--plan", "--model", "the best"],
        ["--plan", "--version", "0"],
        ["--plan", "--version", "latest"],
        ["--plan", "--from", "yesterday"],
        ["--plan", "--from", "2026-11-02", "--to", "2026-11-01"],
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, capsys):
    assert rescore(*arguments) == 2
    assert "expected" in capsys.readouterr().err


def test_without_such_a_version_it_fails_and_while_the_database_is_away_it_says_try_again(night, monkeypatch, capsys):
    assert rescore("--apply", "--model", "9") == 1
    assert "sentiment models" in capsys.readouterr().err
    monkeypatch.setenv("SENTIMENT_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    assert rescore("--apply") == 75


def test_a_night_is_scheduled_at_two_the_day_after():
    assert scheduled_at(DAY).isoformat() == "2026-11-02T02:00:00+00:00"

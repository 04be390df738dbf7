"""`sentiment drift` and `sentiment rehearse`: verdicts on files, and what a policy would have made of nights."""

import json
import re
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from sentiment_core import cli
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.reviews.sample import generate
from sentiment_core.settings import REPOSITORY

FIRST = date(2026, 11, 1)
SECRET = re.compile("[a-z]+ [a-z]+ [a-z]+ [a-z]+ [a-z]+")


@pytest.fixture
def settings(services, trained_model, point_commands):
    """The command's own settings point to this test's servers, where a champion is registered."""
    point_commands(services)
    trained_model(services)
    return services


@pytest.fixture
def run(settings, capsys):
    """Run a command; gives its exit status, what it said and what it complained of."""

    def run_command(*arguments: object):
        capsys.readouterr()
        status = cli.run([*map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run_command


def write(path, n, *, domain="films", seed=11, columns=("review_id", "product_id", "text", "rating")):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = generate(n, domain=domain, seed=seed).select(list(columns))
    if path.suffix == ".parquet":
        pq.write_table(rows, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows.to_pylist()), encoding="utf-8")
    return path


def test_each_file_gets_a_verdict_of_its_own(run, tmp_path):
    quiet = write(tmp_path / "films.parquet", 900)
    foreign = write(tmp_path / "electronics.jsonl", 900, domain="electronics", columns=("text",))
    one = write(tmp_path / "one.csv.jsonl", 1)
    status, said, _ = run("drift", quiet, foreign, one, "--json")
    found = [json.loads(line) for line in said.splitlines()]
    assert status == 0
    assert [item["file"] for item in found] == [str(quiet), str(foreign), str(one)]
    assert [item["n"] for item in found] == [900, 900, 1]
    assert found[0]["verdict"] == "quiet"
    assert found[1]["verdict"] in ("warn", "retrain")
    assert found[2]["verdict"] == "too_few"
    assert found[1]["p_value"] < 1e-6 < found[0]["p_value"]
    assert found[1]["effect"] > 10 * max(found[0]["effect"], 0.005)
    assert found[0]["estimated_accuracy"] == pytest.approx(found[0]["labelled_accuracy"], abs=0.06)
    assert found[1]["labelled_accuracy"] is None  # no column of labels in that file
    assert any(column["is_drifted"] for column in found[1]["columns"].values())
    assert not any(column["is_drifted"] for column in found[0]["columns"].values())


def test_a_report_is_written_where_it_is_asked_for_and_says_the_same(run, tmp_path):
    night = write(tmp_path / "mixed.parquet", 700, domain="electronics")
    status, said, _ = run("drift", night, "--report", tmp_path / "new folder", "--json")
    found = json.loads(said)
    assert status == 0
    page = (tmp_path / "new folder" / "mixed.parquet.html").read_text(encoding="utf-8")
    assert found["report"] == str(tmp_path / "new folder" / "mixed.parquet.html")
    assert found["sentence"].split(":")[0] in page
    assert f'class="badge {found["verdict"]}"' in page
    texts = pq.read_table(night)["text"].to_pylist()
    assert not [words for text in texts[:200] for words in SECRET.findall(text.lower())[:1] if words in page.lower()]
    plain = json.loads(run("drift", night, "--json")[1])
    assert {**plain, "report": None} == {**found, "report": None}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "expected a readable file"), ("nonsense\n", "expected"), ('{"words": "no column of texts"}\n', "text")],
)
def test_a_file_that_cannot_be_judged_is_an_error_that_names_it(run, tmp_path, content, complaint):
    path = tmp_path / "night.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    status, said, complained = run("drift", path, "--json")
    if content == "nonsense\n" or (content and "words" in content):
        assert (status, json.loads(said)["verdict"]) == (0, "too_few") if status == 0 else complaint in complained
    else:
        assert (status, said) == (1, "")
        assert complaint in complained
        assert "night.jsonl" in complained


def nights(folder, n_nights=6, n=500, **more):
    for later in range(n_nights):
        write(folder / f"date={FIRST + timedelta(days=later)}" / "a.parquet", n, seed=20 + later, **more)
    return folder


def test_a_folder_is_replayed_by_date_and_planted_drift_is_dated(run, tmp_path):
    folder, foreign = nights(tmp_path / "past"), write(tmp_path / "electronics.parquet", 900, domain="electronics")
    planted = f"domain={foreign},share=.5,from={FIRST + timedelta(days=3)}"
    status, said, _ = run("rehearse", "--folder", folder, "--inject", planted, "--json")
    found = json.loads(said)
    assert status == 0
    assert [night["date"] for night in found["nights"]] == [str(FIRST + timedelta(days=later)) for later in range(6)]
    assert [night["planted_share"] for night in found["nights"]] == [0, 0, 0, 0.5, 0.5, 0.5]
    assert [night["verdict"] for night in found["nights"][:3]] == ["quiet"] * 3
    assert found["planted"][0]["nights_to_warn"] == 1
    assert found["mode"] == "evidence"
    assert found["nights"][3]["sets_off_retrain"] is False


def test_another_policy_makes_other_decisions_of_the_same_nights(run, tmp_path):
    folder, foreign = nights(tmp_path / "past", n_nights=3, n=900), write(tmp_path / "far.parquet", 900, domain="electronics")
    text = (REPOSITORY / "include" / "policy.toml").read_text(encoding="utf-8")
    changes = {
        "threshold": ('mode = "evidence"', 'mode = "threshold"'),
        "evidence": ("retrain_labels = 300", "retrain_labels = 9999"),
    }
    found = {}
    for mode, (before, after) in changes.items():
        assert before in text
        policy = tmp_path / f"{mode}.toml"
        policy.write_text(text.replace(before, after), encoding="utf-8")
        planted = f"domain={foreign},share=.5,from={FIRST + timedelta(days=2)}"
        found[mode] = json.loads(run("rehearse", "--folder", folder, "--inject", planted, "--policy", policy, "--json")[1])
        assert (found[mode]["mode"], found[mode]["policy"]) == (mode, str(policy))
    assert found["threshold"]["retrains"] == [str(FIRST + timedelta(days=2))]
    assert found["evidence"]["retrains"] == []
    assert "9999 new labels" in found["evidence"]["nights"][-1]["sentence"]
    for one, other in zip(*(found[mode]["nights"] for mode in changes), strict=True):
        assert one["p_value"] == other["p_value"]


def test_scored_nights_are_replayed_out_of_the_database(settings, run):
    from sentiment_core.stages.checking import check_date
    from sentiment_core.stages.night import score_window

    champion = settings.registry.resolve("champion")
    for later, domain in enumerate(("films", "films", "electronics")):
        day = FIRST + timedelta(days=later)
        rows = generate(700, domain=domain, seed=30 + later, day=day).select(["review_id", "product_id", "text"]).to_pylist()
        settings.bucket.put(f"{incoming_prefix(day)}a.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
        score_window(settings, day)
        check_date(settings, day, champion, run_id="test")
    status, said, _ = run("rehearse", "--json")
    replayed = json.loads(said)["nights"]
    assert status == 0
    with settings.engine.connect() as connection:
        query = (
            "select window_date::text, verdict, p_value, effect, estimated_accuracy, n from sentiment.drift_history order by 1"
        )
        recorded = [tuple(row) for row in connection.execute(text(query))]
    assert [
        tuple(night[name] for name in ("date", "verdict", "p_value", "effect", "estimated_accuracy", "n")) for night in replayed
    ] == recorded
    assert recorded[2][1] in ("warn", "retrain")
    assert recorded[2][2] < 1e-6
    status, said, _ = run("rehearse", "--from", FIRST, "--to", FIRST, "--json")
    assert [night["date"] for night in json.loads(said)["nights"]] == [str(FIRST)]


def test_quiet_years_state_their_alarms_with_an_interval(run, tmp_path):
    foreign = write(tmp_path / "electronics.parquet", 400, domain="electronics")
    arguments = ("rehearse", "--quiet-years", 3, "--nights", 6, "--reviews", 300, "--from", FIRST)
    status, said, _ = run(*arguments, "--json")
    found = json.loads(said)
    assert status == 0
    assert [year["nights"] for year in found["years"]] == [6, 6, 6]
    for rate in found["a_year"].values():
        assert rate["low"] <= rate["mean"] <= rate["high"]
    assert found["a_year"]["retrains"] == {"mean": 0.0, "low": 0.0, "high": 60.75}
    again = json.loads(run(*arguments, "--json")[1])
    assert again == found
    planted = json.loads(run(*arguments, "--inject", f"domain={foreign},share=1,from={FIRST + timedelta(days=2)}", "--json")[1])
    assert planted["planted"][0]["nights_to_warn"] == [1, 1, 1]
    assert planted["planted"][0]["first_night"]["mean"] == 1.0


def test_what_a_person_reads_names_the_nights_and_the_rates(run, tmp_path):
    foreign = write(tmp_path / "electronics.parquet", 400, domain="electronics")
    planted = f"domain={foreign},share=.5,from={FIRST + timedelta(days=1)}"
    _, said, _ = run("rehearse", "--folder", nights(tmp_path / "past", n_nights=3), "--inject", planted)
    assert str(FIRST) in said
    assert "3 nights under" in " ".join(said.split())
    assert "warned the first night" in " ".join(said.split())
    _, said, _ = run("rehearse", "--quiet-years", 2, "--nights", 3, "--reviews", 300)
    assert "0.00 false retrains (95 % interval 0.00 to 182.24)" in " ".join(said.split())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--inject", "share=.1"), "expected domain=FILE"),
        (("--inject", "domain=a.parquet,share=2"), "expected a share above 0"),
        (("--inject", "domain=a.parquet,speed=2"), "speed is not known"),
        (("--from", "2026-11-05", "--to", "2026-11-01"), "expected --to on or after"),
        (("--quiet-years", 1, "--folder", "x"), "neither --folder nor --to"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(run, arguments, complaint):
    status, _, complained = run("rehearse", *arguments)
    assert status == 2
    assert complaint in " ".join(complained.replace("│", " ").split())


@pytest.mark.parametrize("arguments", [(), ("--folder", "nowhere")])
def test_without_nights_there_is_nothing_to_rehearse(run, tmp_path, arguments):
    status, _, complained = run("rehearse", *arguments)
    assert status == 1
    assert "To mend it:" in complained


def test_a_sample_of_a_night_in_many_files_gives_each_file_its_share(run, tmp_path):
    folder = tmp_path / "past" / f"date={FIRST}"
    write(folder / "large.parquet", 600)
    write(folder / "small.jsonl", 60, domain="electronics", seed=5)
    status, said, _ = run("rehearse", "--folder", folder.parent, "--json")
    [night] = json.loads(said)["nights"]
    assert (status, night["n"]) == (0, 660)
    assert pa.scalar(night["date"]).as_py() == str(FIRST)

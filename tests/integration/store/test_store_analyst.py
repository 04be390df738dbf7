"""`sentiment sql`: what is asked, as PostgreSQL answers it."""

import io
import json
import sys

import pytest

from sentiment_core.cli import run
from sentiment_core.errors import Permanent, Transient
from sentiment_core.store.analyst import Analyst, Refused


@pytest.fixture
def sql(store, reader_url, monkeypatch, capsys):
    """Runs the command as the analyst; gives exit status, output and errors."""
    store.deliver("a", ["r1", {"review_id": "r2", "label": "negative", "text_excerpt": "two\nlines", "product_id": None}])
    store.publish()
    monkeypatch.setenv("SENTIMENT_DATABASE_URL", store.url)
    monkeypatch.setenv("SENTIMENT_READER_URL", reader_url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    def ask(*arguments, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = run(["sql", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return ask


def test_a_result_is_aligned_as_psql_does(sql):
    status, out, _ = sql(
        "-c", "select review_date, review_id, p_positive as p, text_excerpt, product_id from scored_reviews order by 2"
    )
    assert status == 0
    assert out.splitlines() == [
        " review_date | review_id |  p   | text_excerpt | product_id",
        "-------------+-----------+------+--------------+------------",
        " 2026-11-01  | r1        | 0.75 | words        | p",
        " 2026-11-01  | r2        | 0.75 | two         +|",
        "             |           |      | lines        |",
        "(2 rows)",
    ]


def test_values_are_postgresqls_own_words(sql):
    _, out, _ = sql(
        "-c",
        """select true, array[1,2], '{"a": 1}'::jsonb, '2026-11-01 02:00Z'::timestamptz, 1e-7::float8, 7::numeric / 2, null""",
        "--csv",
    )
    assert out.splitlines()[1] == 't,"{1,2}","{""a"": 1}",2026-11-01 02:00:00+00,1e-07,3.5000000000000000,'


def test_json_is_a_list_of_objects_with_types(sql):
    _, out, _ = sql(
        "--json",
        "-c",
        "select true as flag, 7 as n, 0.5 as share, null as nothing, '[1]'::jsonb as list, 'ä' as text, 'NaN'::float8 as odd, date '2026-11-01' as day",
    )
    assert json.loads(out) == [
        {"flag": True, "n": 7, "share": 0.5, "nothing": None, "list": [1], "text": "ä", "odd": "NaN", "day": "2026-11-01"}
    ]
    assert json.loads(sql("--json", "-c", "select 1 where false")[1]) == []


def test_csv_quotes_what_needs_it(sql):
    assert sql("--csv", "-c", "select 'a,b' as x, 1 as y")[1] == 'x,y\n"a,b",1\n'


def test_an_error_is_one_clear_message_and_exit_1(sql):
    status, out, err = sql("-c", "select nonsense from scored_reviews")
    assert (status, out) == (1, "")
    assert err.splitlines()[0] == 'ERROR:  column "nonsense" does not exist'
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "change", ["delete from scored_reviews", "create temporary table t (n int)", "set role sentiment_writer"]
)
def test_nothing_can_be_changed(change, sql):
    status, _, err = sql("-c", change)
    assert status == 1
    assert "ERROR:" in err


def test_statements_come_from_a_pipe_and_stop_at_the_first_error(sql):
    status, out, err = sql("--csv", stdin="select 1 as a; -- one; two\n\\d labels\nselect ';'\nas b;\nselect 1/0; select 4")
    assert (status, err) == (1, "ERROR:  division by zero\n")
    lines = out.splitlines()
    assert lines[:2] == ["a", "1"]
    assert lines[2] == "Column,Type,Nullable,Description"
    assert lines[-2:] == ["b", ";"]


def test_d_lists_what_can_be_read_and_what_it_means(sql):
    _, out, _ = sql("--json", "-c", "\\d")
    listed = {row["Relation"]: row["Description"] for row in json.loads(out)}
    assert listed["daily_sentiment"] == "Volume and mood by date"
    assert not {"staged_reviews", "schema_migrations", "scored_reviews_20261101"} & listed.keys()
    _, out, _ = sql("--json", "-c", "\\d sentiment.labels")
    assert json.loads(out)[1] == {
        "Column": "review_id",
        "Type": "text",
        "Nullable": "not null",
        "Description": "The sender's id; with review_date a review's identity",
    }
    assert sql("-c", "\\d nowhere")[0] == 1
    assert "there are \\d" in sql("-c", "\\dx")[2]


def test_the_address_is_one_for_psql(sql, reader_url):
    assert sql("--url") == (0, reader_url.replace("+psycopg2", "") + "\n", "")


def test_a_server_that_is_away_means_try_again_later(sql, monkeypatch):
    monkeypatch.setenv("SENTIMENT_READER_URL", "postgresql://sentiment_reader@127.0.0.1:9/reviews")
    status, _, err = sql("-c", "select 1")
    assert status == 75
    assert "PostgreSQL at 127.0.0.1:9/reviews" in err


def test_csv_and_json_together_are_a_wrong_usage(sql):
    assert sql("--csv", "--json", "-c", "select 1")[0] == 2


def test_without_an_address_for_readers_the_remedy_is_named(monkeypatch):
    from sentiment_core.cli import sql as module
    from sentiment_core.settings import Settings

    settings = Settings(database_url="postgresql://x", mlflow_tracking_uri="http://x")
    monkeypatch.setattr(module, "load_settings", lambda: settings)
    with pytest.raises(Permanent, match="SENTIMENT_READER_URL"):
        module.sql()


def test_a_session_that_the_server_ends_is_transient(database_url, owner):
    with Analyst(database_url) as analyst:
        [(pid,)] = analyst.run("select pg_backend_pid()").rows
        with owner.connect() as connection:
            connection.exec_driver_sql(f"select pg_terminate_backend({pid})")
        with pytest.raises(Transient):
            analyst.run("select 1")


def test_a_statement_can_be_cancelled_and_the_session_goes_on(database_url):
    from concurrent.futures import ThreadPoolExecutor
    from time import monotonic

    with Analyst(database_url) as analyst, ThreadPoolExecutor(1) as pool:
        running, deadline = pool.submit(analyst.run, "select pg_sleep(60)"), monotonic() + 30
        while not running.done() and monotonic() < deadline:
            analyst.cancel()
        with pytest.raises(Refused, match="canceling statement"):
            running.result(timeout=1)
        assert analyst.run("select 1").rows == [("1",)]

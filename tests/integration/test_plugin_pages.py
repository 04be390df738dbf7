"""The pages under /sentiment through Airflow's api-server: who may see them, what they say, what they say when something is away."""

import base64
import doctest
import hashlib
import html
import json
import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from sentiment_core.local.component import running
from sentiment_core.local.postgres import PostgresServer
from sentiment_core.local.processes import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
NIGHT = date(2026, 11, 6)
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
REPORT = b"<!doctype html><title>report</title><script>document.title = 'ran'</script>" + b"x" * 5000


def in_airflow(server_dir, program):
    """What a Python program with Airflow's and the plugin's surroundings prints, as JSON."""
    variables = os.environ | {
        "AIRFLOW_HOME": str(server_dir / "airflow"),
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'plugins'}",
    }
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def every_path(airflow_pages, server_dir):
    """One address for each route that the plugin mounts, read from the application itself."""
    routes = in_airflow(
        server_dir,
        "import json; from sentiment_plugin import SentimentPlugin as P; "
        "print(json.dumps([a['url_prefix'] + r.path for a in P().fastapi_apps for r in a['app'].routes]))",
    )
    assert len(routes) >= 4
    return [re.sub(r"\{\w+:int\}", "1", route).replace("{path:path}", "no/such/page") for route in routes]


def add_night_with_report(pages, check_id=1, *, window_date=NIGHT, **values):
    pages.add_reviews(window_date, n_positive=782, n_negative=218)
    pages.add_check(check_id, window_date=window_date, **values)
    key = f"reports/date={window_date}/check-{check_id}.html"
    pages.s3.put_object(Bucket="pages", Key=key, Body=REPORT, ContentType="text/html; charset=utf-8")
    return key


# Who may see them


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_path_refuses_anonymous_programs(pages, every_path, method):
    add_night_with_report(pages)
    with pages.visitor() as visitor:
        for path in every_path:
            answer = visitor.request(method, path)
            assert answer.status_code == 401, path
            assert b"report" not in answer.content
            assert b"2026-11-06" not in answer.content


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_no_path_takes_anything(pages, every_path, method):
    with pages.visitor() as visitor:
        assert {visitor.request(method, path).status_code for path in every_path} <= {401, 405}


def test_every_path_sends_an_anonymous_person_to_the_login_and_back(pages, every_path):
    with pages.visitor() as visitor:
        for path in every_path:
            answer = visitor.get(path, params={"before": "2026-11-01"}, headers=BROWSER)
            assert answer.status_code == 303
            target = answer.headers["location"]
            assert target.startswith("/api/v2/auth/login?next=%2Fsentiment%2F")
            login = visitor.get(target, headers=BROWSER)
            assert login.is_redirect
            assert login.next_request.url.path == "/auth/login"
            assert login.next_request.url.params["next"] == f"{path}?before=2026-11-01"


def test_the_address_without_its_slash_leads_to_the_same_login(pages):
    with pages.visitor() as visitor:
        answer = visitor.get("/sentiment")
        assert answer.status_code == 307
        assert answer.next_request.url.path == "/sentiment/"


def test_a_forged_token_is_no_login(pages):
    header, payload, _ = pages.visitor("viewer").cookies["_token"].split(".")
    forged = f"{header}.{payload}.{'A' * 86}"
    with pages.visitor() as visitor:
        visitor.cookies.set("_token", forged)
        assert visitor.get("/sentiment/").status_code in (401, 403)
        assert visitor.get("/sentiment/", headers=BROWSER).status_code == 303


def test_a_viewer_sees_nights_checks_and_reports(pages):
    add_night_with_report(pages)
    with pages.visitor("viewer") as visitor:
        for path in ("/sentiment/", "/sentiment/checks/1", "/sentiment/reports/1"):
            assert visitor.get(path).status_code == 200


def test_airflow_lists_the_nav_entry(pages):
    (plugin,) = (item for item in pages.api.get("/api/v2/plugins")["plugins"] if item["name"] == "sentiment")
    (view,) = plugin["external_views"]
    assert (view["name"], view["href"], view["destination"], view["url_route"]) == (
        "Sentiment",
        "/sentiment/",
        "nav",
        "sentiment",
    )
    assert pages.api.get("/api/v2/plugins/importErrors")["import_errors"] == []


@pytest.mark.usefixtures("airflow_pages")
def test_a_task_pays_nothing_for_the_pages(server_dir):
    loaded = in_airflow(
        server_dir,
        "import json, sys, airflow.plugins_manager; before = set(sys.modules); import sentiment_plugin; "
        "print(json.dumps(sorted(set(sys.modules) - before)))",
    )
    assert loaded == ["sentiment_plugin"]


# What they say


def test_a_night_is_told_in_words_and_figures(pages):
    add_night_with_report(pages, verdict="warn", sentence="n_chars moved.", estimated_accuracy=0.912)
    with pages.visitor("viewer") as visitor:
        page = words(visitor.get("/sentiment/").text)
    assert "The latest night, Friday 6 November 2026, was unusual, but not enough to call for a retrain." in page
    assert "1,000 reviews, 78.2% of them positive, scored by model version 1. n_chars moved." in page
    assert "2026-11-06 Fri 1,000 +3 rejected 78.2% Warning 1 91.2% estimated Report" in page


def test_a_measured_accuracy_goes_before_an_estimated_one(pages):
    add_night_with_report(pages, labelled_accuracy=0.873)
    with pages.visitor("viewer") as visitor:
        assert "87.3% measured" in words(visitor.get("/sentiment/").text)


def test_the_latest_check_of_a_night_counts_and_the_earlier_one_says_so(pages):
    add_night_with_report(pages, 1, verdict="quiet", checked_at=datetime(2026, 11, 7, tzinfo=UTC))
    pages.add_check(2, window_date=NIGHT, verdict="retrain", checked_at=datetime(2026, 11, 8, tzinfo=UTC))
    with pages.visitor("viewer") as visitor:
        page = visitor.get("/sentiment/").text
        assert 'href="checks/2"' in page
        assert 'href="checks/1"' not in page
        assert "Checked again since: check 2" in words(visitor.get("/sentiment/checks/1").text)
        assert "Checked again" not in visitor.get("/sentiment/checks/2").text


def test_a_night_whose_run_failed_is_shown_without_a_verdict(pages):
    pages.execute("insert into sentiment.scoring_runs values (:day, 'r', 1, 0, 0, 0, now(), now(), 'failed')", day=NIGHT)
    with pages.visitor("viewer") as visitor:
        page = words(visitor.get("/sentiment/").text)
    assert "Friday 6 November 2026, failed: the run in the DAG score_reviews says why." in page
    assert "It holds no reviews." in page


def test_nights_are_paged_without_loss_or_doubles(pages):
    days = [NIGHT - timedelta(days=back) for back in range(130)]
    for number, day in enumerate(days, start=1):
        pages.add_check(number, window_date=day)
    seen, address = [], "/sentiment/"
    with pages.visitor("viewer") as visitor:
        while address:
            page = visitor.get(address).text
            found = re.findall(r'<time datetime="([\d-]+)"', page)
            assert 0 < len(found) <= 60
            seen += found
            following = re.search(r'href="\./(\?before=[\d-]+)" rel="next"', page)
            address = f"/sentiment/{following[1]}" if following else None
    assert seen == [str(day) for day in days]


def test_an_empty_database_says_what_to_do(pages):
    with pages.visitor("viewer") as visitor:
        answer = visitor.get("/sentiment/")
    assert answer.status_code == 200
    assert "No night has been scored yet." in answer.text
    assert "sentiment put FILE --date" in answer.text


def test_a_report_comes_as_it_lies_in_s3(pages):
    add_night_with_report(pages)
    with pages.visitor("viewer") as visitor:
        plain = visitor.get("/sentiment/reports/1", headers={"Accept-Encoding": "identity"})
        packed = visitor.get("/sentiment/reports/1", headers={"Accept-Encoding": "gzip"})
    assert plain.content == packed.content == REPORT
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.headers["content-type"] == "text/html; charset=utf-8"


# What they do not let through


def test_hostile_values_are_shown_as_text(pages):
    hostile = "<img src=x onerror=alert(1)>\"'</style><script>alert(2)</script>"
    add_night_with_report(pages, sentence=hostile, report_url=None)
    with pages.visitor("viewer") as visitor:
        for path in ("/sentiment/", "/sentiment/checks/1", f"/sentiment/{hostile}"):
            text = visitor.get(path).text
            assert "<img" not in text
            assert "<script" not in text
            assert text.count("</style>") == 1
        assert hostile in html.unescape(visitor.get("/sentiment/").text)


def test_pages_allow_their_own_style_and_nothing_else(pages):
    add_night_with_report(pages)
    with pages.visitor("viewer") as visitor:
        answers = [visitor.get(path) for path in ("/sentiment/", "/sentiment/checks/1", "/sentiment/nothing")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy.startswith("default-src 'none'; ")
        assert f"style-src 'sha256-{digest}';" in policy
        assert "frame-ancestors 'self'" in policy
        assert "script-src" not in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"].startswith("private")
        assert " style=" not in answer.text


def test_a_report_is_sandboxed(pages):
    add_night_with_report(pages)
    with pages.visitor("viewer") as visitor:
        headers = visitor.get("/sentiment/reports/1").headers
    assert headers["content-security-policy"].startswith(
        "sandbox allow-scripts; default-src 'unsafe-inline' 'unsafe-eval' data: blob:"
    )
    assert "allow-same-origin" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"].startswith("private")


def test_every_answer_carries_a_content_security_policy_whoever_asks_and_whatever_for(pages, every_path):
    add_night_with_report(pages)
    for user in (None, "viewer"):
        with pages.visitor(user) as visitor:
            for path in (*every_path, "/sentiment", "/sentiment/checks/404", "/sentiment/?before=x", "/sentiment/reports/404"):
                for headers in ({}, BROWSER):
                    for method in ("GET", "HEAD", "POST"):
                        answer = visitor.request(method, path, headers=headers)
                        policy = answer.headers.get("content-security-policy", "")
                        asked = (user, method, path, headers, answer.status_code)
                        assert "default-src 'none'" in policy or policy.startswith("sandbox "), asked
                        assert "allow-same-origin" not in policy, asked
                        assert answer.headers.get("location", "/").startswith(("/", "sentiment/")), asked


def test_a_viewer_changes_nothing_in_airflow_either(pages):
    """Who may only look may not trigger, edit connections, read their passwords or the variables of the machine."""
    with pages.visitor("viewer") as visitor:
        for method, path, body in (
            ("POST", "/api/v2/dags/score_reviews/dagRuns", {"logical_date": None}),
            ("PATCH", "/api/v2/dags/score_reviews", {"is_paused": False}),
            (
                "POST",
                "/api/v2/backfills",
                {"dag_id": "score_reviews", "from_date": "2026-11-01T00:00:00Z", "to_date": "2026-11-01T00:00:00Z"},
            ),
            ("GET", "/api/v2/connections/sentiment_db", None),
            (
                "PATCH",
                "/api/v2/connections/sentiment_db",
                {"connection_id": "sentiment_db", "conn_type": "postgres", "host": "evil"},
            ),
            ("DELETE", "/api/v2/connections/reviews_s3", None),
            ("GET", "/api/v2/variables", None),
            ("GET", "/api/v2/config", None),
        ):
            answer = visitor.request(method, path, json=body)
            assert answer.status_code in (401, 403), (method, path, answer.status_code, answer.text[:300])
            assert "only-for-tests" not in answer.text


def test_airflow_shows_nobody_the_password_of_a_connection(pages):
    for connection_id in ("sentiment_db", "reviews_s3"):
        assert "only-for-tests" not in json.dumps(pages.api.get(f"/api/v2/connections/{connection_id}")["password"])


@pytest.mark.parametrize(
    "address", ["s3://pages/snapshots/a.parquet", "s3://pages/reports", "file:///etc/passwd", "https://example.org/reports/a", ""]
)
def test_an_address_outside_reports_is_not_followed(pages, address):
    pages.s3.put_object(Bucket="pages", Key="snapshots/a.parquet", Body=b"text of reviews")
    add_night_with_report(pages, report_url=address)
    with pages.visitor("viewer") as visitor:
        answer = visitor.get("/sentiment/reports/1")
    assert answer.status_code == 404
    assert "has no report" in answer.text


# What they say when something is missing or away


@pytest.mark.parametrize("number", ["404", "99999999999999999999999", "-1", "x", "1.5"])
@pytest.mark.parametrize("kind", ["checks", "reports"])
def test_an_unknown_check_is_not_found(pages, kind, number):
    add_night_with_report(pages)
    with pages.visitor("viewer") as visitor:
        answer = visitor.get(f"/sentiment/{kind}/{number}")
    assert answer.status_code == 404
    assert "<h1>Not found</h1>" in answer.text


def test_a_removed_report_is_told_from_an_unknown_one(pages):
    key = add_night_with_report(pages)
    pages.s3.delete_object(Bucket="pages", Key=key)
    with pages.visitor("viewer") as visitor:
        answer = visitor.get("/sentiment/reports/1")
    assert answer.status_code == 404
    assert "The report of drift check 1 has expired or was removed from S3. Its figures are kept." in words(answer.text)


def test_a_date_that_is_none_is_a_bad_request(pages):
    with pages.visitor("viewer") as visitor:
        answer = visitor.get("/sentiment/", params={"before": "<yesterday>"})
    assert answer.status_code == 400
    assert "before=YYYY-MM-DD" in answer.text


def test_a_database_that_stops_gives_a_clear_503_and_heals(pages, tmp_path):
    """A connection edited in the UI counts at once, too: that is how the pages get to the database that will stop."""
    add_night_with_report(pages)
    server = PostgresServer(
        directory=tmp_path / "postgres", log=tmp_path / "log", port=free_port(), password="only-for-tests", is_durable=False
    )
    with pages.visitor("viewer") as visitor:
        try:
            with running(server.component()):
                pages.point_database_to(pages.make_database(server, "pages"))
                assert "No night has been scored yet." in visitor.get("/sentiment/").text
            for path in ("/sentiment/", "/sentiment/checks/1", "/sentiment/reports/1"):
                answer = visitor.get(path)
                assert answer.status_code == 503
                assert answer.headers["retry-after"]
                assert re.search(r"PostgreSQL\S*( at \S+)? does not answer", words(answer.text))
                assert "Traceback" not in answer.text
                assert "psycopg2" not in answer.text
                assert server.password not in answer.text
        finally:
            pages.point_database_to(pages.database_url)
        assert visitor.get("/sentiment/").status_code == 200


def test_s3_away_takes_only_the_report(pages):
    add_night_with_report(pages)
    connection = pages.api.get("/api/v2/connections/reviews_s3")
    away = json.dumps({"endpoint_url": f"http://127.0.0.1:{free_port()}", "region_name": "us-east-1"})
    edit = {name: connection[name] for name in ("connection_id", "conn_type", "login")} | {"extra": away}
    with pages.visitor("viewer") as visitor:
        try:
            pages.api.patch("/api/v2/connections/reviews_s3", edit)
            assert visitor.get("/sentiment/").status_code == 200
            answer = visitor.get("/sentiment/reports/1")
        finally:
            pages.api.patch("/api/v2/connections/reviews_s3", edit | {"extra": connection["extra"]})
        assert answer.status_code == 503
        assert "check-1.html does not answer" in words(answer.text)
        assert visitor.get("/sentiment/reports/1").status_code == 200


def test_pages_read_as_the_reader_and_only_read(pages):
    add_night_with_report(pages)
    with pages.visitor("viewer") as visitor:
        try:
            pages.execute("revoke select on sentiment.drift_checks from sentiment_reader")
            answer = visitor.get("/sentiment/")
        finally:
            pages.execute("grant select on sentiment.drift_checks to sentiment_reader")
        assert answer.status_code == 500
        assert "sentiment doctor" in answer.text
        assert "Traceback" not in answer.text
        assert visitor.get("/sentiment/").status_code == 200


@pytest.mark.parametrize("module", ["charts", "views", "models"])
def test_the_examples_in_the_pages_own_code_hold(module, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "plugins"))
    package = __import__(f"sentiment_pages.{module}")
    tried = doctest.testmod(getattr(package, module))
    assert tried.attempted >= 2
    assert tried.failed == 0


def words(page):
    """The text of a page's body, blanks made one."""
    body = re.sub(r"<(svg|head)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", body))).replace(" .", ".").strip()

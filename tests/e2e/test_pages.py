"""The pages of a running stack: closed to strangers, open to a viewer."""

import httpx
import pytest

from sentiment_core.local.airflow_api import AirflowApi

pytestmark = pytest.mark.stack


@pytest.fixture
def visitor(machine):
    with httpx.Client(base_url=machine.api.base_url, timeout=60) as client:
        yield client


@pytest.fixture
def viewer(machine, visitor):
    password = machine.stack.airflow.secrets.passwords["viewer"]
    visitor.cookies.set("_token", AirflowApi(machine.api.base_url, "viewer", password).token())
    return visitor


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_nobody_sees_a_page_without_a_login(machine, nights, visitor, accept):
    [(check_id,)] = machine.rows(
        "select max(check_id) from sentiment.drift_checks where window_date = :day", day=nights["key"].date
    )
    for path in ("/sentiment/", f"/sentiment/checks/{check_id}", f"/sentiment/reports/{check_id}", "/sentiment/nothing"):
        answer = visitor.get(path, headers={"Accept": accept})
        assert answer.status_code == (401 if accept == "*/*" else 303), path
        assert answer.is_success is False
        assert "/auth/login" in answer.headers.get("location", "/auth/login")
    assert visitor.get("/sentiment").is_redirect


def test_a_viewer_finds_the_nights_and_opens_a_report(machine, nights, viewer):
    page = viewer.get("/sentiment/")
    assert page.status_code == 200
    for night in nights.values():
        assert f'<time datetime="{night.date}"' in page.text
    [(check_id,)] = machine.rows(
        "select max(check_id) from sentiment.drift_checks where window_date = :day", day=nights["drifted"].date
    )
    assert f"checks/{check_id}" in page.text
    report = viewer.get(f"/sentiment/reports/{check_id}")
    assert report.status_code == 200
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts")
    assert f"Drift check of {nights['drifted'].date}" in report.text

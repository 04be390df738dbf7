"""The REST API under /sentiment/api through Airflow's api-server: who may ask, who may reload, and that it answers."""

import json

import pytest

FILM = "What a wonderful film, I loved every minute of it."
JSON = {"Content-Type": "application/json"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
HERE = "/sentiment/api"
ASKED = {"/predict": {"text": FILM}, "/predict/batch": {"texts": [FILM, FILM]}, "/reload": {"alias": "champion"}}
LOOKS = ("/health", "/info", "/metrics", "/docs", "/openapi.json", "/")


@pytest.fixture(scope="module")
def champion(airflow_pages, candidate):
    """A champion of the model that this api-server knows."""
    registry = airflow_pages.registry
    ref = registry.register(candidate, snapshot_key=None, code_version="test", run_name="test")
    registry.set_alias("champion", ref.version)
    return ref


def test_a_model_that_is_none_is_an_answer_and_the_pages_go_on(pages):
    with pages.visitor("admin") as visitor:
        answer = visitor.post(f"{HERE}/reload", json={"alias": "nobody"})
        assert answer.status_code == 404
        assert "nobody" in answer.json()["detail"]
        assert visitor.get("/sentiment/").status_code == 200


def test_a_viewer_asks_and_an_editor_reloads(pages, champion):
    with pages.visitor("viewer") as viewer, pages.visitor("admin") as admin:
        refused = viewer.post(f"{HERE}/reload", json={"alias": "champion"})
        assert refused.status_code == 403
        assert refused.json().keys() == {"detail"}
        loaded = admin.post(f"{HERE}/reload", json={"alias": "champion"})
        assert loaded.status_code == 200, loaded.text
        assert loaded.json()["model_version"] == champion.version
        found = viewer.post(f"{HERE}/predict", json={"text": FILM}).json()
        assert (found["sentiment"], found["model_version"]) == ("positive", champion.version)
        batch = viewer.post(f"{HERE}/predict/batch", json={"texts": [FILM, FILM]}).json()
        assert [item["scores"] for item in batch["predictions"]] == [found["scores"]] * 2
        for path in LOOKS:
            assert viewer.get(HERE + path).status_code == 200, path
        assert f'version="{champion.version}"' in viewer.get(f"{HERE}/metrics").text
        assert 'path="/predict",status="200"' in viewer.get(f"{HERE}/metrics").text
        assert viewer.post(f"{HERE}/predict", json={"text": " "}).status_code == 422


def test_a_token_in_the_header_is_a_login_too(pages, champion):
    token = pages.visitor("viewer").cookies["_token"]
    with pages.visitor() as program:
        answer = program.post(f"{HERE}/predict", json={"text": FILM}, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert answer.json()["model_name"] == champion.name


@pytest.mark.parametrize("body", [json.dumps({"text": FILM}).encode(), b"{", b"", b"x" * 5_000_000])
def test_nothing_is_read_of_who_has_no_login(pages, body):
    with pages.visitor() as visitor:
        for path in (*ASKED, "/nothing"):
            answer = visitor.post(HERE + path, content=body, headers=JSON)
            assert answer.status_code == 401, path
            assert answer.json().keys() == {"detail"}
            assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_person_who_wants_the_docs_is_sent_to_the_login_and_back(pages):
    with pages.visitor() as visitor:
        answer = visitor.get(f"{HERE}/docs", headers=BROWSER)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/api/v2/auth/login?next=%2Fsentiment%2Fapi%2Fdocs"


def test_the_docs_name_the_address_and_the_login(pages):
    with pages.visitor("viewer") as visitor:
        page = visitor.get(f"{HERE}/docs").text
    assert f"{pages.base_url}{HERE}/predict" in page
    assert "Authorization: Bearer $TOKEN" in page
    assert "<script" not in page


def test_errors_have_one_shape_here_too(pages):
    with pages.visitor("viewer") as visitor:
        for method, path, status in (
            ("GET", "/predict", 405), ("POST", "/docs", 405), ("GET", "/nothing", 404), ("POST", "/predict", 415),
        ):  # fmt: skip
            answer = visitor.request(method, HERE + path)
            assert answer.status_code == status, path
            assert answer.json().keys() == {"detail"}


def test_a_browser_shows_the_docs_without_complaint(browser, pages):
    browser("Network.setCookie", name="_token", value=pages.visitor("viewer").cookies["_token"], url=pages.base_url)
    browser.open(f"{pages.base_url}{HERE}/docs")
    assert browser.wait("document.querySelector('h1').textContent") == "Sentiment API"
    assert browser.wait("getComputedStyle(document.querySelector('section')).borderRadius") == "10px"
    assert [said for said in browser.complaints() if "favicon" not in said] == []
    for width in (1200, 360):
        browser("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        assert browser.ask("document.documentElement.scrollWidth") <= width

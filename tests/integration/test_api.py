"""The REST API over a real registry and real HTTP: what it answers, what it refuses, and that a swap is felt by nobody."""

import base64
import hashlib
import json
import re
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import SimpleNamespace

import httpx
import pytest

from sentiment_core.api import answers
from sentiment_core.api.app import METHODS, make_app
from sentiment_core.local.processes import free_port
from sentiment_core.policy import read_policy
from sentiment_core.registry import Registry
from sentiment_core.settings import REPOSITORY, ModelSettings
from sentiment_core.stages.explaining import predict_texts
from sentiment_core.stages.serving import NothingServed, ServedModel, open_service

FILM, DULL = "What a wonderful film, I loved every minute of it.", "Boring and far too long, the worst film I have seen."
JSON = {"Content-Type": "application/json"}
TALKATIVE = ("Traceback", 'File "', ".py", "0x")
POLICY = REPOSITORY / "include" / "policy.toml"


@dataclass(frozen=True)
class Place:
    """A registered model of a test's own: no database, no bucket."""

    registry: Registry
    settings: ModelSettings

    def service(self, **limits):
        service = open_service(self.settings)
        service.limits = replace(service.limits, **limits)
        return service

    def predictions(self, texts):
        return predict_texts(SimpleNamespace(registry=self.registry, policy=read_policy(POLICY)), texts)


@pytest.fixture(scope="module")
def make_place(mlflow_server, candidate, tmp_path_factory):
    """A place with so many versions, the first of which is champion."""
    short = replace(candidate, trials=candidate.trials[:1])  # each costs the server a run, and nothing here looks at them

    def make(n_versions):
        settings = ModelSettings(
            mlflow_tracking_uri=mlflow_server.tracking_uri,
            model_name=f"sentiment-{uuid.uuid4().hex[:8]}",
            state_dir=tmp_path_factory.mktemp("cache"),
        )
        registry = Registry(settings.mlflow_tracking_uri, settings.model_name, settings.state_dir / "models")
        for _ in range(n_versions):
            registry.register(short, snapshot_key="snapshots/ab.parquet", code_version="test", run_name="test")
        if n_versions:
            registry.set_alias("champion", 1)
        return Place(registry, settings)

    return make


@pytest.fixture(scope="module")
def place(make_place):
    """Two versions; tests leave the champion as it is."""
    return make_place(2)


@pytest.fixture(scope="module")
def empty_place(make_place):
    return make_place(0)


@pytest.fixture
def start(serving):
    """Starts an API over a place; gives a client, with the service behind it at `client.service`."""

    def start(place, **limits):
        service = place.service(**limits)
        client = serving(make_app(lambda: service))
        client.service = service
        return client

    return start


@pytest.fixture
def api(start, place):
    """The API over a champion."""
    return start(place)


def problem(answer, status):
    """The detail of a refusal; it is the whole body, a sentence, and tells nothing of the code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"detail"}
    assert isinstance(body["detail"], str)
    assert not any(word in body["detail"] for word in TALKATIVE), body
    return body["detail"]


# What it answers


def test_a_text_is_judged_as_by_the_command(api, place):
    answer = api.post("/predict", json={"text": FILM})
    assert answer.status_code == 200
    found = answer.json()
    (expected,) = place.predictions([FILM])
    assert list(found) == ["text", "sentiment", "confidence", "scores", "model_name", "model_version", "latency_ms"]
    assert (found["text"], found["sentiment"]) == (FILM, expected["label"])
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-9)
    assert found["confidence"] == found["scores"][found["sentiment"]]
    assert (found["model_name"], found["model_version"]) == (place.settings.model_name, 1)
    assert found["latency_ms"] > 0


def test_a_batch_is_judged_in_its_order_by_one_call(api, place, monkeypatch):
    from sentiment_core import scoring

    assert api.get("/health").status_code == 200
    calls = []
    monkeypatch.setattr(scoring, "score_texts", lambda *asked, real=scoring.score_texts: calls.append(1) or real(*asked))
    texts = [f"{FILM} {number}" if number % 3 else f"{DULL} {number}" for number in range(500)]
    found = api.post("/predict/batch", json={"texts": texts}).json()
    assert len(calls) == 1
    assert [item["text"] for item in found["predictions"]] == texts
    expected = place.predictions(texts)
    assert [item["sentiment"] for item in found["predictions"]] == [item["label"] for item in expected]
    for item, other in zip(found["predictions"], expected, strict=True):
        assert item["scores"] == pytest.approx(other["scores"], abs=1e-9)
    assert (found["model_version"], found["model_name"]) == (1, place.settings.model_name)
    alone = api.post("/predict", json={"text": texts[0]}).json()
    assert {**found["predictions"][0], "latency_ms": 0} == {**alone, "latency_ms": 0}


@pytest.mark.parametrize(
    "text", ["好き 😀 naïve", 'a "quoted"\nline\x00', "<script>alert(1)</script>", "x" * 20_000, "😀" * 20_000, "\u202etxt"]
)
def test_a_text_comes_back_to_the_letter(api, text):
    for body in (json.dumps({"text": text}), json.dumps({"text": text}, ensure_ascii=False)):
        answer = api.post("/predict", content=body.encode(), headers=JSON)
        assert answer.status_code == 200
        assert answer.json()["text"] == text


def test_health_and_info_say_who_answers(api, place):
    assert api.get("/health").json() == {"status": "ok", "model_name": place.settings.model_name, "model_version": 1}
    info = api.get("/info").json()
    ref = place.registry.resolve("champion")
    assert (info["model_version"], info["digest"], info["snapshot"], info["alias"]) == (1, ref.digest, ref.snapshot, "champion")
    assert info["classes"] == ["negative", "positive"]
    limits = read_policy(POLICY).serving
    assert info["limits"] == {name: getattr(limits, name) for name in ("max_text_chars", "max_batch_texts", "max_body_bytes")}


def test_answers_have_the_fields_that_the_document_promises(api):
    document = api.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    asked = {
        ("post", "/predict"): {"text": FILM}, ("post", "/predict/batch"): {"texts": [FILM]},
        ("post", "/reload"): {}, ("get", "/health"): None, ("get", "/info"): None,
    }  # fmt: skip
    for (method, path), body in asked.items():
        answer = api.request(method, path, json=body)
        assert answer.status_code == 200
        name = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        model = name.rpartition("/")[2]
        assert answer.json().keys() == schemas[model]["properties"].keys()
        getattr(answers, model).model_validate(answer.json(), strict=True)


def test_metrics_count_what_was_asked(api):
    api.post("/predict", json={"text": FILM})
    api.post("/predict/batch", json={"texts": [DULL, FILM]})
    api.post("/predict", json={"text": ""})
    api.get("/nothing/at/all")
    api.post("/reload", json={"alias": "nobody"})
    answer = api.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert lines['sentiment_api_requests_total{path="/predict",status="200"}'] == "1"
    assert lines['sentiment_api_requests_total{path="/predict",status="422"}'] == "1"
    assert lines['sentiment_api_requests_total{path="other",status="404"}'] == "1"
    assert lines['sentiment_api_request_seconds_count{path="/predict"}'] == "2"
    assert sum(int(n) for name, n in lines.items() if name.startswith("sentiment_api_reviews_scored_total")) == 3
    assert lines['sentiment_api_reloads_total{outcome="failed"}'] == "1"
    (info,) = (name for name in lines if name.startswith("sentiment_api_model_info"))
    assert 'version="1"' in info
    assert 'is_degraded="false"' in info


def test_a_failure_of_ours_is_one_sentence_and_counted(api, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError(FILM)

    assert api.get("/health").status_code == 200
    monkeypatch.setattr(type(api.service.in_memory), "score", fail)
    answer = api.post("/predict", json={"text": FILM})
    assert FILM not in problem(answer, 500)
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert 'sentiment_api_requests_total{path="/predict",status="500"} 1' in api.get("/metrics").text
    assert "a request for /predict failed: RuntimeError" in caplog.text
    assert "in _score" in caplog.text
    assert FILM not in caplog.text


# What it refuses


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "words, found none"), (" \n\t\u3000", "words, found none"), ("x" * 20_001, "at most 20,000 characters, found 20,001")],
)
def test_a_text_that_is_none_is_refused_with_its_reason(api, text, words):
    assert words in problem(api.post("/predict", json={"text": text}), 422)
    said = problem(api.post("/predict/batch", json={"texts": [FILM, text]}), 422)
    assert words in said
    assert said.startswith("text 2: ")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "body: expected JSON"),
        (b"{", "body: expected JSON"),
        (b'{"text": "caf\xe9"}', "found bytes that are none"),
        (b"[" * 100_000, "found it nested too deep"),
        (b'{"text": ' + b"9" * 5_000 + b"}", "found a number too long"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[]", "body: expected an object, found a list"),
        (b"null", "body: expected an object, found null"),
        (b"{}", "the key text, found none"),
        (b'{"text": null}', "text: expected a string, found null"),
        (b'{"text": 3}', "text: expected a string, found a number"),
        (b'{"text": NaN}', "text: expected a string, found a number"),
        (b'{"text": ["a"]}', "text: expected a string, found a list"),
        (b'{"text": "a", "model": "b"}', "the key text and no other, found model"),
        (b'{"text": "a", "\\ud800": 1}', "body: expected valid Unicode"),
        (b'{"text": "half a pair: \\ud83d"}', "text: expected valid UTF-8"),
        (b'{"texts": ["a"]}', "text"),
    ],
)
def test_a_body_that_is_none_is_refused_with_its_reason(api, body, words):
    assert words in problem(api.post("/predict", content=body, headers=JSON), 422)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "one text or more"),
        ("a", "a list of strings"),
        ([1], "texts.0: expected a string"),
        (["a"] * 1001, "at most 1,000, found 1,001"),
    ],
)
def test_a_batch_that_is_none_is_refused_with_its_reason(api, value, words):
    assert words in problem(api.post("/predict/batch", json={"texts": value}), 422)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/reload"])
def test_what_a_foreign_page_could_send_without_asking_is_refused(api, path, kind):
    said = problem(api.post(path, content=b'{"alias": "1"}', headers={"Content-Type": kind}), 415)
    assert "application/json" in said


def test_a_body_too_large_is_refused_before_it_is_read(start, place):
    api = start(place, max_body_bytes=10_000)
    body = json.dumps({"text": "x" * 10_000}).encode()
    assert "at most 10,000 bytes" in problem(api.post("/predict", content=body, headers=JSON), 413)
    n_sent = 0

    def endless():
        nonlocal n_sent
        while True:
            n_sent += 65_536
            assert n_sent < 1 << 30, "a gigabyte was taken"
            yield b" " * 65_536

    assert "at most 10,000 bytes" in problem(api.post("/predict", content=endless(), headers=JSON), 413)
    assert api.post("/predict", json={"text": FILM}).status_code == 200


def test_who_leaves_in_the_middle_of_a_body_breaks_nothing(api):
    with socket.create_connection((api.base_url.host, api.base_url.port)) as link:
        link.sendall(
            b'POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"te'
        )
    deadline = time.monotonic() + 30
    while 'sentiment_api_requests_total{path="/predict",status="400"} 1' not in (counted := api.get("/metrics").text):
        assert time.monotonic() < deadline, counted
    assert 'status="500"' not in counted
    assert api.post("/predict", json={"text": FILM}).status_code == 200


def test_limits_are_the_policys(start, place):
    api = start(place, max_text_chars=5, max_batch_texts=2)
    assert "at most 5 characters" in problem(api.post("/predict", json={"text": "sixsix"}), 422)
    assert "at most 2, found 3" in problem(api.post("/predict/batch", json={"texts": ["a", "b", "c"]}), 422)
    assert open_service(place.settings).limits == read_policy(POLICY).serving


def test_every_path_refuses_other_methods_and_names_its_own(api):
    for path, methods in METHODS.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - set(methods):
            answer = api.request(method, path)
            assert method in problem(answer, 405)
            assert answer.headers["allow"] == ", ".join(methods)


@pytest.mark.parametrize("path", ["/nothing", "/predict/", "/predict/batch/x", "/docs/../../etc/passwd", "/%00", "/redoc"])
def test_an_unknown_path_is_not_found(api, path):
    for method in ("GET", "POST", "DELETE"):
        assert "/docs" in problem(api.request(method, path), 404)


def test_every_answer_carries_the_headers(api):
    answers_of_all = [
        api.request(method, path, json={}) for path in (*METHODS, "/nothing") for method in ("GET", "HEAD", "POST", "PUT")
    ]
    for answer in answers_of_all:
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; "), answer.request.url
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"].startswith("private")
        assert answer.headers["referrer-policy"] == "same-origin"


def test_the_docs_need_no_script_and_nothing_from_elsewhere(api):
    answer = api.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    for path in ("/predict", "/predict/batch", "/health", "/info", "/reload", "/metrics"):
        assert f"</span> {path}</h2>" in answer.text
    assert "curl -H &#x27;Content-Type: application/json&#x27;" in answer.text
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert " style=" not in answer.text
    assert "url(" not in style
    assert set(re.findall(r'(?:src|href)="([^"]*)"', answer.text)) == {"openapi.json"}
    hostile = api.get("/docs", headers={"Host": '"><script>alert(1)</script>'})
    assert "<script" not in hostile.text


# Without a model, and when it changes


def test_without_a_model_the_answer_is_503_and_says_how_to_make_one(start, make_place, candidate):
    place = make_place(0)
    api = start(place, retry_seconds=0.0)
    for answer in (api.post("/predict", json={"text": FILM}), api.get("/health"), api.get("/info")):
        assert "make demo" in problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
    assert api.post("/predict", json={"text": ""}).status_code == 422
    assert api.get("/docs").status_code == 200
    assert "sentiment_api_model_info{" not in api.get("/metrics").text
    place.registry.register(candidate, snapshot_key=None, code_version="test", run_name="test")
    place.registry.set_alias("champion", 1)
    assert api.get("/health").json()["model_version"] == 1


def test_a_model_that_is_missing_is_not_looked_for_at_every_question(empty_place, monkeypatch):
    looks = []
    service = empty_place.service(retry_seconds=3600.0)
    monkeypatch.setattr(Registry, "resolve", lambda *asked, real=Registry.resolve: looks.append(1) or real(*asked))
    for _ in range(5):
        with pytest.raises(NothingServed, match="make demo"):
            service.served()
    assert len(looks) == 1


def test_a_question_while_the_model_is_loaded_is_asked_to_come_again(place):
    service = place.service()

    def ask():
        with pytest.raises(NothingServed, match="being loaded"):
            service.served()

    with service._swapping, ThreadPoolExecutor(1) as pool:
        pool.submit(ask).result(timeout=10)
    assert service.served().ref.version == 1


def test_a_reload_follows_the_alias(start, make_place):
    place = make_place(2)
    api = start(place)
    assert api.get("/health").json()["model_version"] == 1
    place.registry.set_alias("champion", 2)
    assert api.get("/health").json()["model_version"] == 1
    assert api.post("/reload", json={"alias": "champion"}).json()["model_version"] == 2
    assert api.post("/predict", json={"text": FILM}).json()["model_version"] == 2
    assert api.post("/reload", json={"alias": "1"}).json()["alias"] == "1"
    assert api.post("/reload", json={}).json()["model_version"] == 1
    place.registry.set_alias("challenger", 2)
    assert api.post("/reload", json={"alias": "challenger"}).json()["model_version"] == 2
    assert 'sentiment_api_reloads_total{outcome="done"} 4' in api.get("/metrics").text


@pytest.mark.parametrize("alias", ["nobody", "99"])
def test_an_unknown_alias_is_not_found_and_the_model_stays(api, alias):
    assert api.get("/health").status_code == 200
    said = problem(api.post("/reload", json={"alias": alias}), 404)
    assert alias in said
    assert "Version 1 of sentiment-" in said
    assert api.post("/predict", json={"text": FILM}).json()["model_version"] == 1
    assert api.post("/reload", json={}).json()["alias"] == "champion"


@pytest.mark.parametrize("alias", ["", "a/b", "../x", "a b", "x" * 101, "\n", "champion\n", 'a"b'])
def test_an_alias_that_is_none_is_refused(api, alias):
    assert "alias" in problem(api.post("/reload", json={"alias": alias}), 422)


def test_a_version_that_is_not_to_be_trusted_does_not_come_in(start, make_place):
    from mlflow import MlflowClient

    place = make_place(2)
    api = start(place)
    assert api.get("/health").status_code == 200
    uri, name = place.settings.mlflow_tracking_uri, place.settings.model_name
    MlflowClient(uri, uri).set_model_version_tag(name, "2", "sentiment.digest", "0" * 64)
    said = problem(api.post("/reload", json={"alias": "2"}), 409)
    assert "0" * 64 in said
    assert "Version 1 of" in said
    assert api.get("/health").json()["model_version"] == 1


def test_with_mlflow_away_the_last_known_good_model_answers(start, place, gate, tmp_path):
    through = replace(place, settings=replace(place.settings, mlflow_tracking_uri=gate.url, state_dir=tmp_path))
    through.service().served()
    gate.close()
    api = start(through)
    assert api.post("/predict", json={"text": FILM}).json()["model_version"] == 1
    assert api.get("/health").json()["status"] == "degraded"
    assert api.get("/info").json()["is_degraded"] is True
    said = problem(api.post("/reload", json={"alias": "champion"}), 503)
    assert "Version 1 of" in said


def test_with_mlflow_away_and_nothing_known_the_answer_is_503(start, place, tmp_path):
    nowhere = replace(place.settings, mlflow_tracking_uri=f"http://127.0.0.1:{free_port()}", state_dir=tmp_path)
    api = start(replace(place, settings=nowhere))
    assert "MLflow" in problem(api.post("/predict", json={"text": FILM}), 503)
    assert "No model answers" in problem(api.post("/reload", json={}), 503)


def test_a_service_that_cannot_be_opened_is_an_answer(serving, place, tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text("[serving]\nmax_text_chars = 3\n")
    settings = replace(place.settings, policy_path=policy)
    api = serving(make_app(lambda: open_service(settings)))
    for answer in (api.get("/health"), api.post("/predict", json={"text": FILM}), api.get("/metrics")):
        assert "policy.toml" in problem(answer, 503)


def test_an_answer_under_way_when_a_swap_happens_names_the_version_that_scored_it(api, monkeypatch):
    assert api.get("/health").json()["model_version"] == 1

    def score_and_be_swapped(served, texts, real=ServedModel.score):
        found = real(served, texts)
        if served.ref.version == 1:
            api.service.reload("2")
        return found

    monkeypatch.setattr(ServedModel, "score", score_and_be_swapped)
    found = api.post("/predict/batch", json={"texts": [FILM, DULL]}).json()
    assert [found["model_version"], *(item["model_version"] for item in found["predictions"])] == [1, 1, 1]
    assert api.post("/predict", json={"text": FILM}).json()["model_version"] == 2


def test_nobody_feels_a_swap(api, place):
    """Questions from several threads while versions 1 and 2 take turns: each answer is whole, and of one of them."""
    expected = place.predictions([FILM, DULL])
    assert api.get("/health").status_code == 200
    is_over = threading.Event()

    def ask():
        seen = set()
        with httpx.Client(base_url=api.base_url, timeout=60, trust_env=False) as client:
            while not is_over.is_set():
                answer = client.post("/predict/batch", json={"texts": [FILM, DULL] * 50})
                assert answer.status_code == 200, answer.text
                found = answer.json()
                assert {item["model_version"] for item in found["predictions"]} == {found["model_version"]}
                for item, other in zip(found["predictions"], expected * 50, strict=True):
                    assert item["sentiment"] == other["label"]
                    assert item["scores"] == pytest.approx(other["scores"], abs=1e-9)
                seen.add(found["model_version"])
        return seen

    def swap(first):
        return [api.post("/reload", json={"alias": str(1 + (first + n) % 2)}).status_code for n in range(5)]

    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            swapped = [pool.submit(swap, first) for first in range(2)]
            statuses = [status for future in swapped for status in future.result(timeout=120)]
            statuses += [api.post("/reload", json={"alias": "nobody"}).status_code for _ in range(2)]
        finally:
            is_over.set()
        seen = set().union(*(future.result(timeout=60) for future in asking))
    assert statuses == [200] * 10 + [404] * 2
    assert seen == {1, 2}


def test_it_asks_for_no_database_and_no_bucket(place):
    with_all = {
        "MLFLOW_TRACKING_URI": place.settings.mlflow_tracking_uri, "SENTIMENT_DATABASE_URL": "postgresql://owner:secret@h/d",
        "SENTIMENT_READER_URL": "postgresql://reader:secret@h/d", "AWS_SECRET_ACCESS_KEY": "secret",
    }  # fmt: skip
    assert "secret" not in repr(vars(ModelSettings.from_environment(with_all)))
    alone = ModelSettings.from_environment({"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"})
    assert open_service(alone).in_memory is None

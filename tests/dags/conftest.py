"""DAG tests run in-process (`dag.test()`) on a SQLite Airflow of their own, against the embedded servers."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# Before Airflow is imported anywhere: it reads its home and its file once.
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="airflow-home-"))
(AIRFLOW_HOME / "airflow.cfg").write_text(
    f"""
[core]
load_examples = False
dags_folder = {REPOSITORY / "dags"}
plugins_folder = {REPOSITORY / "plugins"}
[database]
sql_alchemy_conn = sqlite:///{AIRFLOW_HOME / "airflow.db"}
[logging]
logging_level = WARNING
""",
    encoding="utf-8",
)
os.environ["AIRFLOW_HOME"] = str(AIRFLOW_HOME)
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_database():
    """Airflow's metadata in SQLite, migrated once."""
    from airflow.utils import db

    db.initdb()


@pytest.fixture(scope="session")
def read_dags(airflow_database):
    """Reads the DAG files, as the dag-processor does."""
    from airflow.dag_processing.dagbag import DagBag

    sys.path.insert(0, str(REPOSITORY / "dags"))

    def read():
        bag = DagBag(dag_folder=str(REPOSITORY / "dags"), bundle_path=REPOSITORY / "dags", bundle_name="dags-folder")
        assert bag.import_errors == {}
        return bag

    return read


@pytest.fixture(scope="session")
def dagbag(read_dags):
    return read_dags()


@pytest.fixture
def connected(services, quick_policy, monkeypatch):
    """The connections of the contract, pointing at this test's own database and bucket."""
    settings = services.settings
    database = urlsplit(settings.database_url)
    monkeypatch.setenv("AIRFLOW_CONN_SENTIMENT_DB", f"postgres://{database.netloc}{database.path}")
    s3 = f"aws://{quote(settings.s3_access_key_id, safe='')}:{quote(settings.s3_secret_access_key, safe='')}@/"
    monkeypatch.setenv(
        "AIRFLOW_CONN_REVIEWS_S3", f"{s3}?endpoint_url={quote(settings.s3_endpoint_url, safe='')}&region_name=us-east-1"
    )
    monkeypatch.setenv("SENTIMENT_BUCKET", settings.bucket)
    monkeypatch.setenv("SENTIMENT_MODEL_NAME", settings.model_name)
    monkeypatch.setenv("SENTIMENT_STATE_DIR", str(settings.state_dir))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri)
    monkeypatch.setenv("SENTIMENT_POLICY", str(quick_policy))
    for name in ("SENTIMENT_DATABASE_URL", "SENTIMENT_READER_URL"):
        monkeypatch.delenv(name, raising=False)
    return services


@pytest.fixture
def quick_to_retrain(connected, monkeypatch, tmp_path):
    """The services under a policy by which one night is enough to set off a retrain."""
    policy = tmp_path / "policy.toml"
    text = (REPOSITORY / "include" / "policy.toml").read_text(encoding="utf-8")
    assert 'mode = "evidence"' in text
    policy.write_text(text.replace('mode = "evidence"', 'mode = "threshold"'), encoding="utf-8")
    monkeypatch.setenv("SENTIMENT_POLICY", str(policy))
    return connected

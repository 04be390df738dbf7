"""Looks at everything the nights depend on, and says of each how to mend it.

Changes nothing. Every check stands alone: what one finds does not keep another from being made.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sentiment_core.errors import Permanent, SentimentError
from sentiment_core.local.airflow_api import AirflowApi
from sentiment_core.local.component import probe_http
from sentiment_core.local.stack import LocalStack
from sentiment_core.settings import Settings

DAGS = ("score_reviews", "retrain_model", "ingest_labels", "maintain")
CONNECTIONS = ("reviews_s3", "sentiment_db")
START = "run `make up`"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found out about one thing."""

    thing: str
    is_ok: bool
    found: str
    remedy: str = ""


def examine(stack: LocalStack, settings: Settings) -> Iterator[Finding]:
    """Check everything, one finding at a time, the quick ones first."""
    yield from _components(stack)
    yield _checked("PostgreSQL", lambda: _database(settings))
    yield _checked("analysts' login", lambda: _reader(settings))
    yield _checked("S3", lambda: _bucket(settings))
    api = stack.airflow.api()
    yield (airflow := _checked("Airflow", lambda: _airflow(api)))
    for thing, check in (
        ("Airflow's connections", _connections),
        ("DAG files", _import_errors),
        ("DAGs", _dags),
        ("plugins", _plugins),
    ):
        if airflow.is_ok:
            yield _checked(thing, lambda check=check: check(api))  # type: ignore[misc]
    yield _checked("MLflow and its models", lambda: _models(settings))


def _checked(thing: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(thing=thing, is_ok=True, found=check())
    except SentimentError as error:
        found = f"expected {error.expected}, found {error.found}"
        return Finding(thing=thing, is_ok=False, found=found, remedy=error.remedy)


def _components(stack: LocalStack) -> Iterator[Finding]:
    if not any(item.pid for item in stack.status()):
        yield Finding(thing="embedded stack", is_ok=False, found="not running", remedy=START)
        return
    for item in stack.status():
        found = f"runs, pid {item.pid}" if item.healthy else item.detail
        yield Finding(
            thing=f"component {item.component}",
            is_ok=item.healthy,
            found=found,
            remedy="" if item.healthy else f"{START}; if it does not stay up, see {stack.directory.log(item.component)}",
        )


def _database(settings: Settings) -> str:
    from sentiment_core.store.engine import connect
    from sentiment_core.store.migrate import latest_version, schema_version

    engine = connect(settings.database_url)
    try:
        version, latest = schema_version(engine), latest_version()
    finally:
        engine.dispose()
    if version < latest:
        raise Permanent(
            "schema", expected=f"version {latest}", found=f"version {version}", remedy=f"{START}, which brings it up to date"
        )
    if version > latest:
        raise Permanent(
            "schema", expected=f"version {latest}", found=f"version {version}", remedy="update this code, which is older"
        )
    return f"answers, schema version {version}"


def _reader(settings: Settings) -> str:
    from sqlalchemy import text

    from sentiment_core.store.engine import connect

    if settings.reader_url is None:
        raise Permanent("SENTIMENT_READER_URL", expected="an address", found="nothing", remedy=f"{START}, or set it")
    engine = connect(settings.reader_url, role=None)
    try:
        with engine.connect() as connection:
            n_rows = connection.execute(text("select count(*) from sentiment.scored_reviews")).scalar_one()
    finally:
        engine.dispose()
    return f"may read, {n_rows:,} scored reviews"


def _bucket(settings: Settings) -> str:
    from sentiment_core.reviews.bucket import connect

    first = next(iter(connect(settings).list("incoming/")), None)
    return f"bucket {settings.bucket} answers, " + ("has reviews" if first else "no reviews yet (`sentiment put`)")


def _airflow(api: AirflowApi) -> str:
    health = api.get("/api/v2/monitor/health")
    sick = [name for name, state in health.items() if state.get("status") not in ("healthy", None)]
    if sick:
        raise Permanent("Airflow", expected="all parts healthy", found=f"{', '.join(sick)} not", remedy=START)
    return f"healthy at {api.base_url}"


def _connections(api: AirflowApi) -> str:
    known = {item["connection_id"] for item in api.get("/api/v2/connections", limit=1000)["connections"]}
    missing = [name for name in CONNECTIONS if name not in known]
    if missing:
        raise Permanent(
            "connections",
            expected=" and ".join(CONNECTIONS),
            found=f"no {', '.join(missing)}",
            remedy="`make down up` makes them anew",
        )
    return " and ".join(CONNECTIONS) + " are there"


def _import_errors(api: AirflowApi) -> str:
    errors = api.import_errors()
    if errors:
        said = errors[0]["stack_trace"].strip().splitlines()[-1]
        raise Permanent(
            "DAG files",
            expected="no import error",
            found=f"{len(errors)}, in {errors[0]['filename']}: {said}",
            remedy="correct the file",
        )
    return "no import errors"


def _dags(api: AirflowApi) -> str:
    found = {item["dag_id"]: item["is_paused"] for item in api.get("/api/v2/dags", limit=1000)["dags"]}
    missing = [name for name in DAGS if name not in found]
    if missing:
        raise Permanent(
            "DAGs", expected=", ".join(DAGS), found=f"no {', '.join(missing)}", remedy="wait a minute; then see dags/"
        )
    paused = [name for name in DAGS if found[name]]
    return "all there" + (f"; paused: {', '.join(paused)}" if paused else "")


def _plugins(api: AirflowApi) -> str:
    errors = api.get("/api/v2/plugins/importErrors")["import_errors"]
    if errors:
        raise Permanent(
            "plugins", expected="no import error", found=f"{errors[0]['source']}: {errors[0]['error']}", remedy="correct it"
        )
    return "no import errors"


def _models(settings: Settings) -> str:
    uri = settings.mlflow_tracking_uri
    if uri.startswith("http") and "@" not in uri:  # MLflow's own client would try again for minutes
        missing = probe_http(f"{uri}/health", timeout_s=5)
        if missing is not None:
            raise Permanent("MLflow", expected=f"an answer at {uri}", found=missing, remedy=START)
    from sentiment_core.registry import Registry

    versions = Registry(uri, settings.model_name, settings.state_dir / "models").versions()
    champions = [version["version"] for version in versions if "champion" in version["aliases"]]
    if not versions:
        return "answers; no model yet (`make demo` or a run of retrain_model registers one)"
    if not champions:
        raise Permanent(
            f"model {settings.model_name}",
            expected="a version with the alias champion",
            found=f"{len(versions)} versions, none of them",
            remedy="run retrain_model, or give a version the alias in MLflow's UI",
        )
    return f"answers; champion is version {champions[0]} of {len(versions)}"

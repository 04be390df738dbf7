"""Where things are: addresses and credentials, as one frozen value passed explicitly.

Built from `SENTIMENT_*`, `MLFLOW_TRACKING_URI` and AWS's usual variables, or by `dags/wiring.py` from Airflow's
connections. Limits and thresholds are not settings: they live in include/policy.toml (`policy`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from sentiment_core.errors import Permanent

REPOSITORY = Path(__file__).resolve().parent.parent
LOCAL_DIR = REPOSITORY / ".local"

_VARIABLES = {
    "SENTIMENT_DATABASE_URL": "database_url",
    "SENTIMENT_READER_URL": "reader_url",
    "SENTIMENT_BUCKET": "bucket",
    "SENTIMENT_MODEL_NAME": "model_name",
    "SENTIMENT_STATE_DIR": "state_dir",
    "SENTIMENT_POLICY": "policy_path",
    "MLFLOW_TRACKING_URI": "mlflow_tracking_uri",
    "AWS_ENDPOINT_URL_S3": "s3_endpoint_url",
    "AWS_ENDPOINT_URL": "s3_endpoint_url",
    "AWS_ACCESS_KEY_ID": "s3_access_key_id",
    "AWS_SECRET_ACCESS_KEY": "s3_secret_access_key",
    "AWS_SESSION_TOKEN": "s3_session_token",
    "AWS_DEFAULT_REGION": "s3_region",
    "AWS_REGION": "s3_region",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a stage needs to know about its surroundings."""

    database_url: str = field(repr=False)
    """SQLAlchemy URL of the reviews database as the schema's owner, `postgresql+psycopg2://...`."""
    reader_url: str | None = field(default=None, repr=False)
    """The same database as `sentiment_reader`, for analysts and pages."""
    bucket: str = "reviews"
    s3_endpoint_url: str | None = None
    """None means AWS's own."""
    s3_access_key_id: str | None = field(default=None, repr=False)
    """None means boto3's default chain (profile, instance role, ...)."""
    s3_secret_access_key: str | None = field(default=None, repr=False)
    s3_session_token: str | None = field(default=None, repr=False)
    s3_region: str = "us-east-1"
    mlflow_tracking_uri: str = field(repr=False)
    """May carry a password, or MLFLOW_TRACKING_USERNAME and _PASSWORD may be set beside it."""
    model_name: str = "sentiment"
    state_dir: Path = LOCAL_DIR / "cache"
    """Cache of models by digest; may be deleted at any time."""
    policy_path: Path = REPOSITORY / "include" / "policy.toml"

    def __post_init__(self) -> None:
        for name in ("database_url", "reader_url"):
            url = getattr(self, name)
            if url and url.startswith(("postgresql://", "postgres://")):
                # With SQLAlchemy 2.1 a bare postgresql:// means psycopg 3, whose COPY is another API.
                object.__setattr__(self, name, "postgresql+psycopg2://" + url.split("://", 1)[1])
        for name in ("state_dir", "policy_path"):
            object.__setattr__(self, name, Path(getattr(self, name)))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Read the variables above; raises Permanent for an unknown `SENTIMENT_*` and for what is missing."""
        return cls(**_values(cls, environ))  # type: ignore[arg-type]  # paths are converted above


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """As much as is needed to ask a model: no address of a database and no key of a bucket, whoever has them around."""

    mlflow_tracking_uri: str = field(repr=False)
    model_name: str = Settings.model_name
    state_dir: Path = Settings.state_dir
    policy_path: Path = Settings.policy_path

    def __post_init__(self) -> None:
        for name in ("state_dir", "policy_path"):
            object.__setattr__(self, name, Path(getattr(self, name)))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "ModelSettings":
        """Read them out of the same variables as `Settings`; raises as that does."""
        return cls(**_values(cls, environ))  # type: ignore[arg-type]  # paths are converted above


def _values(cls: type[Settings | ModelSettings], environ: Mapping[str, str]) -> dict[str, str]:
    """What the environment says of the fields of a class."""
    unknown = sorted(name for name in environ if name.startswith("SENTIMENT_") and name not in _VARIABLES)
    if unknown:
        raise Permanent(
            f"environment variable {unknown[0]}",
            expected="one of " + ", ".join(name for name in _VARIABLES if name.startswith("SENTIMENT_")),
            found=unknown[0],
            remedy="unset or rename it",
        )
    known = {item.name for item in fields(cls)}
    values: dict[str, str] = {}
    for variable, name in _VARIABLES.items():
        if name in known and environ.get(variable):
            values.setdefault(name, environ[variable])
    required = known & {"database_url", "mlflow_tracking_uri"}
    for name in sorted(required - values.keys()):
        variable = next(key for key, value in _VARIABLES.items() if value == name)
        raise Permanent(
            f"setting {variable}",
            expected="an address",
            found="nothing",
            remedy=f"start the embedded stack with `make up`, or set {variable}",
        )
    return values

"""The servers and files a stage works with, opened on first use.

One value is passed to every stage. Nothing is opened when it is made, so that a step that needs only S3 does not
import MLflow.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sentiment_core.policy import Policy, read_policy
from sentiment_core.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from sentiment_core.registry import Registry
    from sentiment_core.reviews.bucket import Bucket


@dataclass(frozen=True)
class Services:
    """Settings, and everything reached through them."""

    settings: Settings
    s3_client: Any = None
    """A boto3 client made elsewhere (Airflow's connection); None: made from the settings."""

    @cached_property
    def policy(self) -> Policy:
        """include/policy.toml, checked."""
        return read_policy(self.settings.policy_path)

    @cached_property
    def engine(self) -> "Engine":
        """PostgreSQL as `sentiment_writer`."""
        from sentiment_core.store.engine import connect

        return connect(self.settings.database_url)

    @cached_property
    def bucket(self) -> "Bucket":
        """The bucket of the contract."""
        from sentiment_core.reviews.bucket import Bucket, connect

        return Bucket(self.s3_client, self.settings.bucket) if self.s3_client else connect(self.settings)

    @cached_property
    def registry(self) -> "Registry":
        """MLflow's registered model."""
        from sentiment_core.registry import Registry

        return Registry(self.settings.mlflow_tracking_uri, self.settings.model_name, self.settings.state_dir / "models")

"""A place for histories over the session's servers, and for what is tested about scoring again."""

import pytest

from sentiment_core.settings import Settings
from tests.histories.place import Place


@pytest.fixture
def place(database_url, bucket_name, s3_server, tmp_path):
    place = Place.at(
        Settings(
            database_url=database_url,
            bucket=bucket_name,
            s3_endpoint_url=s3_server.endpoint_url,
            s3_access_key_id=s3_server.access_key_id,
            s3_secret_access_key=s3_server.secret_access_key,
            mlflow_tracking_uri="http://127.0.0.1:9",  # nobody is there: the place has a registry of its own
            state_dir=tmp_path,
        )
    )
    yield place
    place.close()

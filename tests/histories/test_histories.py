"""After every history the relations equal those of a model written from the design. `make soak` runs more of them."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sentiment_core.settings import Settings
from tests.histories.machine import Histories
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


def test_after_every_history_the_relations_are_those_of_the_model(place):
    machine = type("HistoriesHere", (Histories,), {"place": place})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100, stateful_step_count=20, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        ),
    )
    assert machine.n_histories >= 100
    assert machine.n_cuts > 0

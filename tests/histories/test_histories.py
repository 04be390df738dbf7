"""After every history the relations equal those of a model written from the design. `make soak` runs more of them."""

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.histories.machine import Histories


def test_after_every_history_the_relations_are_those_of_the_model(place):
    machine = type("HistoriesHere", (Histories,), {"place": place})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100, stateful_step_count=15, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        ),
    )
    assert machine.n_histories >= 100
    assert machine.n_cuts > 0

"""How tests are shared out among workers when several run them (`-n`): here alone is said what may not run beside what.

A file is run by one worker, so that what it sets up is set up once. The files of one folder or name below share something
that takes long to start: a whole stack, an Airflow, its pages. They are one worker's too, and the longest of them come first.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from sentiment_core.pipeline import n_cores

# In the order of what they take. That two whole stacks never start at once, with a dozen processes each, is kept here.
TOGETHER = ("tests/e2e/", "tests/integration/test_plugin_", "tests/dags/")
# The stack of the end-to-end tests is one worker's for half of the time: a fifth would find nothing to do.
MOST_WORKERS = 4


def unit_of(node_id: str) -> str:
    """What is run as a whole by the worker that runs this test.

    >>> unit_of("tests/e2e/test_nights.py::test_a_night"), unit_of("tests/unit/test_nights.py::test_a_night[1]")
    ('tests/e2e/', 'tests/unit/test_nights.py')
    """
    return next((name for name in TOGETHER if node_id.startswith(name)), node_id.partition("::")[0])


class ByUnit(LoadScopeScheduling):
    """Hands out units in the order in which the tests were collected."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByUnit:
    return ByUnit(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one worker more than there are cores, since that of the end-to-end tests waits for most of its time."""
    return min(n_cores() + 1, MOST_WORKERS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest first, so that nobody waits for it at the end; the order of one worker alone is the usual."""
    if hasattr(config, "workerinput"):
        ranks = {name: rank for rank, name in enumerate(TOGETHER)}
        items.sort(key=lambda item: ranks.get(unit_of(item.nodeid), len(TOGETHER)))

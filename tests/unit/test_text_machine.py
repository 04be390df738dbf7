"""What is chosen by processor."""

import pytest

from sentiment_core.text import machine


def told(name):
    def host():
        if name is None:
            raise RuntimeError("unknown processor")
        return name

    return host


@pytest.mark.parametrize(
    ("name", "nearness"), [("znver5", 0), ("znver3", 0), ("sapphirerapids", 3), ("rocketlake", 3), ("apple-m1", 3), (None, 3)]
)
def test_lines_stay_out_of_the_second_cache_on_amds_processors_alone(monkeypatch, name, nearness):
    monkeypatch.setattr(machine.binding, "get_host_cpu_name", told(name))
    assert machine._nearness() == nearness

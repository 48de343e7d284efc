"""What recording costs: the arithmetic, and that the other server really records nothing."""

import os
import subprocess
import sys

import pytest

from benchmarks.metrics_cost import UNMEASURED, Run, cpu_cost, throughput_cost


def test_costs_are_medians_over_runs_taken_together() -> None:
    recording = [Run(95, 105), Run(48, 210), Run(1, 1000)]
    silent = [Run(100, 100), Run(50, 200), Run(100, 10)]
    assert throughput_cost(recording, silent) == pytest.approx(0.05)
    assert cpu_cost(recording, silent) == pytest.approx(1 - 100 / 105)


@pytest.mark.parametrize("silent", [True, False])
def test_the_server_without_metrics_records_nothing(silent: bool) -> None:
    code = (
        "from service.metrics import Metrics; m = Metrics(); "
        "m.model('cars').answered('/', 0.1, 0.1, 0.1, 0.1); print(b'code=\"200\"' in m.render()[0])"
    )
    environment = os.environ | ({"PYTHONPATH": str(UNMEASURED)} if silent else {})
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{not silent}\n"

"""Of what several workers say one value is shown: the one that somebody should know of."""

from pathlib import Path

import prometheus_client  # noqa: F401 - before the folder is named: it decides at its import
import pytest

from service.metrics import Metrics
from service.number_files import replace_file


@pytest.fixture
def metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """Of a worker beside others."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return Metrics()


def test_one_worker_that_cannot_follow_the_store_is_told_of_whatever_the_others_can(
    metrics: Metrics, tmp_path: Path
) -> None:
    gauge = metrics.store_reachable
    for process, followed in enumerate((b"1.0", b"0.0", b"1.0")):
        replace_file(tmp_path / f"present_{gauge.name}_{process}.json", b"[[" + followed + b"]]")
    assert gauge.everywhere() == {(): 0.0}


def test_of_how_bad_something_is_the_worst_that_a_worker_says_is_shown(metrics: Metrics, tmp_path: Path) -> None:
    gauge = metrics.drift_state
    for process, state in enumerate((b"0", b"2", b"1")):
        replace_file(tmp_path / f"present_{gauge.name}_{process}.json", b'[["cars", "production", ' + state + b"]]")
    assert gauge.everywhere() == {("cars", "production"): 2.0}

"""The state of a worker process and of GPUs, in its metrics."""

import logging
import time
from types import SimpleNamespace

import pytest

from service.metrics import Metrics
from service.vitals import Gpus, Vitals
from tests.service.test_metrics import rendered


def test_a_worker_shows_its_memory_descriptors_start_and_cpu_time_under_its_number() -> None:
    metrics = Metrics()
    vitals = Vitals(metrics.vitals, "2")
    vitals.measure(0.001)
    found = rendered(metrics)
    assert found['serving_worker_rss_bytes{worker="2"}'] > 10e6
    assert found['serving_worker_open_fds{worker="2"}'] >= 3
    assert found['serving_worker_start_time_seconds{worker="2"}'] == pytest.approx(time.time(), abs=300)
    assert found['serving_worker_cpu_seconds_total{worker="2"}'] > 0


def test_a_long_lag_of_the_event_loop_is_shown_until_most_scrapes_have_seen_it() -> None:
    metrics = Metrics()
    vitals = Vitals(metrics.vitals, "1")
    vitals.measure(0.75)
    for _ in range(29):
        vitals.measure(-0.001)
    assert rendered(metrics)['serving_event_loop_lag_seconds{worker="1"}'] == 0.75
    vitals.measure(-0.001)
    assert rendered(metrics)['serving_event_loop_lag_seconds{worker="1"}'] == 0


class FakeNvml:
    """Stands for pynvml on a machine with two GPUs, of which the second one fails when ``broken``."""

    class NVMLError(Exception):
        pass

    broken = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        if self.broken and handle == 1:
            raise self.NVMLError("GPU is lost")
        return SimpleNamespace(gpu=25 * (handle + 1))

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=1000 + handle, total=4000)


def test_each_gpu_shows_its_utilisation_and_memory() -> None:
    metrics = Metrics()
    Vitals(metrics.vitals, "1", Gpus(FakeNvml())).measure(0)
    found = rendered(metrics)
    assert found['serving_gpu_utilization_ratio{gpu="0"}'] == 0.25
    assert found['serving_gpu_utilization_ratio{gpu="1"}'] == 0.5
    assert found['serving_gpu_memory_used_bytes{gpu="1"}'] == 1001
    assert found['serving_gpu_memory_total_bytes{gpu="1"}'] == 4000


def test_a_gpu_that_fails_is_said_once_and_hurts_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = FakeNvml()
    gpus = Gpus(library)
    library.broken = True
    metrics = Metrics()
    # Importing the service elsewhere may have kept its loggers' records from the root, where they are captured.
    monkeypatch.setattr(logging.getLogger("service"), "propagate", True)
    for _ in range(3):
        gpus.measure(metrics.vitals)
    assert caplog.text.count("GPU is lost") == 1
    assert rendered(metrics)['serving_gpu_utilization_ratio{gpu="0"}'] == 0.25

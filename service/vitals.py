"""The state of a worker process, and of the machine's GPUs where there are any.

prometheus_client's own process metrics do not exist in multiprocess mode. Each metric here is labelled with the
worker's number, which the worker in the place of a killed one gets again: the number of series is bounded.
"""

import logging
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

# The lag that is shown is the largest of so many measurements: they span more than the interval of most scrapes.
_LAGS = 30
# Everything but the lag is measured each so many times: counting the descriptors of a thousand connections takes long.
_SELDOM = 10


class VitalMetrics:
    """What is shown of the worker processes and the GPUs.

    Args:
        client: The module ``prometheus_client``, which decides at its import where numbers are kept.
        options: Of every metric: namespace and registry.
    """

    def __init__(self, client: Any, options: dict[str, Any]) -> None:
        # By number of the worker; the worker in the place of a killed one takes its number over.
        own: dict[str, Any] = {"labelnames": ["worker"], **options}
        recent: dict[str, Any] = {"multiprocess_mode": "livemostrecent", **own}
        self.rss_bytes = client.Gauge("worker_rss_bytes", "Resident memory of a worker process.", **recent)
        self.open_fds = client.Gauge("worker_open_fds", "Open file descriptors of a worker process.", **recent)
        self.start_time = client.Gauge(
            "worker_start_time_seconds", "Start of a worker process, since the epoch.", **recent
        )
        self.loop_lag = client.Gauge(
            "event_loop_lag_seconds", "Longest lateness of a timer of the event loop in the last 15 seconds.", **recent
        )
        self.cpu_seconds = client.Counter("worker_cpu_seconds", "CPU time of a worker process, user and system.", **own)
        gpu: dict[str, Any] = {"labelnames": ["gpu"], "multiprocess_mode": "livemostrecent", **options}
        self.gpu_utilization = client.Gauge(
            "gpu_utilization_ratio",
            "Share of time in which a kernel ran on the GPU; no series without an NVIDIA GPU.",
            **gpu,
        )
        self.gpu_memory_used = client.Gauge("gpu_memory_used_bytes", "GPU memory in use, by whoever uses it.", **gpu)
        self.gpu_memory_total = client.Gauge("gpu_memory_total_bytes", "Memory of the GPU.", **gpu)


class Vitals:
    """Measures this process; `worker` is its number.

    Args:
        metrics: Where the measurements go.
        worker: Number of this worker, from 1.
        gpus: The GPUs of the machine.
    """

    def __init__(self, metrics: VitalMetrics, worker: str, gpus: "Gpus | None" = None) -> None:
        self._metrics, self.worker = metrics, worker
        self._gpus = gpus
        self._lags: deque[float] = deque(maxlen=_LAGS)
        self._cpu_s = 0.0
        self._turn = 0
        self._page = os.sysconf("SC_PAGE_SIZE")
        metrics.start_time.labels(worker).set(time.time())

    def measure(self, lag_s: float) -> None:
        """Bring the metrics up to date.

        Args:
            lag_s: By how much a timer of the event loop was late just now. Seconds.
        """
        self._lags.append(max(lag_s, 0.0))
        self._metrics.loop_lag.labels(self.worker).set(max(self._lags))
        self._turn += 1
        if self._turn % _SELDOM == 1:
            self._measure_seldom()

    def _measure_seldom(self) -> None:
        metrics, worker = self._metrics, self.worker
        resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
        metrics.rss_bytes.labels(worker).set(resident_pages * self._page)
        metrics.open_fds.labels(worker).set(sum(1 for _ in os.scandir("/proc/self/fd")))
        times = os.times()
        cpu_s = times.user + times.system
        metrics.cpu_seconds.labels(worker).inc(max(0.0, cpu_s - self._cpu_s))
        self._cpu_s = cpu_s
        if self._gpus is not None:
            self._gpus.measure(metrics)


class Gpus:
    """What the driver says of the machine's NVIDIA GPUs, whoever uses them.

    Args:
        library: The module ``pynvml``, initialised.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        count = library.nvmlDeviceGetCount()
        self._handles = [library.nvmlDeviceGetHandleByIndex(i) for i in range(count)]

    @classmethod
    def find(cls) -> "Gpus | None":
        """Those of this machine, or None: no GPU, no driver, or no library."""
        if not Path("/proc/driver/nvidia").exists():
            return None
        try:
            import pynvml

            pynvml.nvmlInit()
            return cls(pynvml)
        except Exception as error:  # A driver that does not answer must not keep the service from serving.
            logger.warning("the GPUs are not measured: %s", error)
            return None

    def measure(self, metrics: VitalMetrics) -> None:
        """Utilisation (0 to 1) and memory (bytes) of each."""
        for index, handle in enumerate(self._handles):
            try:
                used = self._library.nvmlDeviceGetUtilizationRates(handle).gpu / 100
                memory = self._library.nvmlDeviceGetMemoryInfo(handle)
            except self._library.NVMLError as error:
                logger.warning("GPU %d is not measured any more: %s", index, error)
                self._handles = []
                return
            metrics.gpu_utilization.labels(str(index)).set(used)
            metrics.gpu_memory_used.labels(str(index)).set(memory.used)
            metrics.gpu_memory_total.labels(str(index)).set(memory.total)

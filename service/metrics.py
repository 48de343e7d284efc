"""Every metric, declared once, in prometheus_client's multiprocess mode: right over several workers.

Observing a prometheus_client histogram costs about 3 microseconds in that mode, and a prediction makes five
observations, which would be a fifth of its whole time. So a request appends to a plain list, and the lists are counted
into the histograms in bulk, several times a second and before each scrape.
"""

import os
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Buckets in seconds, as agreed for every latency here; sizes in rows.
SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.010, 0.015, 0.025, 0.050, 0.100, 0.250, 1.0)
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, *SECONDS)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
STAGES = ("decode", "queue", "infer", "encode")
UNMATCHED = "unmatched"
SHADOW_RESULTS = ("agreed", "differed", "failed", "shed")


class _BulkHistogram:
    """One labelled histogram that takes many observations at once.

    Reaches into prometheus_client's `Histogram`, which has no public way to add a count to a bucket;
    tests/service/test_metrics.py compares it with `observe`.
    """

    def __init__(self, histogram: Any) -> None:
        self._bounds: list[float] = histogram._upper_bounds
        self._buckets: list[Any] = histogram._buckets
        self._sum: Any = histogram._sum

    def observe(self, values: Iterable[float]) -> None:
        tally: Tally[int] = Tally()
        total = 0.0
        for value in values:
            tally[bisect_left(self._bounds, value)] += 1
            total += value
        for bucket, count in tally.items():
            self._buckets[bucket].inc(count)
        if total:
            self._sum.inc(total)


class ModelMetrics:
    """What the requests and batches of one model's version are recorded into.

    Args:
        metrics: All of them.
        model: Name.
        role: What the version is for now: production, candidate or label. No version, so that the number of series is
            bounded.
    """

    def __init__(self, metrics: "Metrics", model: str, role: str) -> None:
        self._requests = metrics.requests
        self._duration = metrics.duration
        self._durations: dict[str, _BulkHistogram] = {}
        self._model, self._role = model, role
        self._stages = {stage: _BulkHistogram(metrics.stage.labels(model, role, stage)) for stage in STAGES}
        self._batch = _BulkHistogram(metrics.batch_size.labels(model))
        self._predictions = metrics.predictions.labels(model)
        self._answered: list[tuple[str, float, float, float, float]] = []
        self._refused: list[tuple[str, int, float]] = []
        self._batches: list[tuple[int, float]] = []

    def answered(self, route: str, total: float, decode: float, queue: float, encode: float) -> None:
        """Record a prediction that was answered; all in seconds."""
        self._answered.append((route, total, decode, queue, encode))

    def refused(self, route: str, status: int, total: float) -> None:
        """Record a request that got an error; ``total`` in seconds."""
        self._refused.append((route, status, total))

    def batch(self, rows: int, seconds: float) -> None:
        """Record a batch and the engine's time for it."""
        self._batches.append((rows, seconds))

    def flush(self) -> None:
        """Count what was recorded into the metrics."""
        answered, self._answered = self._answered, []
        batches, self._batches = self._batches, []
        refused, self._refused = self._refused, []
        codes: Tally[tuple[str, int]] = Tally()
        totals: dict[str, list[float]] = {}
        for route, total, *_ in answered:
            codes[route, 200] += 1
            totals.setdefault(route, []).append(total)
        for route, status, total in refused:
            codes[route, status] += 1
            totals.setdefault(route, []).append(total)
        for route, seconds in totals.items():
            if route not in self._durations:
                self._durations[route] = _BulkHistogram(self._duration.labels(route, self._model, self._role))
            self._durations[route].observe(seconds)
        for (route, code), count in codes.items():
            self._requests.labels(route, self._model, self._role, str(code)).inc(count)
        if answered:
            _, _, decode, queue, encode = zip(*answered, strict=True)
            self._stages["decode"].observe(decode)
            self._stages["queue"].observe(queue)
            self._stages["encode"].observe(encode)
        if batches:
            rows, times = zip(*batches, strict=True)
            self._batch.observe(rows)
            self._stages["infer"].observe(times)
            self._predictions.inc(sum(rows))


class Metrics:
    """The metrics of this worker process, and the sum over all workers for a scrape.

    Create it in the worker, after the multiprocess directory is set: prometheus_client decides at its import.
    """

    def __init__(self) -> None:
        import prometheus_client as client

        self._client = client
        self._directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        # Outside of a server (in tests) there is no directory, and a registry of its own lets several coexist.
        self._registry = client.CollectorRegistry()
        self._forget_dead_workers()
        options: dict[str, Any] = {"namespace": "serving", "registry": self._registry}
        self.requests = client.Counter(
            "requests", "HTTP requests answered.", ["route", "model", "alias", "code"], **options
        )
        self.duration = client.Histogram(
            "request_duration_seconds",
            "Time from request line to answer.",
            ["route", "model", "alias"],
            buckets=SECONDS,
            **options,
        )
        self.stage = client.Histogram(
            "stage_duration_seconds",
            "Time in one stage: decode, queue and encode of a request, infer of a batch.",
            ["model", "alias", "stage"],
            buckets=STAGE_SECONDS,
            **options,
        )
        self.batch_size = client.Histogram("batch_size", "Rows in a batch.", ["model"], buckets=ROWS, **options)
        self.predictions = client.Counter("predictions", "Rows predicted.", ["model"], **options)
        self.rejected = client.Counter("rejected", "Requests refused, by reason.", ["reason"], **options)
        self.disconnects = client.Counter("client_disconnects", "Clients that left before their answer.", **options)
        self.inflight = client.Gauge("inflight", "Predictions being worked on.", multiprocess_mode="livesum", **options)
        self.queue_depth = client.Gauge(
            "queue_depth", "Rows waiting for an engine.", ["model"], multiprocess_mode="livesum", **options
        )
        self.model_info = client.Gauge(
            "model_info",
            "1 for what is loaded, 0 for what was.",
            ["model", "version", "alias", "engine", "device"],
            multiprocess_mode="livemax",
            **options,
        )
        self.reloads = client.Counter("model_reloads", "Loads of a version.", ["model", "result"], **options)
        self.load_seconds = client.Gauge(
            "model_load_seconds", "Duration of the last load.", ["model"], multiprocess_mode="livemax", **options
        )
        self.canary_failures = client.Counter(
            "canary_failures", "Requests that the candidate failed and production answered.", ["model"], **options
        )
        self.canary_rollbacks = client.Counter(
            "canary_rollbacks", "Canaries ended because of their error rate or p99.", ["model"], **options
        )
        # Gauges, which can begin anew with another candidate, and go with the worker that dies.
        live: dict[str, Any] = {"multiprocess_mode": "livesum", **options}
        self.shadow_rows = client.Gauge(
            "shadow_rows", "Rows given to the present candidate, by what became of them.", ["model", "result"], **live
        )
        self.shadow_batches = client.Gauge("shadow_batches", "Batches compared.", ["model"], **live)
        self.shadow_seconds = client.Gauge(
            "shadow_seconds", "Engine time of the batches compared.", ["model", "alias"], **live
        )
        self.shadow_distance = client.Gauge(
            "shadow_distance", "Mean absolute difference of outputs, summed over rows.", ["model"], **live
        )
        self.shadow_distance_max = client.Gauge(
            "shadow_distance_max",
            "Largest absolute difference of outputs.",
            ["model"],
            multiprocess_mode="livemax",
            **options,
        )
        self._models: dict[tuple[str, str], ModelMetrics] = {}

    def model(self, name: str, role: str = "production") -> ModelMetrics:
        """The recorder of one model's version in a role; the same one at each call."""
        if (name, role) not in self._models:
            self._models[name, role] = ModelMetrics(self, name, role)
        return self._models[name, role]

    def other(self, route: str, status: int, seconds: float) -> None:
        """Record a request to a route that belongs to no loaded model."""
        self.requests.labels(route, "", "", str(status)).inc()
        self.duration.labels(route, "", "").observe(seconds)

    def flush(self) -> None:
        """Count everything recorded by this worker."""
        for model in self._models.values():
            model.flush()

    def render(self) -> tuple[bytes, str]:
        """The exposition of all workers and its content type."""
        self.flush()
        return self._client.generate_latest(self._all_workers()), self._client.CONTENT_TYPE_LATEST

    def shadow(self, model: str) -> dict[str, float]:
        """What shadowing of ``model`` has measured in all workers: name, then the value of its other label -> value."""
        found = {}
        for family in self._all_workers().collect():
            if family.name.startswith("serving_shadow_"):
                for sample in family.samples:
                    if sample.labels.get("model") == model:
                        kind = sample.labels.get("result") or sample.labels.get("alias")
                        name = family.name.removeprefix("serving_shadow_")
                        found[f"{name}_{kind}" if kind else name] = float(sample.value)
        return found

    def _all_workers(self) -> Any:
        """A registry that collects from every worker."""
        if not self._directory:
            return self._registry
        from prometheus_client import multiprocess

        registry = self._client.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry

    def _forget_dead_workers(self) -> None:
        """Drop the live gauges of workers that were killed: they would be summed for ever."""
        if not self._directory:
            return
        from prometheus_client import multiprocess

        for file in Path(self._directory).glob("gauge_live*_*.db"):
            pid = int(file.stem.rpartition("_")[2])
            if not Path(f"/proc/{pid}").exists():
                multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]

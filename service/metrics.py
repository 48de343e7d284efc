"""Every metric, declared once, in prometheus_client's multiprocess mode: right over several workers."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.dead_workers import tidy_up, undisturbed
from service.errors import NotReadyError
from service.number_files import NumberFiles
from service.objective import LATENCIES_S, Objective
from service.present import PresentGauge
from service.profile import Profile
from service.recorder import ClassCounts, ModelMetrics
from service.vitals import VitalMetrics

# Buckets in seconds, as agreed for every latency here; sizes in rows.
SECONDS = LATENCIES_S
STAGE_SECONDS = (0.00005, 0.0001, 0.00025, *SECONDS)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
UNMATCHED = "unmatched"
RELOAD_RESULTS = ("success", "failure")
SHADOW_RESULTS = ("agreed", "differed", "failed", "shed")


class Metrics:
    """The metrics of this worker process, and the sum over all workers for a scrape.

    Create it in the worker, after the multiprocess directory is set: prometheus_client decides at its import.
    """

    def __init__(self) -> None:
        import prometheus_client as client

        self._client = client
        directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self._directory = Path(directory) if directory else None
        self.files = NumberFiles.installed()
        # Outside of a server (in tests) there is no directory, and a registry of its own lets several coexist.
        self._registry = client.CollectorRegistry()
        self._present: list[PresentGauge] = []
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
        self.predictions = client.Counter(
            "predictions",
            "Rows predicted, by most probable class: the first 20, then other; empty for values.",
            ["model", "class"],
            **options,
        )
        self.confidence = client.Histogram(
            "confidence", "Probability of the most probable class.", ["model", "alias"], buckets=SHARES, **options
        )
        self.rejected = client.Counter(
            "rejected",
            "Requests refused: invalid, too_large, queue_full, not_ready, unauthorized, deadline.",
            ["reason"],
            **options,
        )
        self.disconnects = client.Counter("client_disconnects", "Clients that left before their answer.", **options)
        self.inflight = client.Gauge("inflight", "Predictions being worked on.", multiprocess_mode="livesum", **options)
        self.queue_depth = client.Gauge(
            "queue_depth", "Rows waiting for an engine.", ["model"], multiprocess_mode="livesum", **options
        )
        self.model_info = self._present_gauge(
            "model_info", "1 for each version that is loaded.", ["model", "version", "alias", "engine", "device"]
        )
        self.objective_latency = self._present_gauge(
            "objective_latency_seconds",
            "Time within which the objective's share of requests is to be answered; le as in the histogram's buckets.",
            ["model", "le"],
        )
        self.objective_success = self._present_gauge(
            "objective_success_ratio", "Share of requests that is to succeed, and to be answered in time.", ["model"]
        )
        self.batch_latency = self._present_gauge(
            "batch_latency_seconds",
            "Least engine time of a batch of so many rows, measured at warm-up.",
            ["model", "rows"],
        )
        self.batch_limit = self._present_gauge(
            "batch_limit_rows", "Largest batch, as the latency curve says.", ["model"]
        )
        self.batch_inline = self._present_gauge(
            "batch_inline_rows", "Largest batch that runs on the event loop; 0 for none.", ["model"]
        )
        self.reloads = client.Counter(
            "model_reloads", "Loads of a version, by whether they succeeded.", ["model", "result"], **options
        )
        self.store_reachable = self._present_gauge(
            "store_reachable",
            "1 while every worker can follow the store, 0 while what one of them serves stays as it is.",
            [],
            shown=min,
        )
        self.store_revision = self._present_gauge(
            "store_revision",
            "Revision of the alias document that all workers have seen; by alias: of which all have its version.",
            ["model", "alias"],
            shown=min,
        )
        self.load_seconds = client.Gauge(
            "model_load_seconds", "Duration of the latest load.", ["model"], multiprocess_mode="livemax", **options
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
            "shadow_rows",
            "Rows given to the present candidate: agreed, differed, failed, shed.",
            ["model", "result"],
            **live,
        )
        self.shadow_batches = client.Gauge("shadow_batches", "Batches that a shadow compared.", ["model"], **live)
        self.shadow_seconds = client.Gauge(
            "shadow_seconds", "Engine time of the batches that a shadow compared.", ["model", "alias"], **live
        )
        self.shadow_distance = client.Gauge(
            "shadow_distance",
            "Mean absolute difference of the candidate's outputs from production's, summed over rows.",
            ["model"],
            **live,
        )
        self.shadow_distance_max = client.Gauge(
            "shadow_distance_max",
            "Largest absolute difference of the candidate's outputs from production's.",
            ["model"],
            multiprocess_mode="livemax",
            **options,
        )
        self._declare_drift(options)
        self._declare_answered(options)
        self.vitals = VitalMetrics(client, options)
        self._models: dict[tuple[str, str], ModelMetrics] = {}
        self._classes: dict[str, ClassCounts] = {}

    def _present_gauge(
        self, name: str, text: str, labels: list[str], shown: Callable[[float, float], float] = max
    ) -> PresentGauge:
        gauge = PresentGauge(f"serving_{name}", text, labels, self._directory, shown)
        self._registry.register(gauge)
        self._present.append(gauge)
        return gauge

    def _declare_drift(self, options: dict[str, Any]) -> None:
        client = self._client
        psi = "Population stability index of what goes in against training, less chance's part; the worst worker's."
        labels = ["model", "alias", "feature"]
        self.input_psi = self._present_gauge("input_psi", psi, labels)
        self.prediction_psi = self._present_gauge("prediction_psi", psi.replace("goes in", "comes out"), labels)
        self.drift_state = self._present_gauge(
            "drift_state",
            "0 none, 1 moderate, 2 major, the worst worker's; absent before there are enough rows.",
            ["model", "alias"],
        )
        self.drift_rows = client.Counter(
            "drift_rows", "Rows that were compared with the training's.", ["model"], **options
        )
        by = ["model", "feature", "by"]
        self.out_of_range = client.Counter(
            "input_out_of_range",
            "Numbers beyond a range: schema (the request was refused) or training (of the rows compared).",
            by,
            **options,
        )
        self.unseen_category = client.Counter(
            "input_unseen_category",
            "Categories that the schema lacks (the request was refused) or training (of the rows compared).",
            by,
            **options,
        )

    def _declare_answered(self, options: dict[str, Any]) -> None:
        client = self._client
        self.captured = client.Counter(
            "captured_rows",
            "Rows written to capture files, or dropped because too many came.",
            ["model", "result"],
            **options,
        )
        self.feedback = client.Counter(
            "feedback",
            "Answers of which the truth was told: right, wrong; of values, inside or outside of their interval.",
            ["model", "alias", "outcome"],
            **options,
        )
        self.feedback_error = client.Counter(
            "feedback_absolute_error", "Sum of absolute errors, in the model's unit.", ["model", "alias"], **options
        )

    def model(self, name: str, role: str = "production") -> ModelMetrics:
        """The recorder of one model's version in a role; the same one at each call."""
        if (name, role) not in self._models:
            if name not in self._classes:
                self._classes[name] = ClassCounts(self.predictions, name)
                self.canary_rollbacks.labels(name)
                for result in RELOAD_RESULTS:
                    # From 0 on, so that the first failure is an increase.
                    self.reloads.labels(name, result)
            self._models[name, role] = ModelMetrics(self, name, role, self._classes[name])
        return self._models[name, role]

    def objectives(self, objectives: Mapping[str, Objective]) -> None:
        """Show these: model -> its objective."""
        # `repr` is how prometheus_client writes the bounds of buckets as small as these.
        bounds = {name: objective.latency_ms / 1000 for name, objective in objectives.items()}
        self.objective_latency.replace({(name, repr(s)): s for name, s in bounds.items()})
        self.objective_success.replace({(name,): one.success_ratio for name, one in objectives.items()})

    def profiles(self, profiles: Mapping[str, tuple[Profile, int]]) -> None:
        """Show these: model -> what was measured of the version that answers, and the largest batch on the loop."""
        curves = {name: one.latency_ms.items() for name, (one, _) in profiles.items()}
        self.batch_latency.replace({(name, str(rows)): ms / 1000 for name, c in curves.items() for rows, ms in c})
        self.batch_limit.replace({(name,): one.batch_rows for name, (one, _) in profiles.items()})
        self.batch_inline.replace({(name,): rows for name, (_, rows) in profiles.items()})

    def other(self, route: str, status: int, seconds: float) -> None:
        """Record a request to a route that belongs to no loaded model."""
        self.requests.labels(route, "", "", str(status)).inc()
        self.duration.labels(route, "", "").observe(seconds)

    def flush(self) -> None:
        """Count everything recorded by this worker; on the event loop."""
        for model in self._models.values():
            model.flush()

    def save(self) -> None:
        """Let the other workers see what was counted; writes files, so call it in a thread."""
        self.files.save(*(gauge.save for gauge in self._present))

    def render(self) -> tuple[bytes, str]:
        """The exposition of all workers and its content type, with what was recorded up to now."""
        self.flush()
        return self.expose()

    def expose(self) -> tuple[bytes, str]:
        """The same without what is not flushed yet; takes tens of milliseconds, so call it in a thread.

        Raises:
            NotReadyError: The files of the workers can be neither written nor read: numbers would be wrong.
        """
        self.save()
        if self.files.stale:
            raise NotReadyError(f"The {self.files.problem}")
        with self._all_workers() as registry:
            return self._client.generate_latest(registry), self._client.CONTENT_TYPE_LATEST

    def shadow(self, model: str) -> dict[str, float]:
        """What shadowing of ``model`` has measured in all workers: name, then the value of its other label -> value."""
        found = {}
        with self._all_workers() as registry:
            families = list(registry.collect())
        for family in families:
            if family.name.startswith("serving_shadow_"):
                for sample in family.samples:
                    if sample.labels.get("model") == model:
                        kind = sample.labels.get("result") or sample.labels.get("alias")
                        name = family.name.removeprefix("serving_shadow_")
                        found[f"{name}_{kind}" if kind else name] = float(sample.value)
        return found

    @contextmanager
    def _all_workers(self) -> Iterator[Any]:
        """A registry that collects from every worker; to be collected from before the block is left."""
        if self._directory is None:
            yield self._registry
            return
        from prometheus_client import multiprocess

        tidy_up(self._directory)
        registry = self._client.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        for gauge in self._present:
            registry.register(gauge)
        with undisturbed(self._directory):
            yield registry

"""What the requests and batches of one model are recorded into: plain lists first, the metrics in bulk.

Observing a prometheus_client histogram costs about 3 microseconds in multiprocess mode, and a prediction makes five
observations, which would be a fifth of its whole time. So a request appends to a list, and the lists are counted into
the metrics together: when they are full, twice a second, and before each scrape.
"""

from collections import Counter as Tally
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.task import Classes, Task

if TYPE_CHECKING:
    from service.metrics import Metrics

STAGES = ("decode", "queue", "infer", "encode")
FAILURES = (429, 500, 503, 504)
"""Status codes that use up an objective's budget."""
MAX_CLASSES = 20
OTHER = "other"
# Counting that many takes about a fifth of a millisecond, for which the event loop stands still.
_FULL = 512


class BulkHistogram:
    """One labelled histogram that takes many observations at once.

    Reaches into prometheus_client's `Histogram`, which has no public way to add a count to a bucket;
    tests/service/test_metrics.py compares it with `observe`.
    """

    def __init__(self, histogram: Any) -> None:
        self._bounds = np.asarray(histogram._upper_bounds)
        self._buckets: list[Any] = histogram._buckets
        self._sum: Any = histogram._sum

    def observe(self, values: ArrayLike) -> None:
        """Count ``values``, in the histogram's unit."""
        numbers = np.asarray(values, dtype=np.float64)
        counts = np.bincount(self._bounds.searchsorted(numbers), minlength=len(self._buckets))
        for bucket in counts.nonzero()[0]:
            self._buckets[bucket].inc(int(counts[bucket]))
        if total := float(numbers.sum()):
            self._sum.inc(total)


class ClassCounts:
    """Predictions of one model by class; 20 classes have a name in the metrics, all further ones are ``other``.

    Args:
        counter: The metric, with the labels model and class.
        model: Name.
    """

    def __init__(self, counter: Any, model: str) -> None:
        self._counter, self._model = counter, model
        self._named: dict[str, Any] = {}

    def add(self, task: Task, outputs: NDArray[np.float32]) -> None:
        """Count the rows of ``outputs``, shape ``(n, *output_shape)``; without classes under an empty one."""
        if not isinstance(task, Classes):
            self._of("").inc(len(outputs))
            return
        counts = np.bincount(outputs.argmax(axis=-1), minlength=len(task.labels))
        for index in counts.nonzero()[0]:
            # By place, so that every worker names the same ones.
            self._of(task.labels[index] if index < MAX_CLASSES else OTHER).inc(int(counts[index]))

    def _of(self, label: str) -> Any:
        if label not in self._named and len(self._named) >= MAX_CLASSES:
            # Versions with other labels came and went.
            label = OTHER
        if label not in self._named:
            self._named[label] = self._counter.labels(self._model, label)
        return self._named[label]


class ModelMetrics:
    """What the requests and batches of one model's version are recorded into.

    Args:
        metrics: All of them.
        model: Name.
        role: What the version is for now: production, candidate or label. No version, so that the number of series is
            bounded.
        classes: Counts the model's predictions, whatever their role.
    """

    def __init__(self, metrics: "Metrics", model: str, role: str, classes: ClassCounts) -> None:
        self._requests, self._duration = metrics.requests, metrics.duration
        self._durations: dict[str, BulkHistogram] = {}
        self._model, self._role = model, role
        self._stages = {stage: BulkHistogram(metrics.stage.labels(model, role, stage)) for stage in STAGES}
        self._batch = BulkHistogram(metrics.batch_size.labels(model))
        self._classes = classes
        self._confidence_metric = metrics.confidence
        self._confidence: BulkHistogram | None = None
        self._answered: list[tuple[str, float, float, float, float]] = []
        self._refused: list[tuple[str, int, float]] = []
        self._batches: list[tuple[int, float]] = []
        self._outputs: list[tuple[Task, NDArray[np.float32]]] = []

    def answered(self, route: str, total: float, decode: float, queue: float, encode: float) -> None:
        """Record a prediction that was answered; all in seconds."""
        self._answered.append((route, total, decode, queue, encode))
        if len(self._answered) >= _FULL:
            self.flush()

    def refused(self, route: str, status: int, total: float) -> None:
        """Record a request that got an error; ``total`` in seconds."""
        self._refused.append((route, status, total))

    def batch(self, rows: int, seconds: float) -> None:
        """Record a batch and the engine's time for it."""
        self._batches.append((rows, seconds))

    def predicted(self, task: Task, outputs: NDArray[np.float32]) -> None:
        """Record what was answered: ``outputs`` of shape ``(n, *output_shape)``."""
        self._outputs.append((task, outputs))

    def flush(self) -> None:
        """Count what was recorded into the metrics."""
        self._count_requests()
        batches, self._batches = self._batches, []
        if batches:
            rows, times = zip(*batches, strict=True)
            self._batch.observe(rows)
            self._stages["infer"].observe(times)
        outputs, self._outputs = self._outputs, []
        by_task: dict[int, tuple[Task, list[NDArray[np.float32]]]] = {}
        for task, one in outputs:
            by_task.setdefault(id(task), (task, []))[1].append(one)
        for task, several in by_task.values():
            self._count_outputs(task, np.concatenate(several))

    def _count_requests(self) -> None:
        answered, self._answered = self._answered, []
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
                self._durations[route] = BulkHistogram(self._duration.labels(route, self._model, self._role))
                for status in FAILURES:
                    # From 0 on: the first count of a series is no increase to Prometheus, and would burn no budget.
                    self._requests.labels(route, self._model, self._role, str(status))
            self._durations[route].observe(seconds)
        for (route, code), count in codes.items():
            self._requests.labels(route, self._model, self._role, str(code)).inc(count)
        if answered:
            _, _, decode, queue, encode = zip(*answered, strict=True)
            self._stages["decode"].observe(decode)
            self._stages["queue"].observe(queue)
            self._stages["encode"].observe(encode)

    def _count_outputs(self, task: Task, outputs: NDArray[np.float32]) -> None:
        self._classes.add(task, outputs)
        if isinstance(task, Classes):
            if self._confidence is None:
                self._confidence = BulkHistogram(self._confidence_metric.labels(self._model, self._role))
            self._confidence.observe(outputs.max(axis=-1))

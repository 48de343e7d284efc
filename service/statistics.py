"""What one loaded version has done in this worker, as the statistics extension of the Open Inference Protocol tells it.

Plain sums: under half a microsecond a request. The metrics say more, and of all workers together.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from service.protocols.base import Answer

OnBatch = Callable[[int, float], None]


@dataclass(slots=True)
class Statistics:
    """Sums since the version was loaded.

    Attributes:
        requests: Answered ones.
        rows: In those.
        failures: Requests that were read but not answered.
        total_s: Seconds of the answered requests, from their first byte to their answer; then of each stage.
        failed_s: Seconds of the failures.
        last_ms: When the last request was answered, milliseconds since the epoch; 0 for never.
        batches: Rows in a batch -> how many such batches ran, and the engine's seconds for them.
    """

    requests: int = 0
    rows: int = 0
    failures: int = 0
    total_s: float = 0.0
    decode_s: float = 0.0
    queue_s: float = 0.0
    infer_s: float = 0.0
    encode_s: float = 0.0
    failed_s: float = 0.0
    last_ms: int = 0
    batches: dict[int, tuple[int, float]] = field(default_factory=dict)

    def answered(self, rows: int, total_s: float, answer: Answer) -> None:
        """Count a request."""
        self.requests += 1
        self.rows += rows
        self.total_s += total_s
        self.decode_s += answer.decode_s
        self.queue_s += answer.queue_s
        self.infer_s += answer.infer_s
        self.encode_s += answer.encode_s
        self.last_ms = int(time.time() * 1000)

    def failed(self, total_s: float) -> None:
        """Count a request that could not be answered."""
        self.failures += 1
        self.failed_s += total_s

    def with_batches(self, on_batch: OnBatch) -> OnBatch:
        """``on_batch``, and count the batch here too."""

        def count(rows: int, seconds: float) -> None:
            on_batch(rows, seconds)
            ran, before = self.batches.get(rows, (0, 0.0))
            self.batches[rows] = (ran + 1, before + seconds)

        return count

    def document(self, name: str, version: str) -> dict[str, Any]:
        """A ``ModelStatistics`` message in its JSON form."""
        stages = {
            "success": self.total_s,
            "queue": self.queue_s,
            "compute_input": self.decode_s,
            "compute_infer": self.infer_s,
            "compute_output": self.encode_s,
        }
        inference = {stage: _duration(self.requests, seconds) for stage, seconds in stages.items()}
        inference |= {
            "fail": _duration(self.failures, self.failed_s),
            "cache_hit": _duration(0, 0),
            "cache_miss": _duration(0, 0),
        }
        batches = [
            {"batch_size": rows, "compute_infer": _duration(count, seconds)}
            | {stage: _duration(count, 0) for stage in ("compute_input", "compute_output")}
            for rows, (count, seconds) in sorted(self.batches.items())
        ]
        return {
            "name": name,
            "version": version,
            "last_inference": self.last_ms,
            "inference_count": self.rows,
            "execution_count": sum(count for count, _ in self.batches.values()),
            "inference_stats": inference,
            "batch_stats": batches,
        }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}

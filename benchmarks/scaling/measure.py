"""What is measured for the page on scaling: each model's costs, its capacity, and its latency over the offered rate."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any

from benchmarks.peers.about import said
from benchmarks.report import machine
from loadtests.capacity import Effort, ask, measure, objective_ms, plan_for, without_nan
from loadtests.served import serving


@dataclass(frozen=True)
class Target:
    """One server that is measured.

    Attributes:
        model: That is asked.
        workers: Of the server.
        curve: Whether the latency over the offered rate is wanted too.
    """

    model: str
    workers: int = 1
    curve: bool = True

    @property
    def key(self) -> str:
        """In the record."""
        return self.model if self.workers == 1 else f"{self.model}, {self.workers} workers"


TARGETS = (
    *(Target("dnn"), Target("cnn"), Target("cnn", workers=2)),
    *(Target("regressor", curve=False), Target("lstm", curve=False)),
)
FULL = Effort(seconds=2.0, shares=(0.1, 0.3, 0.6, 0.8, 1.0, 1.1))
_IDLE_S = 2.0
QUICK = Effort(seconds=0.6, seeds=(1,), shares=(0.1, 0.5, 1.0))


def run(bundles: Path, preset: str, root: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything: about five minutes, a quarter of that with the preset ``quick``.

    Raises:
        BenchmarkError: A server does not start, or no answer was right.
        LookupError: A model is not there.
    """
    effort = QUICK if preset == "quick" else FULL
    about = {
        "preset": preset,
        "started": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": said("git", "-C", str(root), "rev-parse", "--short=12", "HEAD"),
        "seconds": effort.seconds,
        "machine": machine(),
    }
    results = {}
    for target in TARGETS:
        say(f"{target.key}:")
        # What carries no curve still needs its cheapest point: what a request costs when it is alone.
        shares = effort.shares if target.curve else effort.shares[:1]
        results[target.key] = _one(bundles, target, Effort(effort.seconds, effort.seeds, shares), say)
    document: dict[str, Any] = without_nan({"about": about, "results": results})
    return document


def _one(bundles: Path, target: Target, effort: Effort, say: Callable[[str], None]) -> dict[str, Any]:
    # A replica of one core: with more threads a worker takes what the other workers here need.
    with serving(bundles, target.workers, {"SERVING_THREADS": "1"}) as served:
        plan = plan_for(bundles, target.model, "json", served.port, effort.seconds)
        bound_ms = objective_ms(ask(served.port, "/metrics"), target.model)
        running = json.loads(ask(served.port, f"/models/{target.model}"))["running"]
        size = sum(len(body) for body in plan.bodies) * 3 // 4 // len(plan.bodies)
        before = served.cpu_s()
        sleep(_IDLE_S)
        idle = (served.cpu_s() - before) / _IDLE_S
        about = {"model": target.model, "workers": target.workers, "body_bytes": size, "idle_cpu": idle}
        about["running"] = running
        return about | measure(served, plan, bound_ms, effort, lambda line: say(f"  {line}"))

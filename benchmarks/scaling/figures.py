"""From what was measured to a simulated server, how far it is off, and how many replicas a rate needs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.scaling.simulate import (
    Model,
    Times,
    arrivals,
    highest_rate,
    latencies,
    p50_ms,
    p99_ms,
    shared,
    split,
)
from service.profile import without_outliers

HEADROOM = 0.6
"""Share of its capacity that a replica is planned for."""
SPARE = 1
"""Replicas that may be gone: one that is restarted, or whose machine is."""
RATES = (1_000, 100_000)
CALIBRATED = "dnn"
"""The model whose costs of the loop the simulation takes for all."""
WORKERS = (1, 2, 4, 8)
BUSY = 0.8
"""Share of the peak at which one queue is compared with several."""
_SIMULATED_S = 10.0
_SEARCHED_S = 4.0
_QUEUED_S = 2.0
_SEED = 11


@dataclass(frozen=True)
class Point:
    """One offered rate, measured and simulated. Milliseconds."""

    rate: float
    measured_p50: float
    measured_p99: float
    simulated_p50: float
    simulated_p99: float


@dataclass(frozen=True)
class Check:
    """A model's curve and capacity, measured and simulated.

    Attributes:
        measured: Capacity, requests a second.
        simulated: The same.
        step: Of the search for the first.
        points: Over the offered rate.
    """

    measured: float
    simulated: float
    step: float
    points: tuple[Point, ...]

    @property
    def error(self) -> float:
        """Of the simulated capacity, relative to the measured one."""
        return self.simulated / self.measured - 1


def model_of(result: dict[str, Any], costs: Model | None = None) -> Model:
    """The server that a result tells of.

    The loop's two costs follow from two measured ones: of CPU for a request that comes alone, and for one of the many
    at the peak, which come in batches as large as there are connections.

    Args:
        result: Of `benchmarks.scaling.measure`.
        costs: The loop's costs are this one's; None takes them from the result.

    Raises:
        LookupError: The costs are not known, since no rate held.
    """
    running = result["running"]
    curve = {int(rows): ms / 1000 for rows, ms in running["batch_latency_ms"].items()}
    model = Model(without_outliers(curve), running["batch_rows"], running["inline_rows"], 0.0, 0.0)
    if costs is not None:
        return replace(model, request_s=costs.request_s, batch_s=costs.batch_s, floor_s=costs.floor_s)
    rows = min(model.batch_rows, result["closed"]["connections"])
    if not result["curve"]:
        raise LookupError(f"{result['model']} held no rate, so nothing is known of its costs. Is the machine idle?")
    lone, closed = result["curve"][0], result["closed"]
    alone_s = max(0.0, _cpu_s(lone["cpu_us"], lone["rate"], result) - model.engine_s(1))
    many_s = max(0.0, _cpu_s(closed["cpu_us"], closed["requests_per_s"], result) - model.engine_s(rows) / rows)
    request_s = max(1e-6, (many_s - alone_s / rows) / (1 - 1 / rows)) if rows > 1 else alone_s
    model = replace(model, request_s=request_s, batch_s=max(0.0, alone_s - request_s))
    simulated = p50_ms(latencies(model, arrivals(lone["rate"], _SIMULATED_S, _SEED)))
    return replace(model, floor_s=max(0.0, lone["p50_ms"] - simulated) / 1000)


def _cpu_s(cpu_us: float, rate: float, result: dict[str, Any]) -> float:
    """CPU of a request without what the server uses when it is idle."""
    return cpu_us / 1e6 - float(result["idle_cpu"]) / rate


def check(result: dict[str, Any], model: Model) -> Check:
    """The simulated server beside the measured one."""
    workers, bound_ms = result["workers"], result["objective_ms"]

    def serve(due: Times) -> Times:
        return split(model, due, workers, _SEED)

    points = []
    for run in result["curve"]:
        found = serve(arrivals(run["rate"], _SIMULATED_S, _SEED))
        points.append(Point(run["rate"], run["p50_ms"], run["p99_ms"], p50_ms(found), p99_ms(found)))
    simulated = highest_rate(serve, workers * model.peak(), bound_ms, _SEARCHED_S, _SEED)
    return Check(result["capacity"]["rate"], simulated, result["capacity"]["step"], tuple(points))


def checks(results: dict[str, dict[str, Any]]) -> dict[str, Check]:
    """Every server whose curve was measured and that held some rate; the costs of the loop are all of one model's."""
    costs = model_of(results[CALIBRATED])
    found = {key: result for key, result in results.items() if len(result["curve"]) > 1}
    return {key: check(result, model_of(result, costs)) for key, result in found.items()}


def replicas(rate: float, capacity: float) -> int:
    """How many of one worker each a rate needs: what their planned share carries, and the spare ones."""
    return math.ceil(rate / (HEADROOM * capacity)) + SPARE


def queues(model: Model) -> list[tuple[int, float, float]]:
    """Workers, and p99 in milliseconds at `BUSY` of their peak with a queue each and with one for all."""
    rows = []
    for workers in WORKERS:
        due = arrivals(BUSY * workers * model.peak(), _QUEUED_S, _SEED)
        serve: tuple[Callable[[Times], Times], ...] = (
            partial(split, model, workers=workers, seed=_SEED),
            partial(shared, model, workers=workers),
        )
        each, one = (p99_ms(one(due)) for one in serve)
        rows.append((workers, each, one))
    return rows

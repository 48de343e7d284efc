"""From late answers and samples to stalls, each with what was going on meanwhile and what most likely caused it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.watch import Sample

LATE_S = 0.05
_SAME_STALL_S = 0.1
_HALF = 0.5
_MOST = 0.7


@dataclass(frozen=True)
class Stall:
    """A time in which answers were late.

    Attributes:
        begin: When the first late request was due, `time.perf_counter`.
        seconds: Until the last of them was answered.
        late: How many.
        worst_s: Largest latency.
        generator_lag_s: How late the generator itself was with its requests.
    """

    begin: float
    seconds: float
    late: int
    worst_s: float
    generator_lag_s: float


@dataclass(frozen=True)
class Meanwhile:
    """What happened during a stall, in seconds.

    Attributes:
        sampler_gap: Longest time for which the sampler, which does next to nothing, was not run.
        stolen: CPU time that the host gave to others.
        disk: Pressure and CPU time of waiting for a disk; the larger.
        memory: Pressure of waiting for memory.
        server_ran: The server's main thread on a CPU.
        server_waited: The same waiting for one.
        generator_waited: The generator waiting for a CPU.
        collected: Garbage collection in the server.
        thread_gap: The probe's thread in the server not run.
        function: Where the server's main thread stayed, if anywhere.
        states: The server's main thread as sampled, such as ``RRS``.
    """

    sampler_gap: float
    stolen: float
    disk: float
    memory: float
    server_ran: float
    server_waited: float
    generator_waited: float
    collected: float
    thread_gap: float
    function: str
    states: str


def stalls(due: NDArray[np.float64], lag: NDArray[np.float64], latency: NDArray[np.float64]) -> list[Stall]:
    """Late answers, grouped: those close together are of one stall. An answer that never came is not late but lost."""
    late = np.flatnonzero(latency > LATE_S)
    found: list[Stall] = []
    group: list[int] = []
    end = 0.0
    for index in late.tolist():
        if group and due[index] - end > _SAME_STALL_S:
            found.append(_stall(group, due, lag, latency))
            group = []
        end = max(end, float(due[index] + latency[index]))
        group.append(index)
    return [*found, _stall(group, due, lag, latency)] if group else found


def _stall(group: list[int], due: NDArray[np.float64], lag: NDArray[np.float64], latency: NDArray[np.float64]) -> Stall:
    begin, end = float(due[group].min()), float((due[group] + latency[group]).max())
    return Stall(begin, end - begin, len(group), float(latency[group].max()), float(lag[group].max()))


def meanwhile(
    stall: Stall, samples: Sequence[Sample], server: int, generator: int, notes: Sequence[dict[str, Any]]
) -> Meanwhile | None:
    """What the samples and the probe's notes say of a stall; None without samples around it."""
    end = stall.begin + stall.seconds
    before = [s for s in samples if s.at <= stall.begin]
    after = [s for s in samples if s.at >= end]
    if not before or not after:
        return None
    first, last = before[-1], after[0]
    during = [s for s in samples if first.at < s.at <= last.at]

    def ran(pid: int, what: str) -> float:
        if pid not in first.processes or pid not in last.processes:
            return 0.0
        return float(getattr(last.processes[pid], what) - getattr(first.processes[pid], what))

    def noted(kind: str) -> list[dict[str, Any]]:
        return [n for n in notes if n["kind"] == kind and n["since"] < end and n["since"] + n["seconds"] > stall.begin]

    functions = sorted(noted("function"), key=lambda n: n["seconds"], reverse=True)
    return Meanwhile(
        sampler_gap=max(s.gap_s for s in during),
        stolen=last.stolen_s - first.stolen_s,
        disk=max(last.io_pressure_s - first.io_pressure_s, last.disk_wait_s - first.disk_wait_s),
        memory=last.memory_pressure_s - first.memory_pressure_s,
        server_ran=ran(server, "cpu_s"),
        server_waited=ran(server, "wait_s"),
        generator_waited=ran(generator, "wait_s"),
        collected=sum(n["seconds"] for n in noted("gc")),
        thread_gap=max((n["seconds"] for n in noted("thread")), default=0.0),
        function=f"{functions[0]['what']} for {functions[0]['seconds']:.3f} s" if functions else "",
        states="".join(s.processes[server].state for s in during if server in s.processes),
    )


def cause(stall: Stall, found: Meanwhile) -> str:
    """The most likely one, in words: the first that explains half of the time."""
    half = _HALF * stall.seconds
    if found.sampler_gap >= half:
        stolen = f"; the host took {found.stolen:.2f} s of CPU time" if found.stolen else ""
        return f"the machine: nothing ran, not even the sampler{stolen}"
    if found.stolen >= half:
        return "the host: it gave the CPU to others"
    if found.collected >= half:
        return "the server: garbage collection"
    if found.states.count("D") >= _HALF * len(found.states) > 0:
        return "a disk: the server waited for it"
    if found.server_waited >= half:
        return "no free CPU: the server waited for one"
    if found.generator_waited >= half or stall.generator_lag_s >= half:
        return "the generator: it was late itself"
    if found.server_waited + max(found.generator_waited, stall.generator_lag_s) >= half:
        return "no free CPU: server and generator both waited for one"
    if found.server_ran >= _MOST * stall.seconds:
        return f"the server: it computed{' in ' + found.function if found.function else ''}"
    if found.disk >= half:
        return "a disk: something waited for it"
    if found.memory >= half:
        return "memory: something waited for it"
    return "unknown: the server slept or was done, and the generator was in time"

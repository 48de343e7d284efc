"""From measurements to a table, and a verdict on the targets."""

import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.plan import Summary
from benchmarks.servers import Memory

# Against the stock service at the same number of connections.
FASTER = 8.0
P99_SHARE = 1 / 15
MEMORY_MB = 350.0
_FIGURES = ("requests_per_s", "p50_ms", "p90_ms", "p99_ms", "max_ms", "generator_cpu")


@dataclass(frozen=True)
class Round:
    """One contender, started once."""

    contender: str
    ready_s: float
    runs: tuple[Summary, ...]
    memory: Memory


@dataclass(frozen=True)
class Target:
    """One figure that is required."""

    name: str
    required: str
    measured: str
    met: bool


def medians(rounds: Sequence[Round]) -> dict[str, Any]:
    """Median of each figure over the rounds of one contender; problems are summed up."""
    runs = {}
    for position, first in enumerate(rounds[0].runs):
        same = [r.runs[position] for r in rounds]
        runs[first.connections] = {figure: median(getattr(run, figure) for run in same) for figure in _FIGURES} | {
            problem: sum(getattr(run, problem) for run in same) for problem in ("wrong", "refused", "broken")
        }
    return {
        "ready_s": median(r.ready_s for r in rounds),
        "rss_mb": median(r.memory.rss_mb for r in rounds),
        "pss_mb": median(r.memory.pss_mb for r in rounds),
        "processes": rounds[0].memory.processes,
        "connections": runs,
    }


def targets(ours: dict[str, Any], stock: dict[str, Any]) -> list[Target]:
    """The verdicts. Throughput and latency are judged at the largest number of connections, where batching counts."""
    most = max(ours["connections"])
    us, them = ours["connections"][most], stock["connections"][most]
    faster = us["requests_per_s"] / them["requests_per_s"]
    share = us["p99_ms"] / them["p99_ms"]
    wrong = sum(c["wrong"] + c["refused"] + c["broken"] for c in ours["connections"].values())
    return [
        Target(f"requests/s at {most} connections", f">= {FASTER:g} x BentoML's", f"{faster:.1f} x", faster >= FASTER),
        Target(
            f"p99 at {most} connections",
            f"<= 1/{1 / P99_SHARE:g} of BentoML's",
            f"1/{1 / share:.0f}" if share > 0 else "nothing measured",
            share <= P99_SHARE,
        ),
        Target(
            "memory with every shipped model",
            f"<= {MEMORY_MB:g} MB",
            f"{ours['rss_mb']:.0f} MB (RSS, whole process tree)",
            ours["rss_mb"] <= MEMORY_MB,
        ),
        Target(
            "start to first correct answer",
            "no later than BentoML",
            f"{ours['ready_s']:.2f} s, BentoML {stock['ready_s']:.2f} s",
            ours["ready_s"] <= stock["ready_s"],
        ),
        Target("answers wrong, refused or broken", "0", str(wrong), wrong == 0),
    ]


PACKAGES = ("bentoml", "onnxruntime", "numpy", "uvicorn", "uvloop", "orjson")


def machine(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """What the figures were measured on, and the versions of ``packages``."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "cpu": next(names, platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "load_before": round(os.getloadavg()[0], 2),
    }


def to_markdown(document: dict[str, Any]) -> str:
    """The report for people."""
    about, models = document["machine"], ", ".join(document["models"])
    lines = [
        f"# {document['model']}: one picture a request, {document['body_bytes']} bytes of JSON",
        "",
        f"{about['cores']} cores ({about['cpu']}) shared by server and load, one worker, Python {about['python']}, "
        + ", ".join(f"{name} {number}" for name, number in about["packages"].items())
        + f". Medians of {document['rounds']} rounds of {document['seconds']:g} s, order alternating; every answer "
        f"checked. Load average before: {about['load_before']:g}.",
        "",
        "| server | connections | requests/s | p50 ms | p90 ms | p99 ms | max ms | wrong | refused | broken "
        "| generator's CPU |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, figures in document["contenders"].items():
        for connections, run in figures["connections"].items():
            times = " | ".join(_number(run[f]) for f in ("p50_ms", "p90_ms", "p99_ms", "max_ms"))
            problems = " | ".join(str(run[f]) for f in ("wrong", "refused", "broken"))
            lines.append(
                f"| {name} | {connections} | {run['requests_per_s']:,.0f} | {times} | {problems} "
                f"| {run['generator_cpu']:.0%} |"
            )
    ceiling = document["generator"]
    lines += [
        "",
        f"The generator alone, against a server that answers at once and does nothing: "
        f"{ceiling['requests_per_s']:,.0f} requests/s at {ceiling['connections']} connections.",
        "",
        "| server | first correct answer s | RSS MB | PSS MB | processes | models |",
        "|---|---|---|---|---|---|",
    ]
    for name, figures in document["contenders"].items():
        held = models if name == document["ours"] else document["model"]
        lines.append(
            f"| {name} | {figures['ready_s']:.2f} | {figures['rss_mb']:.0f} | {figures['pss_mb']:.0f} "
            f"| {figures['processes']} | {held} |"
        )
    lines += ["", "RSS and PSS are sums over the process tree, after the load.", ""]
    lines += ["| target | required | measured | |", "|---|---|---|---|"]
    lines += [
        f"| {t['name']} | {t['required']} | {t['measured']} | {'met' if t['met'] else '**missed**'} |"
        for t in document["targets"]
    ]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:.0f}"

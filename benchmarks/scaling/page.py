"""The page on scaling and its plot, from the record of one run."""

import json
from pathlib import Path
from typing import Any

from benchmarks.scaling.figures import (
    BUSY,
    CALIBRATED,
    HEADROOM,
    RATES,
    SPARE,
    Check,
    checks,
    model_of,
    queues,
    replicas,
)
from benchmarks.scaling.simulate import Model

RECORD = Path("scaling/scaling.json")
PLOT = Path("scaling/curves.png")
_BUSY_LOAD = 1.5


def publish(document: dict[str, Any], folder: Path) -> Path:
    """Write scaling.md, scaling/scaling.json and scaling/curves.png.

    Returns:
        The page.
    """
    (folder / RECORD.parent).mkdir(parents=True, exist_ok=True)
    (folder / RECORD).write_text(json.dumps(document, indent=1) + "\n")
    found = checks(document["results"])
    draw(document["results"], found, folder / PLOT)
    page = folder / "scaling.md"
    page.write_text(render(document, found))
    return page


def render(document: dict[str, Any], found: dict[str, Check]) -> str:
    """The page."""
    results = document["results"]
    costs = model_of(results[CALIBRATED])
    lines = [*_head(document), *_costs(results), *_replicas(results), *_simulation(costs, found), *_queues(costs)]
    return "\n".join([*lines, *_reading()]) + "\n"


def _head(document: dict[str, Any]) -> list[str]:
    about, machine = document["about"], document["about"]["machine"]
    bound = document["results"][CALIBRATED]["objective_ms"]
    doubts = ["quick trial runs"] * (about["preset"] == "quick")
    doubts += [f"a busy machine, load average {machine['load_before']:g} before"] * (
        machine["load_before"] > _BUSY_LOAD
    )
    warning = (
        f"**Not to be planned with: {' and '.join(doubts)}. `make scaling` on an idle machine replaces these figures.**"
    )
    return [
        "# Scaling",
        "",
        "What a request costs, how many replicas a rate needs, and what waiting does in between. `make "
        "scaling` measures "
        "all of it again and writes this page, in about five minutes on an idle machine.",
        "",
        f"Measured {about['started']} on {machine['cores']} cores ({machine['cpu']}) that server and load generator "
        f"shared; load average before: {machine['load_before']:g}. Commit {about['commit']}. One row a "
        "request, as JSON; runs of "
        f"{about['seconds']:g} s; every answer checked. Capacity is the highest rate of random arrivals at "
        "which p99 stays "
        f"below {bound:g} ms, the objective as shipped, and no request fails (`make capacity`).",
        "",
        *([warning, ""] if doubts else []),
    ]


def _costs(results: dict[str, Any]) -> list[str]:
    lines = [
        "## What a request costs",
        "",
        "| model, workers | bytes of JSON | CPU alone | CPU at the peak | peak, 32 connections | capacity |",
        "|---|---|---|---|---|---|",
    ]
    for key, result in results.items():
        closed, capacity, curve = result["closed"], result["capacity"], result["curve"]
        alone = f"{curve[0]['cpu_us']:.0f} us" if curve else "-"
        lines.append(
            f"| {key} | {result['body_bytes']:,} | {alone} | {closed['cpu_us']:.0f} us "
            f"| {closed['requests_per_s']:,.0f}/s | {capacity['rate']:,.0f}/s (steps of {capacity['step']:,.0f}) |"
        )
    idle = max(result["idle_cpu"] / result["workers"] for result in results.values())
    note = (
        "CPU is that of all the server's processes, metrics, drift and gRPC with it; that of an idle worker, up to "
        f"{idle:.1%} of a core, is in it. A request that comes alone (at a tenth of the capacity) pays for waking the "
        "loop and for a batch of its own; at the peak, many share both."
    )
    return [*lines, "", note, ""]


def _replicas(results: dict[str, Any]) -> list[str]:
    single = {key: result for key, result in results.items() if result["workers"] == 1}
    heads = " | ".join(f"replicas for {rate:,}/s | cores busy" for rate in RATES)
    lines = [
        "## How many replicas",
        "",
        "A replica is one worker whose batches have one thread (`SERVING_THREADS=1`): it keeps about one core busy.",
        "",
        f"    replicas = ceil(rate / ({HEADROOM:g} x capacity of one)) + {SPARE}",
        "",
        f"{HEADROOM:.0%} of the capacity leaves room for bursts, slower machines and a rollout; {SPARE} more "
        "so that one may be "
        "gone. Cores busy is the rate times the CPU of a request at the peak.",
        "",
        f"| model | capacity of one | {heads} |",
        "|---|---|" + "---|---|" * len(RATES),
    ]
    for key, result in single.items():
        rate, cpu_us = result["capacity"]["rate"], result["closed"]["cpu_us"]
        if not rate:
            lines.append(f"| {key} | no rate held |" + " - | - |" * len(RATES))
            continue
        needed = " | ".join(f"{replicas(asked, rate):,} | {asked * cpu_us / 1e6:,.1f}" for asked in RATES)
        lines.append(f"| {key} | {rate:,.0f}/s | {needed} |")
    return [*lines, ""]


def _simulation(costs: Model, found: dict[str, Check]) -> list[str]:
    lines = [
        "## A simulated queue, checked against the measured one",
        "",
        "`benchmarks/scaling/simulate.py`: Poisson arrivals, one event loop, the greedy batcher's policy (an "
        "idle engine takes what "
        "waits, up to the batch limit; short batches on the loop, longer ones beside it), each model's "
        "engine times as its "
        f"server measured them at warm-up. The loop's costs are taken from {CALIBRATED} alone, from its CPU "
        "alone and at the "
        f"peak: {1e6 * costs.request_s:.0f} us a request and {1e6 * costs.batch_s:.0f} us a batch; and from "
        "its median at the "
        f"lowest rate {1e3 * costs.floor_s:.2f} ms a request elsewhere (sockets, the client). Nothing is "
        "fitted to the "
        "other servers, nor to any p99.",
        "",
        "![latency over the offered rate, measured and simulated](scaling/curves.png)",
        "",
        "| server | measured capacity | simulated | error |",
        "|---|---|---|---|",
        *(f"| {key} | {c.measured:,.0f}/s | {c.simulated:,.0f}/s | {c.error:+.0%} |" for key, c in found.items()),
        "",
        "| server | offered | p50 measured | simulated | p99 measured | simulated |",
        "|---|---|---|---|---|---|",
    ]
    for key, one in found.items():
        lines += [
            f"| {key} | {p.rate:,.0f}/s | {p.measured_p50:.2f} ms | {p.simulated_p50:.2f} | {p.measured_p99:.1f} ms "
            f"| {p.simulated_p99:.1f} |"
            for p in one.points
        ]
    largest = max((abs(one.error), key) for key, one in found.items())
    return [
        *lines,
        "",
        f"The simulated capacity is off by up to {largest[0]:.0%} ({largest[1]}). The simulation knows of no "
        "other thread that holds "
        "Python's lock, no garbage collection and no generator on the same cores. Where its p99 is below the "
        "measured one, that "
        "is what is missing in it: queueing does not explain it, and more replicas would not mend it.",
        "",
    ]


def _queues(costs: Model) -> list[str]:
    rows = [f"| {workers} | {each:.1f} ms | {one:.1f} ms |" for workers, each, one in queues(costs)]
    return [
        "## A queue each, or one for all",
        "",
        "Workers and replicas each have a queue of their own: connections are spread over workers evenly, "
        "and a load balancer "
        "spreads requests over replicas, neither knowing who is busy. Simulated for "
        f"{CALIBRATED} at {BUSY:.0%} of the peak of all together, p99:",
        "",
        "| workers | a queue each | one queue for all |",
        "|---|---|---|",
        *rows,
        "",
        "The difference of the columns is all that a common queue would change. It would cost a hop between processes "
        "for each request, which the front door is there to avoid; batching already turns a burst into a larger batch "
        "rather than a longer wait, while whoever shares a queue runs smaller ones.",
        "",
    ]


def _reading() -> list[str]:
    return [
        "## Reading it",
        "",
        "- More workers on one machine help until its cores are busy; the load generator of this run needs "
        "its share of them.",
        "- 100,000 requests a second are a matter of replicas, not of anything shared: they share nothing "
        "but the store, which "
        "no request touches. Spread connections evenly (`leastconn`, or many connections a client).",
        "- Bodies matter: decoding is most of a small model's cost. Binary tensors and files cost less than "
        "nested JSON "
        "([performance](performance.md)), and 32 rows a request cost far less than 32 requests.",
        "- Scale on CPU, not on latency: latency rises late and then steeply. The Kubernetes manifests do, at the same "
        f"{HEADROOM:.0%} ([deployment](deployment.md)).",
    ]


def draw(results: dict[str, Any], found: dict[str, Check], path: Path) -> None:
    """p50 and p99 over the offered rate, measured and simulated, one panel a server."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(4.2 * len(found), 4), squeeze=False)
    for axis, (key, one) in zip(axes[0], found.items(), strict=True):
        rates = [point.rate for point in one.points]
        for share, colour in (("p50", "C0"), ("p99", "C3")):
            measured = [getattr(point, f"measured_{share}") for point in one.points]
            simulated = [getattr(point, f"simulated_{share}") for point in one.points]
            axis.plot(rates, measured, f"{colour}o-", label=f"{share} measured")
            axis.plot(rates, simulated, f"{colour}x--", label=f"{share} simulated")
        axis.axhline(results[key]["objective_ms"], color="grey", linewidth=0.8)
        axis.axvline(one.measured, color="black", linewidth=0.8)
        axis.axvline(one.simulated, color="black", linewidth=0.8, linestyle="--")
        axis.set_yscale("log")
        axis.set_xlim(left=0)
        axis.set_title(key)
        axis.set_xlabel("offered requests a second")
        axis.grid(visible=True, which="both", alpha=0.25)
    axes[0][0].set_ylabel("latency, ms; grey: the objective\nblack: capacity, measured and simulated")
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)

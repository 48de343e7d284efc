"""Pictures of a record: throughput and latency in closed loop, latency over the offered rate in open loop."""

from collections import defaultdict
from pathlib import Path
from statistics import median_high
from typing import Any

from benchmarks.peers.capacity import BOUND_MS
from benchmarks.peers.contenders import LIMIT, OURS, WIDE_SUFFIX
from benchmarks.peers.figures import Level, Sustained
from benchmarks.peers.plans import ALL, WIDE


def _style(name: str) -> dict[str, Any]:
    """Ours stands out, the limit is dashed, and the others keep their colour from plot to plot."""
    if name == OURS:
        return {"color": "black", "linewidth": 2.5, "zorder": 3}
    if name == LIMIT:
        return {"color": "black", "linestyle": "--", "linewidth": 1.2}
    if name in WIDE:
        # As the same server with one thread.
        return _style(name.removesuffix(WIDE_SUFFIX)) | {"linestyle": ":"}
    return {"color": f"C{ALL.index(name) % 10}", "linewidth": 1.5}


def closed_loop(model: str, found: dict[str, dict[str, Level]], path: Path) -> None:
    """Throughput and p99 over the number of connections."""
    figure, axes = _figure(2)
    for name, levels in found.items():
        connections = [int(count) for count in levels]
        for axis, key in zip(axes, ("requests_per_s", "p99_ms"), strict=True):
            values = [level[key] for level in levels.values()]
            axis.plot(connections, values, marker="o", markersize=4, label=name, **_style(name))
    for axis, label in zip(axes, ("correct answers a second", "p99, ms"), strict=True):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xlabel("connections, each with one request under way")
        axis.set_ylabel(label)
        ticks = sorted({int(count) for levels in found.values() for count in levels})
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axes[0].set_title(f"{model}: closed loop")
    _save(figure, axes[1], path)


def open_loop(model: str, found: dict[str, Sustained], path: Path) -> None:
    """p99 over the offered rate, the median of a rate's runs; those that were given up count as the upper edge."""
    figure, (axis,) = _figure(1)
    top = 10 * BOUND_MS
    for name, result in found.items():
        runs = defaultdict[int, list[float]](list)
        for probe in result.probes:
            failed = probe["given_up"] or probe["wrong"] + probe["refused"] + probe["broken"]
            runs[round(probe["rate"])].append(top if failed else min(probe["p99_ms"], top))
        rates = sorted(runs)
        style = _style(name)
        axis.plot(rates, [median_high(runs[rate]) for rate in rates], marker="o", markersize=4, label=name, **style)
    axis.axhline(BOUND_MS, color="grey", linewidth=0.8)
    axis.set_yscale("log")
    axis.set_xlim(left=0)
    axis.set_xlabel("offered requests a second (Poisson)")
    axis.set_ylabel("p99 from the scheduled time, ms")
    axis.set_title(f"{model}: open loop, the median run at each rate")
    _save(figure, axis, path)


def _figure(columns: int) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(5.5 * columns + 2, 4.5), squeeze=False)
    return figure, axes[0]


def _save(figure: Any, last: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    for axis in figure.axes:
        axis.grid(visible=True, which="both", alpha=0.25)
    last.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, frameon=False)
    figure.tight_layout()
    # Without the time and version that would make another file of the same figures.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)

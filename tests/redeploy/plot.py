"""Requests a second, latency and share of the versions over time, with what happened marked."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from tests.redeploy.record import Record

mpl.use("agg")

Event = tuple[float, str]
"""Seconds since 1970, and what happened."""


def draw(record: Record, routes: Sequence[int], events: Sequence[Event], titles: Mapping[str, str], path: Path) -> None:
    """Write the picture.

    Args:
        record: Of the load.
        routes: Those whose versions are shown.
        events: In order.
        titles: Version -> what it is, for the legend.
        path: PNG.
    """
    start = record.due[0]
    second = (record.due - start).astype(int)
    seconds = np.arange(second[-1])  # the last one is not whole
    figure = Figure(figsize=(11, 8), layout="constrained")
    rate, latency, share = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 1.4))

    answered = np.bincount(second[record.status == 200], minlength=second[-1] + 1)[:-1]
    failed = np.bincount(second[record.status != 200], minlength=second[-1] + 1)[:-1]
    rate.plot(seconds, answered, color="tab:blue", linewidth=1, label="answered")
    rate.plot(seconds, failed, color="tab:red", linewidth=1.5, label=f"failed ({record.errors} in all)")
    rate.set(ylabel="requests / s", ylim=(0, None))
    rate.legend(loc="lower right", ncols=2)

    for percent, colour in ((50, "tab:green"), (99, "tab:orange")):
        values = [
            1000 * np.percentile(record.latency[second == s], percent) if (second == s).any() else np.nan
            for s in seconds
        ]
        latency.plot(seconds, values, color=colour, linewidth=1, label=f"p{percent}")
    latency.set(ylabel="latency, ms\n(from the scheduled time)", yscale="log")
    # 20, not 2 x 10^1: milliseconds.
    latency.yaxis.set_major_formatter("{x:g}")
    latency.yaxis.set_minor_formatter(LogFormatter())
    latency.legend(loc="upper right", ncols=2)

    shown = np.isin(record.route, routes) & (record.status == 200)
    names = [v for i, v in enumerate(record.versions) if v and (record.version[shown] == i).any()]
    counts = np.array(
        [
            np.bincount(second[shown & (record.version == record.versions.index(v))], minlength=second[-1] + 1)[:-1]
            for v in names
        ]
    )
    total = np.maximum(counts.sum(axis=0), 1)
    share.stackplot(seconds, 100 * counts / total, labels=[titles.get(v, v) for v in names], step="pre", alpha=0.85)
    share.set(ylabel="share of the answers, %", xlabel="seconds", ylim=(0, 100), xlim=(0, seconds[-1]))
    share.legend(loc="lower left", fontsize="small", title="version that answered")

    for number, (when, _) in enumerate(events, start=1):
        for axes in (rate, latency, share):
            axes.axvline(when - start, color="black", linewidth=0.6, linestyle=":")
        rate.annotate(
            str(number), (when - start, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom", fontsize=8
        )
    text = "   ".join(f"{number} {what}" for number, (_, what) in enumerate(events, start=1))
    figure.suptitle(text, fontsize=8, wrap=True)
    figure.savefig(path, dpi=90)

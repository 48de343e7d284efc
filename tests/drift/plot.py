"""The index of a few features over the rows, while the traffic changes and comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from service.drift import Monitor
from service.settings import Settings
from tests.drift.streams import Rows, Shipped, feed, mixed

mpl.use("agg")

# Rows: as in training, more and more of them changed, all changed, and as in training again.
_PARTS = (2000, 2000, 1500, 4500)
_EACH = 50


@dataclass(frozen=True)
class Course:
    """What one stream of traffic gave.

    Attributes:
        title: What changed.
        share: Of changed rows, at each look.
        rows: Seen at each look.
        index: Feature -> its index at each look; NaN before there were enough rows.
        state: At each look.
    """

    title: str
    share: list[float]
    rows: list[int]
    index: dict[str, list[float]]
    state: list[str]


def course(model: Shipped, before: Rows, after: Rows, title: str, features: Sequence[str]) -> Course:
    """Feed traffic that changes and comes back."""
    first, rise, stay, last = _PARTS
    shares = np.concatenate([np.zeros(first), np.linspace(0, 1, rise), np.ones(stay), np.zeros(last)])
    found = Course(title, [], [], {name: [] for name in features}, [])
    traffic = mixed(before, after, shares, np.random.default_rng(0))
    for look, report in enumerate(feed(Monitor(model.bundle, Settings()), traffic, _EACH)):
        found.rows.append((look + 1) * _EACH)
        found.share.append(float(shares[look * _EACH]))
        found.state.append(report.state)
        for shift in report.shifts:
            if shift.name in found.index:
                found.index[shift.name].append(shift.psi if report.enough else np.nan)
    return found


def draw(courses: Sequence[Course], path: Path) -> None:
    """Write the picture."""
    figure = Figure(figsize=(10, 3 * len(courses)), layout="constrained")
    for axes, one in zip(np.atleast_1d(figure.subplots(len(courses), 1, sharex=True)), courses, strict=True):
        axes.axhspan(0.1, 0.25, color="tab:orange", alpha=0.12, linewidth=0)
        axes.axhspan(0.25, 20, color="tab:red", alpha=0.08, linewidth=0)
        for name, values in one.index.items():
            # An index of 0 has no place on a logarithmic axis.
            axes.plot(one.rows, np.maximum(values, 0.002), label=name, linewidth=1.4)
        axes.set(yscale="log", ylim=(0.002, 20), ylabel="PSI beyond chance", title=one.title)
        share = axes.twinx()
        share.fill_between(one.rows, np.multiply(one.share, 100), color="grey", alpha=0.15, linewidth=0)
        share.set(ylim=(0, 100), ylabel="changed rows, %")
        alarm = next((rows for rows, state in zip(one.rows, one.state, strict=True) if state != "none"), None)
        if alarm is not None:
            axes.axvline(alarm, color="black", linestyle=":", linewidth=1)
            axes.annotate("alarm", (alarm, 12), ha="right", fontsize=8)
        axes.legend(loc="lower right", fontsize=8, ncols=2)
    figure.supxlabel("rows")
    figure.savefig(path, dpi=90)

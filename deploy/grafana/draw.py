"""Draws a dashboard's panels with matplotlib, from a Prometheus that is asked the panels' own queries. Not Grafana."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from deploy.grafana.panels import Dashboard, Panel, Query

Range = Callable[[str], list[dict[str, Any]]]
"""Answers a query over time: label values in ``metric``, ``[seconds, "number"]`` pairs in ``values``."""

_COLUMNS, _ROW_INCHES, _INCHES = 24, 2.6, 15
_UNITS = {"s": "s", "bytes": "B", "reqps": "/s"}


def draw(page: Dashboard, ask: Range, variables: dict[str, str], path: Path) -> None:
    """Write a picture of ``page``.

    Args:
        page: What to draw.
        ask: Answers a query over the time to be drawn.
        variables: Name, with its dollar sign -> what stands in its place.
        path: PNG file to write.
    """
    lines = _lines_of(page)
    height = _ROW_INCHES * len(lines) + 0.6
    figure = Figure(figsize=(_INCHES, height))
    inside = {"left": 0.045, "right": 0.99, "bottom": 0.35 / height, "top": 1 - 0.85 / height}
    grid = figure.add_gridspec(len(lines), 1, hspace=0.4, **inside)
    for number, (title, panels) in enumerate(lines):
        row = grid[number].subgridspec(1, len(panels), width_ratios=[panel.width for panel in panels], wspace=0.18)
        for column, panel in enumerate(panels):
            axes = figure.add_subplot(row[column])
            above = f"{title}\n" if column == 0 else ""
            answers = [(query, ask(_filled(query.expr, variables))) for query in panel.queries]
            _panel(axes, panel, answers)
            axes.set_title(f"{above}{panel.title}", loc="left", fontsize=9, fontweight="bold")
    title = f"{page.title} (drawn by deploy/grafana/draw.py, not Grafana)"
    figure.text(0.01, 1 - 0.1 / height, title, ha="left", va="top", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _lines_of(page: Dashboard) -> list[tuple[str, list[Panel]]]:
    """Each row's heading and panels; a row that is too wide goes on in the next line."""
    lines: list[tuple[str, list[Panel]]] = []
    for title, panels in page.rows:
        lines.append((title.upper(), []))
        for panel in panels:
            if sum(one.width for one in lines[-1][1]) + panel.width > _COLUMNS:
                lines.append(("", []))
            lines[-1][1].append(panel)
    return lines


def _filled(expr: str, variables: dict[str, str]) -> str:
    for name, value in variables.items():
        expr = expr.replace(name, value)
    return expr


def _panel(axes: Axes, panel: Panel, answers: list[tuple[Query, list[dict[str, Any]]]]) -> None:
    series = [(query, one) for query, result in answers for one in result]
    if not series:
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"no data (needs {panel.needs or 'requests'})", ha="center", va="center", color="grey")
    elif panel.kind == "table":
        _table(axes, [one for _, one in series])
    elif panel.kind == "values":
        axes.set_axis_off()
        lines = [f"{_legend(query, one)}:  {float(one['values'][-1][1]):g}" for query, one in series]
        axes.text(0, 0.95, "\n".join(lines), va="top", fontsize=9)
    else:
        _lines(axes, panel, series)


def _table(axes: Axes, rows: list[dict[str, Any]]) -> None:
    axes.set_axis_off()
    names = sorted({name for row in rows for name in row["metric"]})
    # Only what is there now.
    now = max(row["values"][-1][0] for row in rows)
    cells = sorted([row["metric"].get(name, "") for name in names] for row in rows if row["values"][-1][0] == now)
    table = axes.table(cells, colLabels=names, loc="upper left", cellLoc="left", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    table.auto_set_column_width(list(range(len(names))))


def _lines(axes: Axes, panel: Panel, series: list[tuple[Query, dict[str, Any]]]) -> None:
    drawn = []
    for query, one in series:
        times = [_place(float(at)) for at, _ in one["values"]]
        numbers = [float(value) for _, value in one["values"]]
        drawn.append((_legend(query, one), times, numbers))
    if panel.kind == "stacked":
        every = sorted({at for _, times, _ in drawn for at in times})
        heights = [[dict(zip(times, numbers, strict=True)).get(at, 0.0) for at in every] for _, times, numbers in drawn]
        filled = [[0.0 if math.isnan(value) else value for value in row] for row in heights]
        axes.stackplot(every, filled, labels=[name for name, _, _ in drawn], alpha=0.7)
    else:
        for name, times, numbers in drawn:
            axes.plot(times, numbers, label=name, linewidth=1)
        axes.margins(y=0.15)
    if panel.unit == "percentunit":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif panel.unit in _UNITS:
        axes.yaxis.set_major_formatter(EngFormatter(_UNITS[panel.unit], sep=""))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=6, ncols=1 + len(drawn) // 7, loc="upper left", framealpha=0.6)


def _place(seconds: float) -> float:
    """Where a time lies on the axis."""
    return float(date2num(datetime.fromtimestamp(seconds, UTC)))  # type: ignore[no-untyped-call]


def _legend(query: Query, one: dict[str, Any]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: str(one["metric"].get(found[1], "")), query.legend).strip()

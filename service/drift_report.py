"""``GET /models/{model}/drift``: which feature moved, and by how much, in words and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.drift import Monitor
from service.drift_counts import LIMITS, Shift
from service.drift_watch import LEVELS
from service.drift_words import summary, words
from service.served import Served

_DIGITS = 4


@dataclass(frozen=True)
class Worker:
    """Which worker of how many says it, and what all of them say.

    Attributes:
        number: From 1.
        of: How many there are.
        levels: (model, alias) -> the worst worker's level of drift, as in the metrics.
    """

    number: int = 1
    of: int = 1
    levels: Mapping[tuple[str, ...], float] = field(default_factory=dict)


def drift_document(model: str, served: dict[str, Served], worker: Worker) -> dict[str, Any]:
    """What one worker has seen of each loaded version of ``model``, against the version's own training.

    Args:
        model: Name.
        served: Alias -> loaded version.
        worker: Whose view it is.
    """
    versions = [
        _version(alias, found, found.monitor, worker.levels.get((model, alias), 0.0))
        for alias, found in sorted(served.items())
        if found.monitor is not None
    ]
    return {
        "model": model,
        "worker": {"number": worker.number, "of": worker.of},
        "limits": {"moderate": LIMITS["moderate"], "major": LIMITS["major"]},
        "versions": versions,
    }


def _version(alias: str, served: Served, monitor: Monitor, level: float) -> dict[str, Any]:
    report = monitor.report
    # What others saved may be half a second old, what this one has seen is not.
    worst = max(level, LEVELS[report.state] if report.enough else 0.0)
    return {
        "version": served.manifest.version,
        "alias": alias,
        "state": report.state if report.enough else "too few rows",
        "worst_worker": next(state for state, value in LEVELS.items() if value == worst),
        "summary": summary(report),
        "rows": report.rows,
        "rows_not_counted": report.shed,
        "window_rows": round(report.window),
        "least_rows": report.least_rows,
        "half_life_rows": monitor.half_life,
        "reference_rows": monitor.reference_rows,
        "inputs": [_feature(shift, enough=report.enough) for shift in report.inputs],
        "outputs": [_feature(shift, enough=report.enough) for shift in report.outputs],
    }


def _feature(shift: Shift, *, enough: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"feature": shift.name, "unit": shift.unit, "state": shift.state}
    found["psi"] = round(shift.psi, _DIGITS) if enough else None
    if enough:
        found["chance"] = round(shift.chance, _DIGITS)
        found["words"] = words(shift)
    if shift.means and shift.deviations:
        found["mean"] = {"training": _round(shift.means[0]), "now": _round(shift.means[1])}
        found["deviation"] = {"training": _round(shift.deviations[0]), "now": _round(shift.deviations[1])}
    found["independent_rows"] = round(shift.independent_rows)
    found["outside_training"] = shift.outside
    found["bins"] = list(shift.vocabulary) if shift.vocabulary else list(shift.edges)
    if shift.missing:
        found["missing"] = "the last share"
    found["shares"] = {"training": _rounded(shift.before), "now": _rounded(shift.now)}
    return found


def _round(value: float) -> float:
    return float(f"{value:.6g}")


def _rounded(shares: tuple[float, ...]) -> list[float]:
    return [round(share, _DIGITS) for share in shares]

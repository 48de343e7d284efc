"""How one feature of the live rows is spread over the bins of its reference statistics; older rows count less."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.stability import MUCH, SOME, chance, expected, index

NONE, MODERATE, MAJOR = "none", "moderate", "major"
LIMITS = {MAJOR: MUCH, MODERATE: SOME}
# An alarm ends below this share of the limit that began it: at the limit itself it would come and go.
_RELEASE = 0.8
# Neighbouring rows that are all but equal still count as this many times fewer independent ones, at most.
_MOST_ALIKE = 0.999
_PIXEL_VALUES = 256


@dataclass(frozen=True, eq=False)
class Shift:
    """How far one feature moved; a snapshot.

    Attributes:
        name: Of the feature.
        unit: Of its values, if any.
        psi: Population stability index less what chance alone gives on average; at least 0.
        chance: What the index of rows without any change exceeds once in a thousand times.
        state: none, moderate or major.
        independent_rows: Rows that say as much as these do, each drawn on its own.
        edges: Of a number's bins.
        vocabulary: Of a category or label.
        missing: Whether the last bin is that of missing values.
        before: Share of each bin in training.
        now: Share of each bin now; empty while there are no rows.
        means: In training and now; None for categories.
        deviations: Likewise.
        outside: Rows since the beginning with a value that no row of the reference has.
    """

    name: str
    unit: str | None
    psi: float
    chance: float
    state: str
    independent_rows: float
    edges: tuple[float, ...]
    vocabulary: tuple[str, ...]
    missing: bool
    before: tuple[float, ...]
    now: tuple[float, ...]
    means: tuple[float, float] | None
    deviations: tuple[float, float] | None
    outside: int


class Counts:
    """Decayed counts of one feature.

    Args:
        entry: Its reference statistics, as `training.reference` writes them.
        before: Independent rows of the reference.

    Raises:
        KeyError, TypeError, ValueError: The entry is none.
    """

    def __init__(self, entry: dict[str, Any], before: float) -> None:
        self.name: str = entry["name"]
        self._unit: str | None = entry["unit"]
        self._vocabulary = tuple(entry.get("values", ()))
        self._edges = np.array(entry.get("edges", ()), np.float64)
        self._missing = "missing" in entry
        bins = entry["counts"] + ([entry["missing"]] if self._missing else [])
        self._reference = np.array(bins, np.float64)
        if len(self._reference) < 2 and not self._vocabulary:
            raise ValueError(f"{self.name} has fewer than two bins")
        # A picture has many values a row: scaled to rows, so that reference and traffic weigh the same.
        self._reference *= before / max(1.0, self._reference.sum())
        self._before = before
        self._moments = (entry["mean"], entry["deviation"]) if "mean" in entry else None
        self._range = (entry.get("low", -np.inf), entry.get("high", np.inf))
        self._pixel_bins = np.searchsorted(self._edges[1:-1], np.arange(_PIXEL_VALUES), side="right")
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._now = np.zeros(len(self._reference))
        self._alike = self._weight = 0.0
        self._last = -1
        self._sums = np.zeros(3)  # Of weights, values and squares, missing ones left out.
        self._state = NONE
        self.outside = 0

    @property
    def is_category(self) -> bool:
        """Whether the values are words of a vocabulary."""
        return bool(self._vocabulary)

    def add(self, values: NDArray[Any], weights: NDArray[np.float64], fade: float) -> int:
        """Count rows; how many of them have a value that no row of the reference has.

        Args:
            values: (n,) or (n, many), as `models.features` makes them.
            weights: (n,), what each row counts.
            fade: What the rows before count from now on, 0 to 1.
        """
        codes = self._codes(values)
        each = codes.reshape(len(codes), -1)
        many = each.shape[1]
        counted = np.bincount(each.ravel(), np.repeat(weights / many, many), minlength=len(self._now))
        self._now = self._now * fade + counted
        ones = codes if codes.ndim == 1 else self._codes(values.mean(axis=1))
        alike = ones == np.concatenate([[self._last], ones[:-1]])
        self._alike = self._alike * fade + float(weights @ alike)
        self._weight = self._weight * fade + float(weights.sum())
        self._last = int(ones[-1])
        if self._moments is not None:
            self._sums = self._sums * fade + _moments(values, weights)
        beyond = self._beyond(values, ones)
        self.outside += beyond
        return beyond

    def _codes(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """The bin of each value; what is missing has the last one."""
        if values.dtype == np.uint8:
            bins: NDArray[np.intp] = self._pixel_bins[values]
            return bins
        absent = np.isnan(values) if self._missing else None
        if self._vocabulary:
            present = values if absent is None else np.where(absent, 0, values)
            codes = np.clip(present.astype(np.intp), 0, len(self._vocabulary) - 1)
        else:
            codes = np.searchsorted(self._edges[1:-1], values, side="right")
        return codes if absent is None else np.where(absent, len(self._reference) - 1, codes)

    def _beyond(self, values: NDArray[Any], codes: NDArray[np.intp]) -> int:
        if self._vocabulary:
            return int((self._reference[codes] == 0).sum())
        rows = values.reshape(len(values), -1)
        return int(((rows < self._range[0]) | (rows > self._range[1])).any(axis=1).sum())

    def shift(self, rows: float, *, enough: bool) -> Shift:
        """How far the feature has moved; keeps the state for the next time.

        Args:
            rows: Rows of equal weight that say as much as the decayed ones.
            enough: Whether that suffices to say anything.
        """
        independent = float(max(1.0, rows / self._design_effect()))
        psi = by_chance = 0.0
        if enough:
            # Rows as they count, so that half a row in each bin is half an independent one.
            now = self._now * independent / self._weight
            bins = int(((self._reference > 0) | (now > 0)).sum())
            found = index(self._reference, now)
            psi = max(0.0, float(found - expected(bins, self._before, independent)))
            by_chance = chance(max(2, bins), self._before, independent)
            self._state = next_state(self._state, psi, beyond_chance=found > by_chance)
        means = deviations = None
        if self._moments is not None and self._sums[0] > 0:
            mean = self._sums[1] / self._sums[0]
            deviation = np.sqrt(max(0.0, self._sums[2] / self._sums[0] - mean**2))
            means, deviations = (self._moments[0], float(mean)), (self._moments[1], float(deviation))
        return Shift(
            name=self.name,
            unit=self._unit,
            psi=psi,
            chance=by_chance,
            state=self._state,
            independent_rows=independent if self._weight else 0.0,
            edges=tuple(self._edges.tolist()),
            vocabulary=self._vocabulary,
            missing=self._missing,
            before=tuple((self._reference / max(1.0, self._reference.sum())).tolist()),
            now=tuple((self._now / self._weight).tolist()) if self._weight else (),
            means=means,
            deviations=deviations,
            outside=self.outside,
        )

    def _design_effect(self) -> float:
        """How many rows, as they arrive, say as much as one drawn on its own (Rao and Scott 1981, JASA 76:221-230).

        From how much oftener than by chance a row falls into the bin of the one before it, as in a Markov chain.
        """
        if self._weight <= 0:
            return 1.0
        by_chance = float(((self._now / self._weight) ** 2).sum())
        if by_chance >= 1:
            return 1.0
        alike = min(max((self._alike / self._weight - by_chance) / (1 - by_chance), 0.0), _MOST_ALIKE)
        return (1 + alike) / (1 - alike)


def next_state(before: str, psi: float, *, beyond_chance: bool) -> str:
    """The state that follows from an index, and from the state before it."""
    for state, limit in LIMITS.items():
        if psi >= limit and beyond_chance:
            return state
        if before == state and psi >= _RELEASE * limit:
            return state
        if before == MAJOR and state == MODERATE and psi >= _RELEASE * limit:
            return state
    return NONE


def _moments(values: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of weights, weighted values and their squares; what is missing is left out."""
    if values.ndim > 1:
        squares = np.square(values, dtype=np.float64).mean(axis=1)
        return np.array([weights.sum(), weights @ values.mean(axis=1, dtype=np.float64), weights @ squares])
    present = ~np.isnan(values)
    numbers, weights = values[present].astype(np.float64), weights[present]
    return np.array([weights.sum(), weights @ numbers, weights @ numbers**2])

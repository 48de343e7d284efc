"""Whether what a version is asked, and what it answers, is spread as in training. Beside the path of the requests.

A batch that was answered is put into a short list, which takes about a microsecond. Twice a second one thread counts
what lies there, for at most a twentieth of a core; what finds the list full is not counted, and that is said. Older
rows count less and less, so that the window follows the traffic and needs no memory of rows.
"""

import logging
import time
from collections import Counter as Tally
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.errors import BundleError
from models.features import Feature, input_features, output_features
from models.task import Sequences
from service.drift_counts import LIMITS, NONE, Counts, Shift
from service.settings import Settings

logger = logging.getLogger(__name__)

# Rows that may wait for the thread's next turn: at most, at least, and between these as many as have so many values, so
# that a turn takes milliseconds for pictures of any size.
_MOST_ROWS, _LEAST_ROWS, _MOST_VALUES = 256, 8, 2**18
# Counted in parts of so many values, a third of a millisecond each, with a pause between two. Seconds.
_PART_VALUES, _BREATH_S = 2**14, 0.005


@dataclass(frozen=True, eq=False)
class Report:
    """What one version's traffic looks like; a snapshot.

    Attributes:
        rows: Rows counted since the beginning.
        shed: Rows that were not counted, because too many came at once.
        window: Rows of equal weight that say as much as the decayed ones.
        least_rows: So many must they be before anything is said.
        inputs: A shift for each feature of what goes in.
        outputs: And of what comes out.
    """

    rows: int
    shed: int
    window: float
    least_rows: int
    inputs: tuple[Shift, ...]
    outputs: tuple[Shift, ...]

    @property
    def enough(self) -> bool:
        """Whether there are enough rows to say anything."""
        return self.window >= self.least_rows

    @property
    def shifts(self) -> tuple[Shift, ...]:
        """Those of inputs and outputs, largest first."""
        return tuple(sorted(self.inputs + self.outputs, key=lambda shift: -shift.psi))

    @property
    def state(self) -> str:
        """The worst state of any feature."""
        states = {shift.state for shift in self.shifts}
        return next((state for state in LIMITS if state in states), NONE)


class Monitor:
    """Watches one loaded version.

    Args:
        bundle: Its reference statistics are what its traffic is compared with.
        settings: Half-life and least rows.

    Raises:
        BundleError: The bundle has no such statistics.
    """

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        self._task = task = bundle.manifest.task
        reference = bundle.reference()
        try:
            # Windows of a series overlap: as many independent ones as stretches that share no step.
            self.reference_rows: int = reference["rows"]
            before = max(1.0, self.reference_rows / (task.lookback if isinstance(task, Sequences) else 1))
            self._inputs = [Counts(entry, before) for entry in reference["inputs"]]
            self._outputs = [Counts(entry, before) for entry in reference["outputs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{bundle.manifest.name}: no usable reference statistics ({error!r})") from None
        self.half_life, self._least_rows = settings.drift_half_life_rows, settings.drift_min_rows
        self._fade = 0.5 ** (1 / self.half_life)
        size = int(np.prod(task.input_shape))
        self._most = max(_LEAST_ROWS, min(_MOST_ROWS, _MOST_VALUES // size))
        self._at_once = max(1, _PART_VALUES // size)
        self._waiting: list[tuple[NDArray[Any], NDArray[np.float32]]] = []
        self._room = self._most
        self._shed = self._rows = 0
        self._weight = self._square = 0.0
        self._anew = False
        self._news = 0
        self._outside: Tally[tuple[str, bool]] = Tally()
        self.report = self._look()

    def offer(self, rows: NDArray[Any], outputs: NDArray[np.float32], _: float) -> None:
        """Called after each batch, on the loop or in an engine's thread, with outputs that are finite."""
        if self._room > 0:
            self._room -= len(rows)
            self._waiting.append((rows, outputs))
        else:
            self._shed += len(rows)

    def news(self) -> tuple[int, Tally[tuple[str, bool]]]:
        """Since the last call: rows, and those with a value that training lacked, by feature and whether a category."""
        rows, outside = self._news, self._outside
        self._news, self._outside = 0, Tally()
        return rows, outside

    def forget(self) -> None:
        """Begin anew, as another role brings other traffic; from any thread."""
        self._waiting, self._room = [], self._most
        self._anew = True

    def turn(self) -> None:
        """Count what waits and look at it; in one thread at a time."""
        waiting, self._waiting = self._waiting, []
        self._room = self._most
        anew, self._anew = self._anew, False
        if anew:
            self._begin()
        if waiting:
            rows = np.concatenate([rows[: self._most] for rows, _ in waiting])[: self._most]
            outputs = np.concatenate([outputs[: self._most] for _, outputs in waiting])[: self._most]
            self._shed += sum(len(rows) for rows, _ in waiting) - len(rows)
            for start in range(0, len(rows), self._at_once):
                if start:
                    # Whoever waits for Python's lock gets it between two parts, not after all of them.
                    time.sleep(_BREATH_S)
                self._count(rows[start : start + self._at_once], outputs[start : start + self._at_once])
        if anew or waiting:
            self.report = self._look()

    def _begin(self) -> None:
        for counts in self._inputs + self._outputs:
            counts.forget()
        self._shed = self._rows = 0
        self._weight = self._square = 0.0

    def _count(self, rows: NDArray[Any], outputs: NDArray[np.float32]) -> None:
        weights = self._fade ** np.arange(len(rows) - 1, -1, -1)
        fade = self._fade ** len(rows)
        self._rows += len(rows)
        self._news += len(rows)
        self._weight = self._weight * fade + weights.sum()
        self._square = self._square * fade**2 + (weights**2).sum()
        # Not `+=`, which would lose the features with none.
        self._outside.update(_add(self._inputs, input_features(self._task, rows), weights, fade))
        _add(self._outputs, output_features(self._task, outputs), weights, fade)

    def _look(self) -> Report:
        window = self._weight**2 / self._square if self._square else 0.0
        enough = window >= self._least_rows
        inputs, outputs = (
            tuple(counts.shift(window, enough=enough) for counts in side) for side in (self._inputs, self._outputs)
        )
        return Report(self._rows, self._shed, window, self._least_rows, inputs, outputs)


def _add(
    watched: list[Counts], features: list[Feature], weights: NDArray[np.float64], fade: float
) -> Tally[tuple[str, bool]]:
    values = {feature.name: feature.values for feature in features}
    return Tally({(c.name, c.is_category): c.add(values[c.name], weights, fade) for c in watched})


def monitor_of(bundle: Bundle, settings: Settings) -> Monitor | None:
    """What watches a version; None where it has nothing to be compared with, or nobody wants it."""
    if not settings.drift:
        return None
    try:
        return Monitor(bundle, settings)
    except BundleError as error:
        logger.warning("%s; its drift is not watched", error)
        return None

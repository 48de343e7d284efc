"""Whether new rows are distributed as those that a version was trained on: the population stability index.

Few rows give a high index by chance alone (`models.stability`), so that it counts only above what one of a thousand
samples exceeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from models.stability import MUCH, SOME, chance, index
from models.task.sequences import Sequences
from training.fingerprints import fingerprints
from training.reference import inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from models.bundle import Bundle
    from training.split import Split

SEVERAL = 2


@dataclass(frozen=True)
class Shift:
    """How far one feature moved.

    Attributes:
        name: Of the feature.
        index: Population stability index.
        chance: What one of a thousand samples from the same distribution exceeds.
    """

    name: str
    index: float
    chance: float

    def exceeds(self, limit: float) -> bool:
        """Whether it is above the limit, and not by chance."""
        return self.index > max(limit, self.chance)


def new_rows(bundle: Bundle, split: Split) -> NDArray[Any]:
    """Training and validation rows that the version was not trained on; all of them where it does not say.

    Test rows are left out: they are no news only because a version is never trained on them.
    """
    rows: NDArray[Any] = np.concatenate([split.train.rows, split.validation.rows])
    known = bundle.trained_rows()
    return rows if known is None else rows[~np.isin(fingerprints(rows), known)]


def shifts(bundle: Bundle, rows: NDArray[Any]) -> list[Shift]:
    """Each input feature's shift from the version's reference statistics, largest first.

    Args:
        bundle: The version.
        rows: At least one, in the version's own schema or one that breaks nothing of it.
    """
    task, reference = bundle.manifest.task, bundle.reference()
    # Windows of a series overlap: as many independent ones as stretches that share no step.
    each = task.lookback if isinstance(task, Sequences) else 1
    before, now = max(1, reference["rows"] // each), max(1, len(rows) // each)
    found = []
    for old, new in zip(reference["inputs"], inputs(task, rows, reference["inputs"]), strict=True):
        counts = _aligned(old, new)
        found.append(Shift(old["name"], index(*counts), chance(len(counts[0]), before, now)))
    return sorted(found, key=lambda shift: -shift.index)


def drifted(found: Sequence[Shift]) -> list[Shift]:
    """The features that moved: any one by much, or several by some; none where that is not so."""
    some = [shift for shift in found if shift.exceeds(SOME)]
    return some if len(some) >= SEVERAL or any(shift.exceeds(MUCH) for shift in some) else []


def _aligned(old: dict[str, Any], new: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts of the same bins; a new category and what is missing are bins of their own."""
    size = max(len(old["counts"]), len(new["counts"]))
    both = [np.pad(np.array(entry["counts"], np.float64), (0, size - len(entry["counts"]))) for entry in (old, new)]
    if "missing" in old or "missing" in new:
        both = [np.append(counts, entry.get("missing", 0)) for counts, entry in zip(both, (old, new), strict=True)]
    return both[0], both[1]

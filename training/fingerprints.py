"""Which rows a version was trained on: 32 bits of a hash for each, so that a later version is judged on others.

A row is known by its input alone. A row that was trained on with another answer, since corrected, counts as known too:
the version may have learned the old answer by heart.

32 bits: two different rows agree once in four billion pairs, and then a row too many is left out, never one too few.
More bits would make it easier to tell from a bundle whether a record that somebody guessed was in the data.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.split import Part


def fingerprints(rows: NDArray[Any]) -> NDArray[np.uint32]:
    """One number a row.

    Args:
        rows: (n, ...), as the model takes them.

    Returns:
        (n,): the first bytes of BLAKE2b of a row's little-endian bytes; -0 and 0 are the same, and so is every NaN.
    """
    return np.array([_number(row) for row in _canonical(rows)], np.uint32)


def shares(rows: NDArray[Any]) -> NDArray[np.float64]:
    """A number from 0 to 1 for each row that stays when other rows come or go, to part rows by.

    Rows that are equal get different numbers, by how many of them came before: they would all be in one part otherwise.
    """
    before: Counter[bytes] = Counter()
    numbers = []
    for row in _canonical(rows):
        numbers.append(_number(row + before[row].to_bytes(8, "little")))
        before[row] += 1
    return np.array(numbers, np.float64) / 2**32


def trained_on(parts: tuple[Part, ...], inherited: NDArray[np.uint32] | None = None) -> NDArray[np.uint32]:
    """Fingerprints of every row that decided weights or constants, sorted, each once.

    Args:
        parts: Training and validation rows.
        inherited: Those of the version whose weights the training began with.
    """
    found = [fingerprints(part.rows) for part in parts]
    return np.unique(np.concatenate(found if inherited is None else [*found, inherited]))


def _canonical(rows: NDArray[Any]) -> list[bytes]:
    if rows.dtype.kind == "f":
        rows = np.where(np.isnan(rows), np.float32(np.nan), rows + np.float32(0))
    ordered = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
    return [row.tobytes() for row in ordered]


def _number(row: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(row, digest_size=4).digest(), "little")

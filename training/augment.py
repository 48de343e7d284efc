"""What training does to pictures, on NumPy: a function of the pictures and a random generator alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from training.choices import Augment


def augment(pictures: np.ndarray, config: Augment, rng: np.random.Generator) -> np.ndarray:
    """Shift, mirror and erase.

    Args:
        pictures: (n, height, width, channels); unchanged. Other rows pass when `config` asks for nothing.
        config: How much of each.
        rng: Decides all of it.

    Returns:
        The same shape and dtype.
    """
    if config.shift:
        pictures = _shifted(pictures, config.shift, rng)
    if config.flip:
        mirrored = rng.random(len(pictures)) < 0.5
        pictures = np.where(mirrored[:, None, None, None], pictures[:, :, ::-1], pictures)
    if config.erase:
        pictures = _erased(pictures, config.erase, rng)
    return pictures


def _shifted(pictures: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    height, width = pictures.shape[1:3]
    padded = np.pad(pictures, ((0, 0), (most, most), (most, most), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, right = rng.integers(0, 2 * most + 1, (2, len(pictures)))
    # (n, channels, height, width): the windowed axes come last.
    return np.moveaxis(windows[np.arange(len(pictures)), down, right], 1, -1)


def _erased(pictures: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    pictures = pictures.copy()
    height, width = pictures.shape[1:3]
    for index in np.flatnonzero(rng.random(len(pictures)) < share):
        area, ratio = rng.uniform(0.02, 0.2) * height * width, np.exp(rng.uniform(np.log(0.4), np.log(2.5)))
        tall = int(np.clip(round(np.sqrt(area * ratio)), 1, height))
        wide = int(np.clip(round(np.sqrt(area / ratio)), 1, width))
        top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
        pictures[index, top : top + tall, left : left + wide] = rng.integers(0, 256)
    return pictures

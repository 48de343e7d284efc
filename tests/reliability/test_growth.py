"""The soak's criterion can fail, and does not by noise."""

import numpy as np
import pytest

from tests.reliability.growth import is_flat, slope

SECONDS = np.arange(300.0)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1000, len(SECONDS))


def test_a_leak_of_two_kib_a_request_is_seen_within_five_minutes() -> None:
    leaking = 150_000 + 2 * 40 * SECONDS + noise(0)
    assert slope(SECONDS, leaking) == pytest.approx(60 * 80, rel=0.1)
    assert not is_flat(SECONDS, leaking)


def test_a_leak_of_a_hundred_bytes_a_request_is_seen_within_half_an_hour() -> None:
    seconds = np.arange(1800.0)
    steps = np.where((seconds // 20) % 2, 1500, 0)
    assert not is_flat(seconds, 150_000 + 40 * 100 / 1024 * seconds + steps)
    assert is_flat(seconds, 150_000 + steps)


@pytest.mark.parametrize("seed", range(10))
def test_what_fills_in_the_first_half_and_steps_of_the_allocator_are_no_leak(seed: int) -> None:
    steps = np.where((SECONDS // 20) % 2, 1500, 0)
    assert is_flat(SECONDS, 150_000 + 40_000 * (1 - np.exp(-SECONDS / 20)) + steps + noise(seed))


def test_too_few_samples_say_nothing() -> None:
    with pytest.raises(ValueError, match="20 samples"):
        slope([0, 1, 2], [1, 1, 1])

"""Hours of steady load in minutes: SOAK_MINUTES=30, or another length."""

import os
from pathlib import Path

import pytest

from tests.figures import Figure
from tests.redeploy import offered
from tests.reliability.growth import ALLOWED_KIB, is_flat, rise, slope
from tests.reliability.soak import Soak, soak

MINUTES = float(os.environ.get("SOAK_MINUTES", "30"))
CONTROL_MINUTES = 1.0
LEAKY = Path(offered.__file__).parent / "leaky"


def told(found: Soak) -> str:
    later = found.answered[-1] - found.answered[len(found.answered) // 2]
    return (
        f"{found.requests} requests, {len(found.wrong)} wrong, {found.kib[0] / 1024:.0f} -> {found.kib[-1] / 1024:.0f} "
        f"MiB since it was full, {slope(found.seconds, found.kib):+.0f} KiB a minute in the second half, "
        f"{1024 * rise(found.seconds, found.kib) / later:+.0f} bytes a request"
    )


@pytest.mark.slow
@pytest.mark.timeout(60 * (MINUTES + CONTROL_MINUTES) + 900)
@pytest.mark.reliability(24, "A soak over all models and protocols: memory does not grow, and a leak would be seen")
def test_memory_does_not_grow_under_steady_load_and_that_of_a_leaking_server_does(
    tmp_path: Path, figure: Figure
) -> None:
    (tmp_path / "leaky").mkdir()
    whole = soak(tmp_path, MINUTES)
    control = soak(tmp_path / "leaky", CONTROL_MINUTES, PYTHONPATH=f"{LEAKY}", LEAK="batches")
    figure(
        f"{MINUTES:g} minutes: {told(whole)}, in all {rise(whole.seconds, whole.kib):+.0f} (accepted: {ALLOWED_KIB}); "
        f"of a server that keeps 8 KiB a batch, {CONTROL_MINUTES:g} minute: {slope(control.seconds, control.kib):+.0f}"
    )
    assert whole.wrong == []
    assert is_flat(whole.seconds, whole.kib)
    assert not is_flat(control.seconds, control.kib), "the criterion does not see a leak"
    half = len(whole.descriptors) // 2
    assert max(whole.descriptors[half:]) <= max(whole.descriptors[:half]) + 5

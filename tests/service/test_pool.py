"""What the collector of a worker does beside its requests; the loads themselves are in test_loader*.py."""

import gc
from collections.abc import Iterator

import pytest

from service.pool import settle_garbage


class Call:
    """Refers to itself, as what gRPC leaves of a call does: only the collector lets go of it."""

    __slots__ = ("itself",)

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def let_go() -> Iterator[list[int]]:
    """How many objects each collection has let go of."""
    before, found = gc.get_threshold(), list[int]()

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            found.append(info["collected"])

    gc.callbacks.append(note)
    yield found
    gc.callbacks.remove(note)
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_calls_leave_behind_is_let_go_of_in_small_parts(let_go: list[int]) -> None:
    settle_garbage(collect=False)
    for _ in range(45_000):
        Call()
    # 10,000 hold up the loop of a real server for 3 ms; a few more may be pytest's own.
    assert 9_000 < max(let_go) <= 10_100

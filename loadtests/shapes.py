"""How many users there are when: pure functions of time, so that their tests need no load."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

STEPS = 5
RECOVERY_S = 5.0
"""After an overload has ended, requests may be refused for as long."""
_BASE = 0.1
# By which the clocks of locust's processes, each from its own start, may differ.
_APART_S = 2.0
_OVER_FROM, _OVER_TO = 0.2, 0.7


@dataclass(frozen=True)
class Run:
    """One load test.

    Attributes:
        users: The most there will be.
        seconds: Its length.
    """

    users: int
    seconds: float

    def at_least_one(self, share: float) -> int:
        """That share of the users."""
        return max(1, round(self.users * share))


def steady(run: Run, _: float) -> int:
    """All of them, all the time."""
    return run.users


def step(run: Run, now: float) -> int:
    """Five steps up, of the same height and length."""
    return run.at_least_one((int(STEPS * now / run.seconds) + 1) / STEPS)


def spike(run: Run, now: float) -> int:
    """A tenth of them, but all in the fifth in the middle."""
    return run.users if 0.4 <= now / run.seconds < 0.6 else run.at_least_one(_BASE)


def overload(run: Run, now: float) -> int:
    """A tenth of them; from a fifth of the time on all, which are meant to be too many; a tenth again at the end."""
    return run.users if _OVER_FROM <= now / run.seconds < _OVER_TO else run.at_least_one(_BASE)


Shape = Callable[[Run, float], int]
"""Of the run and the seconds since its start: users."""
SHAPES = MappingProxyType(
    {"steady": steady, "step": step, "spike": spike, "soak": steady, "overload": overload, "redeploy": steady}
)
"""``soak`` is steady for long, ``redeploy`` while versions are switched."""
SECONDS = MappingProxyType({"soak": 1800, "step": 50, "spike": 30, "overload": 40, "redeploy": 30})
"""Default lengths; of others 20."""


def users_at(shape: str, run: Run, now: float) -> int | None:
    """How many users there should be ``now`` seconds after the start; None at the end."""
    return None if now >= run.seconds else SHAPES[shape](run, now)


def may_refuse(shape: str, run: Run, now: float) -> bool:
    """Whether an answer that came ``now`` may be a refusal: while there are too many users, and shortly after."""
    first, last = _OVER_FROM * run.seconds - _APART_S, _OVER_TO * run.seconds + RECOVERY_S
    return shape == "overload" and first <= now < last

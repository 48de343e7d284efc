"""Whose batch runs next on the event loop, where several models are busy."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

Turn = Callable[[asyncio.AbstractEventLoop], bool]
"""Dispatches what one model has queued; whether a batch ran on the loop itself."""

_TOGETHER_S = 0.05
"""Seconds for which several models count as busy after one has run a batch on the loop behind another's."""


class Turns:
    """Gives the models of one worker their turns, one after the other, and one batch a turn of the event loop.

    Between two batches answers go out and requests come in; however many models are busy, nobody waits for more than
    one batch of each. A batch has few requests while several are busy, since besides what it computes each of them
    takes some 0.1 ms to be read and answered.
    """

    def __init__(self) -> None:
        self._waiting: deque[Turn] = deque()
        self._scheduled = False
        self._last: Turn | None = None
        self._shared_until = 0.0

    def shared(self, now: float) -> bool:
        """Whether several models have had turns of late; ``now`` in `time.perf_counter` seconds."""
        return now < self._shared_until

    def wait(self, loop: asyncio.AbstractEventLoop, turn: Turn) -> None:
        """Queue a turn; it comes once what is being read in this turn of the loop is queued too."""
        self._waiting.append(turn)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._waiting
        try:
            # A turn that only starts a thread takes no time of the loop's.
            for _ in range(len(waiting)):
                turn = waiting.popleft()
                if turn(loop):
                    if self._last not in {None, turn}:
                        self._shared_until = perf_counter() + _TOGETHER_S
                    self._last = turn
                    break
        finally:
            self._scheduled = bool(waiting)
            if waiting:
                loop.call_soon(self._next, loop)

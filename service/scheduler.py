"""Whose batch runs next on the event loop, where several models are busy."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

Dispatch = Callable[[asyncio.AbstractEventLoop], bool]
"""Begins a batch of what one model has queued; whether a batch ran on the loop itself."""

_TOGETHER_S = 0.05
"""Seconds for which several models count as busy after one has run a batch on the loop behind another's."""


class Scheduler:
    """Gives the models of one worker their turns, one after the other, and one batch a turn of the event loop.

    Between two batches answers go out and requests come in; however many models are busy, nobody waits for more than
    one batch of each. A batch has few requests while several are busy, since besides what it computes each of them
    takes some 0.1 ms to be read and answered.
    """

    def __init__(self) -> None:
        self._waiting: deque[Dispatch] = deque()
        self._scheduled = False
        self._last: Dispatch | None = None
        self._contended_until = 0.0

    def is_contended(self, now: float) -> bool:
        """Whether several models have had turns of late; ``now`` in `time.perf_counter` seconds."""
        return now < self._contended_until

    def schedule(self, loop: asyncio.AbstractEventLoop, dispatch: Dispatch) -> None:
        """Queue a turn; it comes once what is being read in this turn of the loop is queued too."""
        self._waiting.append(dispatch)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = self._waiting
        try:
            # A turn that only starts a thread takes no time of the loop's.
            for _ in range(len(waiting)):
                dispatch = waiting.popleft()
                if dispatch(loop):
                    if self._last not in {None, dispatch}:
                        self._contended_until = perf_counter() + _TOGETHER_S
                    self._last = dispatch
                    break
        finally:
            self._scheduled = bool(waiting)
            if waiting:
                loop.call_soon(self._next, loop)

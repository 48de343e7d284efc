"""Whose batch runs next on the event loop, where several models are busy."""

import asyncio
from collections import deque
from collections.abc import Callable

Turn = Callable[[asyncio.AbstractEventLoop], bool]
"""Dispatches what one model has queued; whether a batch ran on the loop itself."""


class Turns:
    """Gives the models of one worker their turns, one after the other, and one batch a turn of the event loop.

    Between two batches answers go out and requests come in; however many models are busy, nobody waits for more than
    one batch of each.
    """

    def __init__(self) -> None:
        self._waiting: deque[Turn] = deque()
        self._scheduled = False

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
                if waiting.popleft()(loop):
                    break
        finally:
            self._scheduled = bool(waiting)
            if waiting:
                loop.call_soon(self._next, loop)

"""Who wants to know as soon as this worker is ready, or not any more: one look in a while for all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable

from models.errors import ServingError
from service.errors import QueueFullError

# How soon those who watch hear of a change. Seconds.
_LOOK_S = 0.25
_MOST_WATCHERS = 1000


class TooManyWatchersError(QueueFullError):
    """One more would be one too many."""

    def __init__(self) -> None:
        self.retry_after = 60.0
        rule = f"At most {_MOST_WATCHERS} clients watch the health of one worker."
        ServingError.__init__(self, f"{rule} Received: one more. Ask with Check now and then instead.")


class Readiness:
    """Tells any number of watchers of each change.

    Args:
        ready: Whether new requests should come here, now.
    """

    def __init__(self, ready: Callable[[], bool]) -> None:
        self._ready = ready
        self._known = False
        self._changed = asyncio.Event()
        self._watchers = 0
        self._looking: asyncio.Task[None] | None = None

    async def changes(self) -> AsyncIterator[bool]:
        """Whether this worker is ready, and then each change of it, without end.

        Raises:
            TooManyWatchersError: So many watch already that one more would be one too many.
        """
        if self._watchers >= _MOST_WATCHERS:
            raise TooManyWatchersError
        self._watchers += 1
        if self._looking is None:
            self._known = self._ready()
            self._looking = asyncio.create_task(self._look(), name="readiness")
        try:
            while True:
                changed = self._changed
                yield self._known
                await changed.wait()
        finally:
            self._watchers -= 1
            if not self._watchers and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            if (now := self._ready()) != self._known:
                self._known = now
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()

"""Pictures are decoded beside the event loop, in bounded memory, and no request's in a row that others wait for."""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import Final, TypeVar

from service.decode.picture import Pictures, Row, Seen, decode_pictures
from service.errors import QueueFullError

# Of pictures that are decoded in a row: some 20 ms. A larger one has a turn of its own. Pixels or bytes.
_TURN: Final = 1_000_000
_THREADS: Final = 4
# What each turn leaves of the speed that those before it had: the last twenty count.
_KEPT: Final = 0.95

Done = TypeVar("Done")


class PictureDecoder:
    """Decodes pictures: small ones in asyncio's threads, as other bodies, and large ones in threads of its own.

    Each request has one turn at a time, so that all go on; when it is cancelled, because its sender left or its
    deadline passed, the turn that has begun is its last. All large ones together have as many pixels at once as the
    largest may have alone, so that a worker's memory does not depend on what arrives.

    Args:
        max_pixels: That a picture may have.
        max_wait_s: Longest wait for a large one's first turn, as expected by what turns took so far. Seconds.
    """

    def __init__(self, max_pixels: int, max_wait_s: float = math.inf) -> None:
        self._max_wait_s = max_wait_s
        # Of turns, later ones counting more: their cost, and the seconds from the end of one to that of the next.
        self._cost_done, self._seconds, self._since = 0.0, 0.0, 0.0
        self._most = self._free = max_pixels
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pictures")

    async def decode(self, pictures: Pictures) -> list[Row]:
        """The rows of ``pictures``, in their order.

        Raises:
            QueueFullError: Those that wait for their turns would take too long.
            ServingError: As `Pictures.look` and `decode_pictures`.
        """
        looks_at_once = pictures.size <= _TURN
        if not looks_at_once:
            self._refuse_if_late()
        # What is small is ready after the first hop.
        seen, rows = await self._turn(pictures.size, _begin, pictures)
        if seen and looks_at_once:
            self._refuse_if_late()
        while seen:
            cost, turn = _next_turn(seen)
            rows += await self._turn(cost, decode_pictures, pictures.task, turn)
        return rows

    def close(self) -> None:
        """Begin nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _refuse_if_late(self) -> None:
        """Before the first turn only: who has had one goes on.

        Raises:
            QueueFullError: As of `decode`.
        """
        waiting = sum(cost for cost, admitted in self._waiting if not admitted.done())
        expected_s = waiting * self._seconds / self._cost_done if self._cost_done else 0.0
        if expected_s > self._max_wait_s:
            raise QueueFullError("pictures", expected_s)

    async def _turn(self, cost: int, work: Callable[..., Done], *arguments: object) -> Done:
        if cost <= _TURN:
            return await asyncio.to_thread(work, *arguments)
        cost = min(cost, self._most)
        await self._take(cost)
        loop = asyncio.get_running_loop()

        def ended(_: Future[Done]) -> None:
            # Where the loop has ended nobody waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._ended, cost)

        try:
            future = self._threads.submit(work, *arguments)
        except RuntimeError:
            self._give_back(cost)
            raise
        # Its memory is free when it has ended, not when nobody waits for it any more.
        future.add_done_callback(ended)
        return await asyncio.wrap_future(future)

    async def _take(self, cost: int) -> None:
        """Wait for room, first come, first served."""
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, admitted))
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            self._give_back(0 if admitted.cancelled() else cost)
            raise

    def _ended(self, cost: int) -> None:
        """A turn is over: measure, and give its room to the next."""
        now = perf_counter()
        self._cost_done = _KEPT * self._cost_done + cost
        self._seconds = _KEPT * self._seconds + now - self._since
        self._since = now
        self._give_back(cost)

    def _give_back(self, cost: int) -> None:
        self._free += cost
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            cost, admitted = self._waiting.popleft()
            if not admitted.done():
                if self._free == self._most:
                    self._since = perf_counter()
                self._free -= cost
                admitted.set_result(None)


def _begin(pictures: Pictures) -> tuple[deque[Seen | Row], list[Row]]:
    """What is still to be decoded, and the rows if that was quick."""
    seen = pictures.look()
    quick = sum(_cost(part) for part in seen) <= _TURN
    return seen, decode_pictures(pictures.task, seen) if quick else []


def _next_turn(seen: deque[Seen | Row]) -> tuple[int, deque[Seen | Row]]:
    """The cost of the next pictures that are decoded in a row, and these, taken from ``seen``: at least one."""
    turn = deque((seen.popleft(),))
    cost = _cost(turn[0])
    while seen and cost + _cost(seen[0]) <= _TURN:
        cost += _cost(seen[0])
        turn.append(seen.popleft())
    return cost, turn


def _cost(part: Seen | Row) -> int:
    return part.cost if isinstance(part, Seen) else 0

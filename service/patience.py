"""A volume that does not answer is told of, and waited for."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import TypeVar

from service.errors import NotReadyError

Read = TypeVar("Read")

# A small file takes milliseconds, even on a network volume. Seconds.
PATIENCE_S = 5.0


async def read_patiently(thread: Executor, what: Callable[[], Read], on_silence: Callable[[], None]) -> Read:
    """What ``what`` reads from a disk, in a thread: even stat can take its time.

    Args:
        thread: Of its own, since it may be busy for ever.
        what: Reads it.
        on_silence: Called once if that takes longer than `PATIENCE_S`; it is waited for all the same.
    """
    reading = asyncio.get_running_loop().run_in_executor(thread, what)
    done, _ = await asyncio.wait([reading], timeout=PATIENCE_S)
    if not done:
        on_silence()
    return await reading


@asynccontextmanager
async def patiently() -> AsyncIterator[None]:
    """For somebody who waits for what is read or written in here by a thread: no longer than `PATIENCE_S`.

    Raises:
        NotReadyError: It takes longer.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except TimeoutError:
        reason = f"The workers' files have not answered for {PATIENCE_S:g} s. Check the volume of SERVING_HOME."
        raise NotReadyError(reason, PATIENCE_S) from None

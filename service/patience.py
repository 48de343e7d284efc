"""A volume that does not answer is told of, and waited for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

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

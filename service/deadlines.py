"""How long the sender of a request waits for its answer, as it says itself."""

import asyncio
from collections.abc import Awaitable
from time import perf_counter
from typing import TypeVar

from models.errors import InputError, shorten
from service.errors import DeadlineError

Given = TypeVar("Given")

TIMEOUT_HEADER = b"x-request-timeout-ms"
MAX_TIMEOUT_MS = 3_600_000


def deadline_of(timeout: bytes, started: float) -> float:
    """When an answer is of no use any more, `time.perf_counter` seconds.

    Args:
        timeout: Value of the header, milliseconds.
        started: When the request began, `time.perf_counter` seconds.

    Raises:
        InputError: It is no number above 0, or more than an hour.
    """
    try:
        milliseconds = float(timeout)
    except ValueError:
        milliseconds = 0.0
    # What is not a number compares false with everything.
    if not 0 < milliseconds <= MAX_TIMEOUT_MS:
        rule = f"must be a number of milliseconds above 0, at most {MAX_TIMEOUT_MS}"
        received = shorten(timeout.decode("latin-1"))
        raise InputError("header X-Request-Timeout-Ms", rule, received, "Leave it out to wait as long as it takes.")
    return started + milliseconds / 1000


async def in_time(deadline: float, work: Awaitable[Given]) -> Given:
    """What ``work`` gives, which is cancelled at the deadline.

    Raises:
        DeadlineError: There was none until then.
    """
    try:
        async with asyncio.timeout(deadline - perf_counter()):
            return await work
    except TimeoutError:
        raise DeadlineError from None

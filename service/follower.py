"""Asks a store that lies elsewhere for news, and says whether it can be reached; requests never wait for it.

One worker of a server asks: the one that holds a file lock, which ends with it. It brings the copy up to date, which
every worker's loader looks at, and leaves word of how it went beside it for the others.
"""

import asyncio
import contextlib
import fcntl
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from models.errors import BundleError, StoreError
from models.remote.store import RemoteStore
from service.patience import PATIENCE_S, read_patiently
from service.settings import Settings

logger = logging.getLogger(__name__)

# Each interval is longer or shorter by chance, so that a fleet that started together does not ask together.
_JITTER = 0.2
# While the store cannot be reached the intervals grow up to this. Seconds.
_LONGEST_S = 60.0


class Follower:
    """Keeps the copy of a store up to date.

    Args:
        store: The store.
        settings: How often.
        on_look: Called on the event loop after each look, or while one takes long, with why the store cannot be
            followed; empty where it can.
    """

    def __init__(self, store: RemoteStore, settings: Settings, on_look: Callable[[str], None]) -> None:
        self._store, self._settings, self._on_look = store, settings, on_look
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._task: asyncio.Task[None] | None = None
        self._lock: TextIO | None = None
        self._word = store.home / "reached"
        self._told = ""

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="store")

    async def close(self) -> None:
        """Stop, without waiting for a request that is under way; another worker takes over."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.submit(self._let_go)
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                problem = await read_patiently(self._thread, self._look, self._on_silence)
            except Exception as error:  # Following must outlive anything.
                logger.exception("looking at %s failed; trying again", self._store.address)
                problem = f"{self._store.address} cannot be followed ({type(error).__name__}): see the log"
            failures = failures + 1 if problem else 0
            self._tell(problem)
            await asyncio.sleep(jittered(pause_s(self._settings.store_poll_s, failures)))

    def _on_silence(self) -> None:
        # A problem that was told already says more than silence does.
        if not self._told:
            place = f"{self._store.address}, or the volume of its copy,"
            self._tell(f"{place} has not answered for {PATIENCE_S:g} s. Check it; it is waited for.")

    def _tell(self, problem: str) -> None:
        if problem and problem != self._told:
            logger.error("what is served stays as it is: %s", problem)
        elif self._told and not problem:
            logger.info("%s is followed again", self._store.address)
        self._told = problem
        self._on_look(self._store.discreet(problem))

    def _look(self) -> str:
        """Why the store cannot be followed, as this worker finds out, or another one has."""
        try:
            if not self._leads():
                return self._word.read_text(encoding="utf-8") if self._word.exists() else ""
            problem = self._ask()
            _write(self._word, problem)
        except OSError as error:
            # An error of this machine's disk: the network's are StoreErrors.
            return f"the copy of {self._store.address} cannot be used: {error.strerror}. Check the volume."
        return problem

    def _ask(self) -> str:
        try:
            odd = self._store.refresh()
        except (StoreError, BundleError) as error:
            return str(error)
        if odd:
            logger.warning("%s", odd)
        return ""

    def _leads(self) -> bool:
        """Whether this worker is the one that asks, from now on or already."""
        if self._lock is None:
            self._store.home.mkdir(parents=True, exist_ok=True)
            lock = (self._store.home / ".follower").open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                return False
            self._lock = lock
        return True

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def pause_s(poll_s: float, failures: int) -> float:
    """Seconds until the next look, after so many failures in a row."""
    return max(poll_s, min(poll_s * 2.0 ** max(0, min(failures - 1, 20)), _LONGEST_S))


def jittered(seconds: float) -> float:
    """Longer or shorter by a fifth at most."""
    return seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        new = path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(path)

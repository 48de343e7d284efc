"""Puts the shipped bundles into the store at a worker's start, and again later where that fails."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic

from models.errors import ServingError, StoreError
from models.store import Seeded, Store
from service.live import directory_of_workers
from service.settings import Settings

logger = logging.getLogger(__name__)


class Seeding:
    """Of one worker.

    Args:
        settings: Where the shipped bundles are, and when to try again.
        store: Where they go.
        thread: Does it.

    Attributes:
        failures: Shipped bundle -> why it is left out.
        problem: Why the store cannot be used; empty where it can.
    """

    def __init__(self, settings: Settings, store: Store, thread: ThreadPoolExecutor) -> None:
        self._settings, self._store, self._thread = settings, store, thread
        self._begun: Future[Seeded] | None = None
        self._again_at = 0.0
        self.failures: dict[str, str] = {}
        self.problem = ""

    def begin(self, then: Callable[[], None]) -> None:
        """Begin in the thread, which calls ``then`` afterwards; once only."""
        if self._begun is None:
            self._begun = self._thread.submit(self._seed, then)

    def _seed(self, then: Callable[[], None]) -> Seeded:
        folder = directory_of_workers()
        if folder is not None and not folder.is_dir():
            # Made when the server started. A store that begins anew here would be served instead of the lost one.
            raise StoreError(f"{self._store.home} is gone, or this server's folder in it. Mount the volume again.")
        seeded = self._store.begin(self._settings.pretrained)
        then()
        return seeded

    async def end(self) -> None:
        """Wait for what was begun, and say what became of it."""
        assert self._begun is not None  # noqa: S101 - begin() came first
        try:
            seeded = await asyncio.wrap_future(self._begun)
        except (ServingError, OSError) as error:
            # A read-only store that was seeded before is fine; on a full one there will be room again.
            if str(error) != self.problem:
                logger.warning("the store is not seeded: %s", error)
            self.problem = str(error)
            self._again_at = monotonic() + self._settings.retry_s
            return
        for tag in seeded.waiting:
            logger.info("%s is new in the store and not served; keras-serving models promote switches to it", tag)
        for name, reason in seeded.failed.items():
            logger.error("shipped bundle %s is left out: %s", name, reason)
        self.failures = seeded.failed
        self.problem = ""

    async def retry(self) -> None:
        """Try again, if it failed some time ago."""
        if self.problem and self._settings.store is None and monotonic() >= self._again_at:
            self._begun = self._thread.submit(self._seed, lambda: None)
            await self.end()

"""The loaded versions of one worker: brings in what is missing, a few at a time, and releases what nobody needs."""

import asyncio
import gc
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic

from models.store import Store, Target
from service.metrics import Metrics
from service.scheduler import Scheduler
from service.served import Listener, Served, load
from service.settings import Settings

logger = logging.getLogger(__name__)

Key = tuple[str, Target]
"""A model's name and one of its versions."""

# Each may need the memory of another model for a while.
_LOADS_AT_ONCE = 2


@dataclass
class Failure:
    """Why a version is not served, and when to try it again (monotonic seconds)."""

    target: Target
    reason: str
    retry_at: float


@dataclass
class Pool:
    """Versions by their key, each loaded once.

    Attributes:
        loaded: What can answer.
        loading: What is being loaded.
        failed: Why the last try to load a version failed.
        on_news: Called when a load is over.
        listeners: Of every version.
    """

    settings: Settings
    store: Store
    metrics: Metrics
    on_news: Callable[[], None]
    loaded: dict[Key, Served] = field(default_factory=dict)
    loading: dict[Key, asyncio.Task[None]] = field(default_factory=dict)
    failed: dict[Key, Failure] = field(default_factory=dict)
    _scheduler: Scheduler = field(default_factory=Scheduler)
    listeners: tuple[Listener, ...] = ()
    _early: dict[Key, Future[Served]] = field(default_factory=dict)
    _retiring: set[asyncio.Task[None]] = field(default_factory=set)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_LOADS_AT_ONCE, thread_name_prefix="loader")
    )

    def load_early(self, key: Key) -> None:
        """Begin a load before there is an event loop; `bring` takes it up. From any thread."""
        self._early[key] = self._threads.submit(self._load, key)

    def missing(self, needed: Mapping[Key, bool]) -> dict[Key, bool]:
        """What of ``needed`` is not loaded, except what failed and is not to be tried again yet."""
        now = monotonic()
        return {
            key: urgent
            for key, urgent in needed.items()
            if key not in self.loaded and (key not in self.failed or now >= self.failed[key].retry_at)
        }

    def bring(self, needed: Mapping[Key, bool]) -> None:
        """Begin to load what is missing, as far as there is room now.

        Args:
            needed: What is to be loaded -> whether it is urgent. What is not leaves room for what is.
        """
        self.failed = {key: failure for key, failure in self.failed.items() if key in needed}
        self._early = {key: load for key, load in self._early.items() if key in needed}
        missing = self.missing(needed)
        for key, urgent in sorted(missing.items(), key=lambda item: not item[1]):
            if key in self.loading:
                continue
            patient = sum(not missing.get(other, False) for other in self.loading)
            if len(self.loading) >= _LOADS_AT_ONCE or (patient and not urgent):
                return
            self.loading[key] = asyncio.get_running_loop().create_task(self._bring(key), name=f"load-{key[0]}")

    async def _bring(self, key: Key) -> None:
        name, target = key
        try:
            loading = self._early.pop(key, None) or self._threads.submit(self._load, key)
            fresh = await asyncio.wrap_future(loading)
        except Exception as error:
            reason = self.store.discreet(str(error)) or type(error).__name__
            logger.error("%s:%s is not loaded: %s", name, target.version, reason)  # noqa: TRY400
            self.failed[key] = Failure(target, reason, monotonic() + self.settings.retry_s)
            self.metrics.reloads.labels(name, "failure").inc()
        else:
            self.failed.pop(key, None)
            fresh.listeners = self.listeners
            self.loaded[key] = fresh
            self.metrics.reloads.labels(name, "success").inc()
            self.metrics.load_seconds.labels(name).set(fresh.load_s)
            logger.info("loaded %s:%s on %s/%s", name, target.version, fresh.engine.name, fresh.engine.device)
        finally:
            del self.loading[key]
            self.on_news()

    def _load(self, key: Key) -> Served:
        return load(self.store, *key, self.settings, self.metrics, self._scheduler)

    def keep_only(self, used: set[Served]) -> bool:
        """Release every other version once its last request is answered; whether there was one."""
        unused = [key for key, served in self.loaded.items() if served not in used]
        for key in unused:
            old = self.loaded.pop(key)
            logger.info("releasing %s:%s", key[0], key[1].version)
            task = asyncio.get_running_loop().create_task(old.release(), name=f"release-{key[1].version}")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        return bool(unused)

    async def stop(self) -> None:
        """Begin no more loads."""
        tasks = list(self.loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def release(self) -> None:
        """Release everything; requests in flight are answered first."""
        self.keep_only(set())
        await asyncio.gather(*self._retiring)


def settle_garbage(*, collect: bool) -> None:
    """Take what lives as long as the service out of the collector's sight.

    A full collection over all of it stops the loop for 30 to 200 ms. Requests over HTTP leave next to no cycles; gRPC
    leaves five objects a call, 650 bytes: to let go of 10,000 objects takes 3 ms, of 50,000 some 15 at once.

    Args:
        collect: Look for garbage first. Not at the start, where that costs 50 ms and finds a few hundred objects.
    """
    if collect:
        gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 100, 100)

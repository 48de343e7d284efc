"""Follows the aliases: load, verify, golden rows, warm up, swap, release.

Everything slow happens in one thread beside the event loop. The swap itself is one assignment on the loop, so a
request sees the old version or the new one; the old one is closed when its last request is answered.
"""

import asyncio
import contextlib
import gc
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic

from models.errors import BundleError, ServingError, UnknownModelError
from models.store import PRODUCTION, Aliases, Seeded, Store, Target
from service.errors import NotReadyError
from service.metrics import Metrics
from service.served import Served, load
from service.settings import Settings

logger = logging.getLogger(__name__)


@dataclass
class Failure:
    """Why a version is not served, and when to try it again (monotonic seconds)."""

    target: Target
    reason: str
    retry_at: float


@dataclass
class Loader:
    """Keeps `served` in step with the alias document.

    Attributes:
        served: Model name -> its loaded production version.
        failures: Model name -> why the version that the alias names is not served.
        ready: Whether the first pass over all models is over.
    """

    settings: Settings
    store: Store
    metrics: Metrics
    served: dict[str, Served] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    ready: bool = False
    _seed_failures: dict[str, str] = field(default_factory=dict)
    _document_error: str = ""
    _wanted: dict[str, Target] = field(default_factory=dict)
    _stamp: tuple[int, int] | None = None
    _retiring: set[asyncio.Task[None]] = field(default_factory=set)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="loader"))
    _prepared: Future[Seeded] | None = None
    _early: dict[tuple[str, Target], Future[Served]] = field(default_factory=dict)
    _follower: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Begin to seed and to load in the loader's thread, beside the rest of the process's start."""
        if self._prepared is None:
            self._prepared = self._thread.submit(self._prepare)

    def _prepare(self) -> Seeded:
        seeded = self.store.seed(self.settings.pretrained)
        try:
            wanted = self._targets(self.store.aliases())
        except BundleError:
            return seeded  # The first pass reports the broken document.
        # At once: most of a load is golden rows and warm-up, for which an engine needs no interpreter lock.
        with ThreadPoolExecutor(len(wanted) or 1, thread_name_prefix="early") as threads:
            for name, target in wanted.items():
                self._early[name, target] = threads.submit(self._load, name, target)
        return seeded

    def start(self) -> None:
        """Begin loading, then following; returns at once."""
        self.prepare()
        self._follower = asyncio.get_running_loop().create_task(self._run(), name="loader")

    async def close(self) -> None:
        """Stop following and release everything; requests in flight are answered first."""
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
        served, self.served = list(self.served.values()), {}
        await asyncio.gather(*self._retiring, *(version.release() for version in served))
        self._thread.shutdown(wait=False)

    def find(self, name: str) -> Served:
        """The version that answers for ``name``.

        Raises:
            UnknownModelError: No such model; the message lists the known ones.
            NotReadyError: The model is known, but not loaded (yet).
        """
        served = self.served.get(name)
        if served is not None:
            return served
        if not self.ready:
            raise NotReadyError("Models are still being loaded. /readyz answers 200 when they are.")
        if name in self.failures:
            reason = "its version could not be loaded. GET /models says why"
            raise NotReadyError(f"{name} is not served: {reason}.", self.settings.retry_s)
        known = ", ".join(sorted(self.served)) or "none"
        raise UnknownModelError(f"Unknown model {name[:80]!r}. Known models: {known}.")

    def problems(self) -> dict[str, str]:
        """What is not as it should be: model, shipped bundle or document -> why."""
        problems = {f"pretrained/{name}": reason for name, reason in self._seed_failures.items()}
        if self._document_error:
            problems["aliases"] = self._document_error
        return problems | {name: failure.reason for name, failure in self.failures.items()}

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._prepared is not None  # noqa: S101 - start() came first
        try:
            seeded = await asyncio.wrap_future(self._prepared)
            for tag in seeded.waiting:
                logger.info("%s is new in the store and not served; keras-serving models promote switches to it", tag)
            for name, reason in seeded.failed.items():
                logger.error("shipped bundle %s is left out: %s", name, reason)
            self._seed_failures = seeded.failed
        except (ServingError, OSError) as error:
            # A read-only store that was seeded before is fine.
            logger.warning("the store is not seeded: %s", error)
        while True:
            try:
                await self._follow(loop)
            except Exception:
                # Following must outlive anything: without it no version could ever be switched again.
                logger.exception("following the aliases failed; trying again")
            if not self.ready:
                self.ready = True
                _settle_garbage(collect=False)
                logger.info("ready: %s", ", ".join(sorted(self.served)) or "no model")
            await asyncio.sleep(self.settings.poll_s)

    async def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """One look at the alias document, and the loads that it asks for."""
        # In a thread: on a network volume even stat can take its time.
        stamp = await loop.run_in_executor(self._thread, self.store.stamp)
        if stamp != self._stamp or self._document_error:
            if stamp is None and self.served:
                # It never goes away on purpose: a file being restored, or a volume that is gone.
                self._keep(f"{self.store.home} has no alias document any more. Restore it from a backup.")
                return
            try:
                document = await loop.run_in_executor(self._thread, self.store.aliases)
            except BundleError as error:
                self._keep(str(error))
                return
            self._document_error = ""
            self._stamp = stamp
            self._wanted = self._targets(document)
            for name in [*self.served, *self.failures]:
                if name not in self._wanted:
                    self._retire(name)
        for name, target in self._wanted.items():
            served, failure = self.served.get(name), self.failures.get(name)
            if served is not None and served.digest == target.digest:
                self.failures.pop(name, None)
            elif failure is None or failure.target != target or monotonic() >= failure.retry_at:
                await self._switch(loop, name, target)

    def _keep(self, reason: str) -> None:
        """Go on with what is served although the alias document cannot be followed."""
        if reason != self._document_error:
            logger.error("what is served stays as it is: %s", reason)
        self._document_error = reason

    def _targets(self, document: Aliases) -> dict[str, Target]:
        names = self.settings.models or tuple(sorted(document.models))
        found = {name: target for name in names if (target := document.target(name)) is not None}
        for name in set(names) - set(found):
            logger.error(
                "model %s has no %s version; known: %s", name, PRODUCTION, ", ".join(document.models) or "none"
            )
        return found

    async def _switch(self, loop: asyncio.AbstractEventLoop, name: str, target: Target) -> None:
        """Load ``target`` and let it answer for ``name``; on any failure the old version goes on."""
        try:
            early = self._early.pop((name, target), None)
            loaded = early or self._thread.submit(self._load, name, target)
            fresh = await asyncio.wrap_future(loaded)
        except Exception as error:
            reason = str(error) or type(error).__name__
            logger.error("%s:%s is not served: %s", name, target.version, reason)  # noqa: TRY400
            self.failures[name] = Failure(target, reason, monotonic() + self.settings.retry_s)
            self.metrics.reloads.labels(name, "failure").inc()
            return
        old = self.served.get(name)
        self.served[name] = fresh
        self.failures.pop(name, None)
        self.metrics.reloads.labels(name, "success").inc()
        self.metrics.load_seconds.labels(name).set(fresh.load_s)
        self.metrics.model_info.labels(*fresh.labels).set(1)
        logger.info("serving %s:%s on %s/%s", name, target.version, fresh.engine.name, fresh.engine.device)
        if old is not None:
            self._release(old)
            _settle_garbage(collect=True)

    def _retire(self, name: str) -> None:
        self.failures.pop(name, None)
        old = self.served.pop(name, None)
        if old is not None:
            logger.info("no longer serving %s:%s", name, old.manifest.version)
            self._release(old)

    def _load(self, name: str, target: Target) -> Served:
        return load(self.store, name, target, self.settings, self.metrics)

    def _release(self, old: Served) -> None:
        self.metrics.model_info.labels(*old.labels).set(0)
        task = asyncio.get_running_loop().create_task(old.release(), name=f"release-{old.manifest.version}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


def _settle_garbage(*, collect: bool) -> None:
    """Take what lives as long as the service out of the collector's sight.

    A full collection over all of it stops the loop for 30 to 200 ms; requests themselves leave next to no cycles.

    Args:
        collect: Look for garbage first. Not at the start, where that costs 50 ms and finds a few hundred objects.
    """
    if collect:
        gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)

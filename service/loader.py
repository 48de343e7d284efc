"""Follows the alias document: what each name means in this worker, and what must be loaded for it.

Every version that an alias of a served model points to is kept loaded. Everything slow (reading, verifying, golden
rows, warming up) happens in threads beside the event loop. A swap is one assignment on the loop, so a request sees the
old version or the new one; the old one is closed when its last request is answered.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field

from models.errors import BundleError, UnknownModelError
from models.store import CANDIDATE, PRODUCTION, Aliases, Store, Target, Traffic
from service.alias_document import AliasDocument
from service.errors import NotReadyError
from service.metrics import Metrics
from service.pool import Failure, Key, Pool, settle_garbage
from service.protocols.base import Pin
from service.seeding import Seeding
from service.served import Served
from service.settings import Settings
from service.store_revision import StoreRevision
from service.traffic import Router

logger = logging.getLogger(__name__)

LABEL = "label"
"""Role of a version that only pinned requests reach."""
FALLBACK = "fallback"
"""Alias, in ``model_info`` and /models, of what answers because production's version cannot be loaded."""
# A candidate runs on the event loop only where its batches take no longer than this, or twice as long as production's:
# a slow one in a thread cannot hold up production's requests. Milliseconds.
_CANDIDATE_INLINE_MS = 0.25


@dataclass
class Loader:
    """Keeps what is served in step with the alias document.

    Attributes:
        served: Model name -> the loaded version that answers requests which pin none.
        aliases: Model name -> alias -> the loaded version that it points to.
        ready: Whether the first pass over all models is over.
        store_problem: Why the store cannot be followed where it lies elsewhere; empty where it can.
    """

    settings: Settings
    store: Store
    metrics: Metrics
    served: dict[str, Served] = field(default_factory=dict)
    aliases: dict[str, dict[str, Served]] = field(default_factory=dict)
    ready: bool = False
    store_problem: str = ""
    _wanted: dict[str, dict[str, Target]] = field(default_factory=dict)
    _follower: asyncio.Task[None] | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _started: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.revision = StoreRevision(self.metrics.store_revision)
        self.pool = Pool(self.settings, self.store, self.metrics, on_news=self.look)
        self.router = Router(self.settings, self.store, self.metrics)
        self._aliases = AliasDocument(self.store, on_problem=self._show_store)
        self._seeding = Seeding(self.settings, self.store, self._aliases.thread)

    @property
    def document(self) -> Aliases:
        """The alias document that is followed."""
        return self._aliases.content

    def prepare(self) -> None:
        """Begin to seed and to load in threads, beside the rest of the process's start."""
        self._seeding.begin(then=self._load_early)

    def _load_early(self) -> None:
        # A broken document is for the first pass to report.
        with contextlib.suppress(BundleError):
            for name, targets in self._targets(self.store.followed()).items():
                self.pool.load_early((name, targets[PRODUCTION]))

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
        await self.pool.stop()
        self.served, self.aliases = {}, {}
        await self.router.close()
        await self.pool.release()
        self._aliases.thread.shutdown(wait=False)

    async def first_pass(self) -> None:
        """Wait until all models were tried for the first time, at most as long as a request may have to."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.start_wait_s):
                await self._started.wait()

    def look(self) -> None:
        """Look at the alias document now, not at the next interval."""
        self._news.set()

    def find(self, name: str, pin: Pin | None = None) -> Served:
        """The version that answers for ``name``, or the one that the request pins.

        Raises:
            UnknownModelError: No such model, or no such version of it is loaded; the message lists what is.
            NotReadyError: The model is known, but not loaded (yet).
        """
        served = self.served.get(name)
        if pin is not None and served is not None:
            return self._pinned(name, pin)
        if served is not None:
            return served
        if not self.ready:
            raise NotReadyError("Models are still being loaded. /readyz answers 200 when they are.")
        if name in self.failures:
            reason = "its version could not be loaded. GET /models says why"
            raise NotReadyError(f"{name} is not served: {reason}.", self.settings.retry_s)
        if name in self._wanted:
            raise NotReadyError(f"{name} is being loaded.")
        if self._seeding.problem and not self.served:
            raise NotReadyError(
                "No model is served: the store cannot be used. /readyz says why.", self.settings.retry_s
            )
        known = ", ".join(sorted(self.served)) or "none"
        raise UnknownModelError(f"Unknown model {name[:80]!r}. Known models: {known}.")

    def named(self, name: str) -> dict[str, Served]:
        """Alias -> the loaded version that answers to it."""
        served = self.served.get(name)
        return self.aliases.get(name, {}) | ({PRODUCTION: served} if served else {})

    def _pinned(self, name: str, pin: Pin) -> Served:
        named = self.named(name)
        for alias, served in named.items():
            if pin in (Pin(label=alias), Pin(version=served.manifest.version)):
                return served
        what = f"label {pin.label[:80]!r}" if pin.label else f"version {pin.version[:80]!r}"
        for alias, target in self._wanted.get(name, {}).items():
            if pin in (Pin(label=alias), Pin(version=target.version)) and (name, target) not in self.pool.failed:
                raise NotReadyError(f"{what} of {name} is being loaded.")
        loaded = ", ".join(f"{served.manifest.version} ({alias})" for alias, served in sorted(named.items()))
        raise UnknownModelError(f"No {what} of {name} is loaded. Loaded: {loaded or 'none'}.")

    @property
    def failures(self) -> dict[str, Failure]:
        """Model name -> why production's version is not loaded."""
        return {name: failed[PRODUCTION] for name in self._wanted if PRODUCTION in (failed := self.failures_of(name))}

    def failures_of(self, name: str) -> dict[str, Failure]:
        """Alias of ``name`` -> why the version that it points to is not loaded."""
        failed = self.pool.failed
        wanted = self._wanted.get(name, {})
        return {alias: failed[name, target] for alias, target in wanted.items() if (name, target) in failed}

    def problems(self) -> dict[str, str]:
        """What is not as it should be: model, ``model/alias``, shipped bundle or document -> why."""
        problems = {f"pretrained/{name}": reason for name, reason in self._seeding.failures.items()}
        if self._aliases.problem:
            problems["aliases"] = self._aliases.problem
        if self.store_problem or (self._seeding.problem and not self.served):
            problems["store"] = self.store_problem or self._seeding.problem
        for name in self._wanted:
            for alias, failure in self.failures_of(name).items():
                problems[name if alias == PRODUCTION else f"{name}/{alias}"] = failure.reason
        return problems

    async def _run(self) -> None:
        await self._seeding.end()
        while True:
            self._news.clear()
            try:
                await self._seeding.retry()
                await self._follow()
            except Exception:
                # Following must outlive anything: without it no version could ever be switched again.
                logger.exception("following the aliases failed; trying again")
            known = self.settings.store is None or self._aliases.exists
            if not self.ready and known and not any(self.pool.missing(self._needed()).values()):
                self.ready = True
                self._started.set()
                settle_garbage(collect=False)
                logger.info("ready: %s", ", ".join(sorted(self.served)) or "no model")
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes together with news.
                async with asyncio.timeout(self.settings.poll_s):
                    await self._news.wait()

    async def _follow(self) -> None:
        """One look at the alias document, what follows from it, and the loads that it asks for."""
        if await self._aliases.look(required=bool(self.served)):
            self._wanted = self._targets(self.document)
        for name in {*self._wanted, *self.served}:
            try:
                self._point(name, self._wanted.get(name, {}))
            except Exception:  # One model's trouble must not keep the others from what is wanted of them.
                logger.exception("following %s failed; trying again", name)
        self._show_store()
        self._show()
        self.revision.follow(self.document.revision, self._wanted, self.pool.loaded)
        needed = self._needed()
        used = {served for name in self.served for served in self.named(name).values()}
        # A candidate that is loaded before its production version answers nothing yet, and is not to be loaded again.
        used |= {served for key, served in self.pool.loaded.items() if key in needed}
        if self.pool.keep_only(used):
            settle_garbage(collect=True)
        self.pool.bring(needed)

    def _targets(self, document: Aliases) -> dict[str, dict[str, Target]]:
        """Aliases of each model that is to be served: of those chosen, or of all, that have a production version."""
        names = self.settings.models or tuple(sorted(document.models))
        found = {name: document.models[name] for name in names if document.target(name) is not None}
        for name in set(names) - set(found):
            known = ", ".join(document.models) or "none"
            logger.error("model %s has no %s version; known: %s", name, PRODUCTION, known)
        return found

    def _needed(self) -> dict[Key, bool]:
        """What must be loaded -> whether that is urgent, as all is that production needs."""
        needed: dict[Key, bool] = {}
        for name, targets in self._wanted.items():
            needed[name, targets[PRODUCTION]] = True
            if name not in self.served and (name, targets[PRODUCTION]) in self.pool.failed:
                # No older version in this process to go on with: one after the other of those before it is tried.
                for target in self.document.earlier(name):
                    needed[name, target] = True
                    if (name, target) not in self.pool.failed:
                        break
        patient = {(name, target): False for name, targets in self._wanted.items() for target in targets.values()}
        return patient | needed

    def _point(self, name: str, targets: dict[str, Target]) -> None:
        """Let the aliases of ``name`` mean what is loaded of ``targets``."""
        loaded = self.pool.loaded
        found = {alias: loaded[name, target] for alias, target in targets.items() if (name, target) in loaded}
        old = self.served.get(name)
        answering = found.get(PRODUCTION) or old
        if answering is None and PRODUCTION in self.failures_of(name):
            answering = next((loaded[name, t] for t in self.document.earlier(name) if (name, t) in loaded), None)
            if answering is not None:
                logger.error("%s: FALLBACK to %s: production's cannot be loaded", name, answering.manifest.version)
        if old is not None and (answering is not old or not targets):
            old.split = None
        if answering is None or not targets:
            self.served.pop(name, None)
            self.aliases.pop(name, None)
            self.router.apply(name, None, None, Traffic(), self.document.revision)
            return
        self.aliases[name] = found
        self.served[name] = answering
        if answering is not old:
            logger.info("serving %s:%s", name, answering.manifest.version)
        self._assign_roles(found, answering)
        traffic = self.document.traffic.get(name, Traffic())
        self.router.apply(name, answering, found.get(CANDIDATE), traffic, self.document.revision)

    def _assign_roles(self, found: dict[str, Served], answering: Served) -> None:
        answering.act_as(PRODUCTION, self.metrics, self.settings.inline_ms)
        inline_ms = min(self.settings.inline_ms, max(_CANDIDATE_INLINE_MS, 2 * answering.profile.latency_ms[1]))
        for served in set(found.values()) - {answering}:
            served.act_as(CANDIDATE if served is found.get(CANDIDATE) else LABEL, self.metrics, inline_ms)

    def _show_store(self) -> None:
        followed = not (self._aliases.problem or self.store_problem)
        self.metrics.store_reachable.replace({(): float(followed)})

    def _show(self) -> None:
        """Say in the metrics what is loaded under which alias, and what is expected of it."""
        shown = set()
        for name, answering in self.served.items():
            stale = answering is not self.aliases[name].get(PRODUCTION) and name in self.failures
            shown |= {served.labels(alias) for alias, served in self.aliases[name].items()}
            shown.add(answering.labels(FALLBACK if stale else PRODUCTION))
        self.metrics.model_info.replace(dict.fromkeys(shown, 1.0))
        self.metrics.profiles({name: (one.profile, one.batcher.inline_rows) for name, one in self.served.items()})
        self.metrics.objectives({name: self.settings.objective(name) for name in self.served})

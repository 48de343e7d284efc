"""One loaded version, from the verified bundle to a queue that answers."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.engines import Engine, check_golden, open_engine
from models.errors import ServingError
from models.manifest import Manifest
from models.store import PRODUCTION, Store, Target
from service.batcher import Batcher
from service.drift import Monitor, monitor_of
from service.metrics import Metrics
from service.profile import Profile, profile
from service.protocols import native
from service.recorder import ModelMetrics
from service.scheduler import Scheduler
from service.settings import Settings
from service.statistics import Statistics

if TYPE_CHECKING:
    from service.protocols.base import Decoded, Question
    from service.traffic import Split

Listener = Callable[["Served", "Question", "Decoded", NDArray[np.float32]], None]


@dataclass(eq=False)
class Served:
    """One loaded version, ready to answer.

    Attributes:
        manifest: What it is.
        engine: Runs it.
        batcher: Its queue.
        metrics: Its recorder, that of its role.
        load_s: Duration of verification, golden rows and warm-up. Seconds.
        golden_difference: Largest absolute difference on golden rows, in the output's unit.
        profile: How long its batches take here, and how large they are.
        role: What it is for now: production, candidate or label.
        users: Requests that hold it now.
        split: While it answers as production, the canary that takes a share of its requests.
        statistics: What it has done since it was loaded.
        monitor: Compares its traffic with its training; None where that cannot be.
        listeners: Called after each answer; each must be quick and must not raise.
    """

    manifest: Manifest
    digest: str
    engine: Engine
    batcher: Batcher
    metrics: ModelMetrics
    load_s: float
    golden_difference: float
    profile: Profile
    role: str = PRODUCTION
    users: int = 0
    split: "Split | None" = None
    statistics: Statistics = field(default_factory=Statistics)
    monitor: Monitor | None = None
    listeners: tuple["Listener", ...] = ()

    def act_as(self, role: str, metrics: Metrics, inline_ms: float) -> None:
        """Take a role: requests are counted under it, and batches of at most ``inline_ms`` run on the event loop."""
        if role != self.role:
            self.role = role
            if self.monitor is not None:
                self.monitor.forget()
            self.metrics = metrics.model(self.manifest.name, role)
            self.batcher.on_batch = self.statistics.with_batches(self.metrics.batch)
            self.batcher.inline_rows = self.inline_rows(inline_ms)

    def labels(self, alias: str) -> tuple[str, ...]:
        """Label values of the ``model_info`` metric under ``alias``."""
        return (self.manifest.name, self.manifest.version, alias, self.engine.name, self.engine.device)

    def inline_rows(self, limit_ms: float) -> int:
        """Rows in the largest batch that takes at most ``limit_ms``, as measured; none where a device computes."""
        return 0 if self.engine.in_flight > 1 else self.profile.inline_rows(limit_ms)

    async def release(self) -> None:
        """Wait for the last request, then free the engine."""
        # The collector does not look at what was frozen: no cycles.
        self.split = None
        self.batcher.listeners = ()
        while self.users:  # noqa: ASYNC110 - once a version's life
            await asyncio.sleep(0.01)
        await self.batcher.close()
        self.engine.close()


def load(  # noqa: PLR0917 - what a worker is made of
    store: Store, name: str, target: Target, settings: Settings, metrics: Metrics, scheduler: Scheduler
) -> Served:
    """Everything between an alias and a version that may answer; slow, so call it in a thread.

    Args:
        store: Where the version is.
        name: Of the model.
        target: The version.
        settings: Of the service.
        metrics: Where it is counted.
        scheduler: Of the event loop that it will answer on.

    Raises:
        ServingError: The version is not what was promoted, is altered, or does not answer as it did in training.
    """
    started = perf_counter()
    bundle = store.take(name, target)
    engine = open_engine(bundle, kind=settings.engine, device=settings.device, threads=settings.batch_threads)
    difference = check_golden(engine, bundle)
    measured = profile(engine, bundle.golden()[0], settings)
    _rehearse(bundle.manifest, engine, settings)
    recorder = metrics.model(name)
    batcher = Batcher(
        name,
        engine,
        max_batch_rows=measured.batch_rows,
        max_queue_rows=settings.max_queue_rows,
        max_queue_s=settings.max_queue_s,
        seconds_per_row=measured.row_s,
        seconds_per_batch=measured.batch_s,
        scheduler=scheduler,
    )
    served = Served(
        bundle.manifest, target.digest, engine, batcher, recorder, perf_counter() - started, difference, measured
    )
    batcher.inline_rows = served.inline_rows(settings.inline_ms)
    batcher.on_batch = served.statistics.with_batches(recorder.batch)
    served.monitor = monitor_of(bundle, settings)
    if served.monitor is not None:
        batcher.listeners = (served.monitor.offer,)
    return served


def _rehearse(manifest: Manifest, engine: Engine, settings: Settings) -> None:
    """Answer the example: what is imported and allocated at the first use (20 to 50 ms for a picture) is so before."""
    # An example that is refused is no reason not to serve.
    with contextlib.suppress(ServingError):
        decoded = native.decode_values(manifest.task, [manifest.example], settings)
        decoded.decode_pictures_at_once()
        native.predictions(manifest.task, engine.run(decoded.rows), decoded.applied)


def try_out(store: Store, name: str, version: str, settings: Settings) -> None:
    """Verify a version, and run its golden rows, without keeping it; slow, so call it in a thread.

    Raises:
        ServingError: It does not exist, is altered, or does not answer as it did in training.
    """
    bundle = store.afresh(name, version)
    engine = open_engine(bundle, kind=settings.engine, device=settings.device, threads=settings.batch_threads)
    try:
        check_golden(engine, bundle)
    finally:
        engine.close()

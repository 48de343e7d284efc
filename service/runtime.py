"""What one worker process holds while it serves."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from models.remote.store import RemoteStore, store_at
from service.capture import Capture
from service.decode.picture_decoder import PictureDecoder
from service.drift_watch import DriftWatch
from service.errors import NotReadyError
from service.feedback import FeedbackDesk
from service.follower import Follower
from service.live import LiveRecorder, directory_of_workers
from service.loader import Loader
from service.metrics import Metrics
from service.observer import Observer
from service.patience import patiently
from service.settings import Settings
from service.vitals import Gpus, Vitals

logger = logging.getLogger(__name__)

Done = TypeVar("Done")

# Other workers' numbers are at most this old in a scrape. Seconds.
_FLUSH_S = 0.5


@dataclass
class Runtime:
    """Settings, loader and metrics of a worker, and what it is doing now.

    Attributes:
        opening: Whether a way in is not open yet.
        inflight: Predictions being worked on.
        draining: Whether SIGTERM has come: still answering, but not ready any more.
        stopping: Whether the time of draining is over: what comes now is refused.
        drift: Compares the traffic with the training.
        picture_decoder: Where pictures are decoded.
        one_thread: Where large JSON is parsed, one body at a time.
        capture: Writes a share of the requests to files, where somebody asked for that.
        feedback: Learns what turned out to be true of the answers.
        live: Writes what the page at ``/`` shows.
        observer: Sees each request when it is over, where somebody asked for that.
        follower: Asks for news of the store, where that lies elsewhere.
    """

    settings: Settings
    metrics: Metrics
    loader: Loader
    vitals: Vitals
    opening: bool = False
    inflight: int = 0
    draining: bool = False
    stopping: bool = False
    drift: DriftWatch = field(init=False)
    feedback: FeedbackDesk = field(init=False)
    picture_decoder: PictureDecoder = field(init=False)
    # It begins with the first large body.
    one_thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="large-json"), repr=False
    )
    capture: Capture | None = field(default=None, init=False)
    live: LiveRecorder = field(init=False)
    observer: Observer | None = None
    follower: Follower | None = field(default=None, init=False)
    _flusher: asyncio.Task[None] | None = field(default=None, repr=False)
    _watching: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="watching"), repr=False
    )

    def __post_init__(self) -> None:
        self.drift = DriftWatch(self.loader, self.metrics)
        self.picture_decoder = PictureDecoder(self.settings.max_picture_pixels, self.settings.max_queue_s)
        self.feedback = FeedbackDesk(self.settings, self.metrics, directory_of_workers())
        if self.settings.feedback_rows:
            self.loader.pool.listeners += (self.feedback.answers.remember,)
        if self.settings.capture_share:
            self.capture = Capture(self.settings, self.metrics)
            self.loader.pool.listeners += (self.capture.take,)
            self.feedback.on_truth += (self.capture.learn,)
        self.live = LiveRecorder(self.metrics, directory_of_workers())
        if isinstance(self.loader.store, RemoteStore):
            self.follower = Follower(self.loader.store, self.settings, self._looked)

    @classmethod
    def create(cls, settings: Settings, worker: int = 1) -> "Runtime":
        """A runtime that has not started; call it in the worker process, which is number ``worker`` from 1."""
        metrics = Metrics()
        store = store_at(settings.home, settings.store, settings.store_timeout_s)
        loader = Loader(settings, store, metrics)
        vitals = Vitals(metrics.vitals, str(worker), Gpus.find())
        return cls(settings, metrics, loader, vitals, observer=Observer.of(settings))

    async def start(self) -> None:
        """Begin loading models; when it returns the other workers can see that this one is there."""
        self.loader.start()
        if self.follower is not None:
            self.follower.start()
        self.drift.start()
        self.feedback.start()
        if self.capture is not None:
            self.capture.start()
        # An order to the administration waits for this worker from its first request on. The files have room while the
        # disk has.
        with contextlib.suppress(NotReadyError):
            async with patiently():
                await self.beside(self.metrics.save)
        self._flusher = asyncio.get_running_loop().create_task(self._flush(), name="metrics")

    async def close(self) -> None:
        """Release everything."""
        if self.follower is not None:
            await self.follower.close()
        await self.drift.close()
        await self.feedback.close()
        await self.loader.close()
        if self.capture is not None:
            await self.capture.close()
        if self._flusher is not None:
            self._flusher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flusher
        self.measure()
        self.metrics.flush()
        try:
            async with patiently():
                await self.beside(self.metrics.save)
        except NotReadyError as error:
            logger.warning("the last metrics may be lost: %s", error)
        self.picture_decoder.close()
        self.one_thread.shutdown(wait=False, cancel_futures=True)
        self._watching.shutdown(wait=False, cancel_futures=True)
        if self.observer is not None:
            await asyncio.to_thread(self.observer.close)

    @property
    def ready(self) -> bool:
        """Whether new requests should come here: open, loaded, at least one model served, not draining."""
        return not self.opening and self.loader.ready and bool(self.loader.served) and not self.draining

    def problems(self) -> dict[str, str]:
        """What is not as it should be: model, document or the like -> why."""
        problem = self.metrics.files.problem
        return self.loader.problems() | ({"metrics": problem} if problem else {})

    def _looked(self, problem: str) -> None:
        """The follower looked at the store."""
        self.loader.store_problem = problem
        self.loader.look()

    async def beside(self, work: Callable[..., Done], *arguments: object) -> Done:
        """What ``work`` gives, in a thread for the watching alone: large bodies may keep asyncio's own threads busy."""
        return await asyncio.get_running_loop().run_in_executor(self._watching, work, *arguments)

    def measure(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.inflight.set(self.inflight)
        for name in self.loader.served:
            versions = set(self.loader.named(name).values())
            self.metrics.queue_depth.labels(name).set(sum(served.batcher.queued_rows for served in versions))
        self.loader.router.shadows.measure()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _FLUSH_S
            await asyncio.sleep(_FLUSH_S)
            self.vitals.measure(loop.time() - due)
            self.measure()
            self.metrics.flush()
            await self.beside(self.metrics.save)
            versions = {name: served.manifest.version for name, served in self.loader.served.items()}
            # It looks at every metric and writes a file: milliseconds.
            await self.beside(self.live.record, versions)

"""The thread that counts for every version of one worker, and what the metrics say of drift."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from models.store import CANDIDATE, PRODUCTION
from service.drift import Monitor
from service.drift_counts import MAJOR, MODERATE, NONE
from service.drift_words import summary
from service.loader import Loader
from service.metrics import Metrics
from service.present import Labels

logger = logging.getLogger(__name__)

# Seconds between two turns, and the largest share of one core that they take.
_INTERVAL_S = 0.5
_MAX_SHARE = 0.05
LEVELS = {NONE: 0.0, MODERATE: 1.0, MAJOR: 2.0}
_DIGITS = 4

_Watched = tuple[tuple[str, str, Monitor], ...]


class DriftWatch:
    """Counts twice a second.

    Args:
        loader: Knows what is served.
        metrics: What moved is shown there.
    """

    def __init__(self, loader: Loader, metrics: Metrics) -> None:
        self._loader, self._metrics = loader, metrics
        # At the loop's priority, for the reason that service/shadow.py has.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drift")
        self._task: asyncio.Task[None] | None = None
        # Of the drift's thread: (model, alias) -> the version and state that the log spoke of last.
        self._told: dict[tuple[str, str], tuple[Monitor, str]] = {}

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="drift")

    async def _run(self) -> None:
        while True:
            took = 0.0
            try:
                took = await self.turn()
            except Exception:
                # Watching must outlive anything, and nothing else may suffer from it.
                logger.exception("counting for drift failed; trying again")
            await asyncio.sleep(max(_INTERVAL_S, took * (1 / _MAX_SHARE - 1)))

    async def turn(self) -> float:
        """Count what waits, and show it; the seconds that it took."""
        loader = self._loader
        watched = tuple(
            (name, alias, served.monitor)
            for name in loader.served
            for alias, served in loader.named(name).items()
            if served.monitor is not None
        )
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._turn, watched)

    async def close(self) -> None:
        """End the thread."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _turn(self, watched: _Watched) -> float:
        started = perf_counter()
        # One version may have several aliases.
        for monitor, name in {monitor: name for name, _, monitor in watched}.items():
            monitor.turn()
            self._count(name, monitor)
        # What only pinned requests reach is somebody's trial, and no traffic to raise an alarm for.
        shown = [one for one in watched if one[1] in (PRODUCTION, CANDIDATE)]
        self._show(shown)
        self._tell(shown)
        return perf_counter() - started

    def _count(self, name: str, monitor: Monitor) -> None:
        rows, outside = monitor.news()
        if rows:
            self._metrics.drift_rows.labels(name).inc(rows)
        for (feature, is_category), count in outside.items():
            family = self._metrics.unseen_category if is_category else self._metrics.out_of_range
            # Also where there are none, so that the first one is an increase.
            family.labels(name, feature, "training").inc(count)

    def _show(self, shown: Sequence[tuple[str, str, Monitor]]) -> None:
        inputs: dict[Labels, float] = {}
        outputs: dict[Labels, float] = {}
        states: dict[Labels, float] = {}
        for name, alias, monitor in shown:
            report = monitor.report
            if report.enough:
                inputs |= {(name, alias, shift.name): round(shift.psi, _DIGITS) for shift in report.inputs}
                outputs |= {(name, alias, shift.name): round(shift.psi, _DIGITS) for shift in report.outputs}
                states[name, alias] = LEVELS[report.state]
        self._metrics.input_psi.replace(inputs)
        self._metrics.prediction_psi.replace(outputs)
        self._metrics.drift_state.replace(states)

    def _tell(self, shown: Sequence[tuple[str, str, Monitor]]) -> None:
        """Log each change of a state once."""
        for name, alias, monitor in shown:
            report = monitor.report
            before = self._told.get((name, alias))
            state = before[1] if before and before[0] is monitor else NONE
            if report.state != state:
                level = logging.INFO if report.state == NONE else logging.WARNING
                logger.log(level, "%s (%s): drift is %s. %s", name, alias, report.state, summary(report))
            self._told[name, alias] = (monitor, report.state)
        for gone in self._told.keys() - {(name, alias) for name, alias, _ in shown}:
            del self._told[gone]

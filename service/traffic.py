"""Which loaded version answers a request that pins none: production, or the candidate for a canary's share.

A canary hurts nobody: what the candidate fails, production answers, and the failure counts against the candidate.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from time import perf_counter

from models.errors import ConflictError, ServingError
from models.store import CANDIDATE, Canary, Store, Target, Traffic
from service.errors import ClientDisconnectError, DeadlineError, status_of
from service.judge import Judge
from service.metrics import Metrics
from service.protocols.base import Answer, Headers
from service.served import Served
from service.settings import Settings
from service.shadow import Shadows

logger = logging.getLogger(__name__)

KEY_HEADER = b"x-canary-key"
_GOLDEN = 0.6180339887498949

# Of the time that a request has, so that production has as much.
_SHARE = 0.5

Ask = Callable[[Served, float], Awaitable[Answer]]
"""Gives the answer of one version within a share of the time that the request has."""


class Split:
    """One canary in one worker.

    Args:
        production: Answers what the candidate does not.
        candidate: Answers its share.
        canary: The share, and when it ends.
        timeout_s: Longest wait for the candidate before production answers.
        on_failure: Called when the candidate failed what production answered.
        on_verdict: Called once with the reason why the canary must end.
    """

    def __init__(
        self,
        production: Served,
        candidate: Served,
        canary: Canary,
        *,
        timeout_s: float,
        on_failure: Callable[[], None],
        on_verdict: Callable[["Split", str], None],
    ) -> None:
        self.production, self.candidate, self.canary = production, candidate, canary
        self._timeout_s = timeout_s
        self._on_failure, self._on_verdict = on_failure, on_verdict
        self._judge = Judge(canary)
        self._spread = 0.0
        # Another candidate tries its luck with other clients.
        self._salt = f"{candidate.manifest.name}:{candidate.manifest.version}:".encode()

    def takes(self, key: bytes | None) -> bool:
        """Whether the candidate answers: by the key's hash, the same in every worker; without one evenly spread."""
        if key is None:
            # Multiples of the golden ratio, modulo 1, lie as evenly as any sequence can.
            self._spread = place = (self._spread + _GOLDEN) % 1.0
        else:
            place = int.from_bytes(blake2b(self._salt + key, digest_size=8).digest()) / 2**64
        return place * 100 < self.canary.percent

    async def answer(self, headers: Headers, ask: Ask, deadline: float | None = None) -> Answer:
        """The answer of whichever version is to give it; of production where the candidate fails.

        Args:
            headers: Of the request.
            ask: Gives the answer of one version.
            deadline: Of the request, `time.perf_counter` seconds, as far as that is known before its body is decoded:
                the candidate has half the time until then, so that production has some left.

        Raises:
            ServingError: Production cannot answer either.
        """
        if not self.takes(next((value for name, value in headers if name == KEY_HEADER), None)):
            return await self._ask_production(ask)
        # Held: it must be there to answer what the candidate fails, even if another version takes over meanwhile.
        self.production.users += 1
        try:
            return await self._ask_candidate(ask, deadline)
        finally:
            self.production.users -= 1

    async def _ask_candidate(self, ask: Ask, deadline: float | None) -> Answer:
        started = perf_counter()
        timeout_s = self._timeout_s if deadline is None else min(self._timeout_s, (deadline - started) * _SHARE)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await ask(self.candidate, _SHARE)
        except ClientDisconnectError:
            raise
        except Exception as error:
            late = isinstance(error, TimeoutError | DeadlineError)
            took, helping = perf_counter() - started, perf_counter()
            try:
                # Fails here too: then the request is to blame, not the candidate.
                answer = await ask(self.production, 1.0)
            except (DeadlineError, asyncio.CancelledError):
                # Unless the candidate used up what production needs.
                if late and perf_counter() - started > self._judge.usual_s:
                    self._count(error, took, failed=True)
                raise
            helped = perf_counter() - helping
            # Counted: where one client's key sends everything to the candidate, production has nothing else to show.
            self._judge.production(helped)
            # A request that takes production as long is a long one, and says nothing of the candidate but its time.
            self._count(error, took, failed=not (late and helped >= took))
        else:
            self._conclude(self._judge.candidate(perf_counter() - started))
        return answer

    def _count(self, error: Exception, took: float, *, failed: bool) -> None:
        logger.warning("%s failed what production was to answer: %s", self._salt[:-1].decode(), error or "too late")
        self._on_failure()
        self._conclude(self._judge.candidate(took, failed=failed))

    async def _ask_production(self, ask: Ask) -> Answer:
        started = perf_counter()
        try:
            answer = await ask(self.production, 1.0)
        except Exception as error:
            if status_of(error) >= 500:
                self._judge.production(perf_counter() - started, failed=True)
            raise
        self._judge.production(perf_counter() - started)
        return answer

    def _conclude(self, verdict: str | None) -> None:
        # Requests under way may reach the same verdict once more.
        if verdict is not None and self.production.split is self:
            self._on_verdict(self, verdict)


class Router:
    """Gives each model's candidate what the alias document wants it to get."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics) -> None:
        self._settings, self._store, self._metrics = settings, store, metrics
        self.shadows = Shadows(metrics, settings.shadow_max_share)
        # Canaries that this worker ended, until the document says so too; and the revision from which on it does.
        self._ended: dict[str, tuple[Target, Canary]] = {}
        self._ended_in: dict[str, int] = {}
        self._writing: set[asyncio.Task[None]] = set()

    def apply(
        self, name: str, production: Served | None, candidate: Served | None, traffic: Traffic, revision: int
    ) -> None:
        """Begin, go on with, or end the canary and the shadow of ``name``, as ``revision`` of the document has it."""
        if traffic.canary is None or revision >= self._ended_in.get(name, revision + 1):
            # What is there from then on was begun anew, even with the same figures.
            self._ended.pop(name, None)
        if production is None or candidate is None or candidate is production:
            traffic = Traffic()
        if traffic.shadow and production and candidate:
            self.shadows.begin(name, production, candidate)
        else:
            self.shadows.end(name)
        if production is None:
            return
        canary = traffic.canary
        if canary is None or candidate is None or self._ended.get(name) == (_target(candidate), canary):
            production.split = None
        elif production.split is None or (production.split.candidate, production.split.canary) != (candidate, canary):
            production.split = Split(
                production,
                candidate,
                canary,
                timeout_s=self._settings.canary_timeout_s,
                on_failure=self._metrics.canary_failures.labels(name).inc,
                on_verdict=self._roll_back,
            )
            logger.info("%s %s: canary of %g %%", name, candidate.manifest.version, canary.percent)

    def _roll_back(self, split: Split, reason: str) -> None:
        """End the canary here at once, then in the document for all workers. The candidate keeps its alias."""
        name = split.candidate.manifest.name
        split.production.split = None
        self._ended[name] = (_target(split.candidate), split.canary)
        self._ended_in.pop(name, None)
        self._metrics.canary_rollbacks.labels(name).inc()
        logger.error("%s %s: the canary is rolled back: %s", name, split.candidate.manifest.version, reason)
        task = asyncio.get_running_loop().create_task(
            asyncio.to_thread(self._write, split, reason), name=f"rollback-{name}"
        )
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    def _write(self, split: Split, reason: str) -> None:
        name = split.candidate.manifest.name
        try:
            self._ended_in[name] = self._end(name, split, reason)
        except (ServingError, OSError) as error:
            logger.error("the end of the canary of %s is this worker's only: %s", name, error)  # noqa: TRY400

    def _end(self, name: str, split: Split, reason: str) -> int:
        """End a canary in the document; return a revision in which it is over."""
        target = _target(split.candidate)
        while True:
            document = self._store.aliases()
            traffic = document.traffic.get(name, Traffic())
            if document.target(name, CANDIDATE) != target or traffic.canary != split.canary:
                # Another worker was first, or somebody chose another candidate or another canary.
                return document.revision
            ended = traffic.model_copy(update={"canary": None})
            with contextlib.suppress(ConflictError):  # Changed since the look at it, so look again.
                return self._store.set_traffic(
                    name, ended, expect=target.version, instead_of=traffic, who="service", reason=reason
                ).revision

    async def close(self) -> None:
        """Wait for what is being written, and end the shadows' thread."""
        await asyncio.gather(*self._writing)
        await self.shadows.close()


def _target(served: Served) -> Target:
    return Target(version=served.manifest.version, digest=served.digest)

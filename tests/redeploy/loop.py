"""The steps of the loop, each of which waits until its effect is seen, and what is checked of the whole."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.store import ALIASES, Store, Target
from tests.e2e.server import Server
from tests.redeploy.load import Plan, Route
from tests.redeploy.memory import resident_kib
from tests.redeploy.plot import Event
from tests.redeploy.record import ANSWERED, Record

ADMIN_TOKEN = "loop-admin-token-of-the-test"  # noqa: S105 - of a server that lives as long as the test
FOLLOW_SECONDS = 1.0
"""Within so long every worker answers with what was promoted."""
_PATIENCE = 60.0


class LoopError(AssertionError):
    """A step did not have the effect that it should."""


@dataclass
class Loop:
    """One server under load, and what was done to it.

    Attributes:
        server: With at least two workers and an administration token.
        name: Of the model that is redeployed.
        say: Gets each line for a person.
        events: What happened when, for the plot.
        bundles: Every version that was ever offered, by name and version.
        answering: Each change of what may answer unpinned requests: when it was begun and done (seconds since 1970),
            and which versions may since.
        memory: Worker process -> its resident memory after each of the many switches, KiB.
    """

    server: Server
    name: str
    say: Callable[[str], None] = print
    events: list[Event] = field(default_factory=list)
    bundles: dict[tuple[str, str], Bundle] = field(default_factory=dict)
    answering: list[tuple[float, float, frozenset[str]]] = field(default_factory=list)
    memory: dict[int, list[float]] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return Store(self.server.home)

    def mark(self, what: str) -> None:
        """Note that something happened now."""
        self.events.append((time.time(), what))
        self.say(f"{len(self.events):3} {what}")

    def cli(self, *words: str, status: tuple[int, ...] = (0,), cwd: Path | None = None) -> tuple[int, str]:
        """Run `keras-serving` as a user does; its exit status and output."""
        done = subprocess.run(
            [str(Path(sys.executable).with_name("keras-serving")), *words],
            env=os.environ | {"SERVING_HOME": str(self.server.home)},
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode not in status:
            raise LoopError(f"keras-serving {' '.join(words)}: exit {done.returncode}, not {status}:\n{done.stdout}")
        return done.returncode, done.stdout

    def admin(self, action: str, status: int = 200, **body: Any) -> dict[str, Any]:
        """One request to the administration of the model."""
        answer = httpx.post(
            f"{self.server.url}/admin/models/{self.name}/{action}",
            json=body,
            headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
            timeout=_PATIENCE,
        )
        if answer.status_code != status:
            raise LoopError(f"admin {action} {body}: {answer.status_code}, not {status}: {answer.text}")
        document: dict[str, Any] = answer.json()
        return document

    def live(self) -> str:
        """The production version by the alias document."""
        target = self.store.aliases().target(self.name)
        if target is None:
            raise LoopError(f"{self.name} has no production version")
        return target.version

    @contextmanager
    def change(self, *canary: str) -> Iterator[None]:
        """The block changes what may answer: then the production version, and a candidate that gets a share."""
        begun = time.time()
        yield
        self.answering.append((begun, time.time(), frozenset({self.live(), *canary})))

    def wait(self, what: str, reached: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + _PATIENCE
        while not reached():
            if time.monotonic() > deadline:
                raise LoopError(f"not within {_PATIENCE:g} s: {what}\n{self.server.text[-3000:]}")
            time.sleep(0.1)

    def know(self, name: str | None = None) -> None:
        """Remember every whole version in the store, so that answers of deleted ones can be checked too."""
        for model in [name] if name else self.store.names():
            for version in self.store.versions(model):
                if (model, version) not in self.bundles:
                    self.bundles[model, version] = self.store.open(model, version)

    def promote_many(
        self,
        versions: tuple[str, str],
        times: int,
        *,
        kill_at: int | None = None,
        pause_s: float = FOLLOW_SECONDS + 0.2,
    ) -> None:
        """Promote one and the other in turn, and watch the workers' memory.

        Args:
            versions: Both whole and in the store.
            times: How many promotions.
            kill_at: Before this one, a worker is killed with SIGKILL.
            pause_s: From one promotion to the next, at least; long enough for `late` to say something.
        """
        for turn in range(times):
            started = time.monotonic()
            if turn == kill_at:
                victim = self.server.workers()[0]
                os.kill(victim, signal.SIGKILL)
                self.mark("a worker killed (SIGKILL)")
                self.wait("another worker", partial(self._replaced, victim))
                self.wait("ready", self._ready)
            with self.change():
                self.admin("promote", version=versions[turn % 2])
            time.sleep(max(0.0, pause_s - (time.monotonic() - started)))
            for pid in self.server.workers():
                self.memory.setdefault(pid, []).append(resident_kib(pid))

    def force(self, version: str, digest: str) -> None:
        """Point production to a version behind the back of the store, which would not do it."""
        document = self.store.aliases()
        target = Target(version=version, digest=digest)
        models = {**document.models, self.name: {**document.models[self.name], "production": target}}
        changed = document.model_copy(update={"models": models, "revision": document.revision + 1})
        temporary = self.server.home / ".forced"
        temporary.write_text(changed.model_dump_json())
        temporary.replace(self.server.home / ALIASES)

    def _replaced(self, gone: int) -> bool:
        workers = self.server.workers()
        return gone not in workers and len(workers) > 1

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.server.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def late(self, record: Record, routes: tuple[int, ...]) -> list[str]:
        """Unpinned answers of a version that had been replaced for more than `FOLLOW_SECONDS` when they were due."""
        found = []
        ends = [begun for begun, _, _ in self.answering[1:]] + [np.inf]
        unpinned = np.isin(record.route, routes) & (record.status == ANSWERED)
        for (_, done, versions), end in zip(self.answering, ends, strict=True):
            allowed = [index for index, version in enumerate(record.versions) if version in versions]
            due = (record.due > done + FOLLOW_SECONDS) & (record.due < end)
            other = due & unpinned & ~np.isin(record.version, allowed)
            if other.any():
                found.append(f"{int(other.sum())} answers of another version than {' or '.join(sorted(versions))}")
        return found


@contextmanager
def load(server: Server, routes: tuple[Route, ...], rate: float, folder: Path) -> Iterator[Callable[[], Record]]:
    """Load from a process of its own for as long as the block; the function gives the record after it."""
    plan = Plan(int(server.url.rpartition(":")[2]), rate, routes, str(folder / "record.npz"))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.redeploy.load"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None

    def record() -> Record:
        if process.returncode != 0:
            raise LoopError(f"the load ended with {process.returncode}")
        return Record.read(folder / "record.npz")

    try:
        process.stdin.write(json.dumps(asdict(plan)) + "\n")
        process.stdin.flush()
        yield record
    finally:
        _, errors = process.communicate(timeout=60)
        if process.returncode:
            raise LoopError(f"the load failed:\n{errors[-3000:]}")


def json_route(path: str, instances: list[Any], **options: Any) -> Route:
    """A route whose bodies hold one instance each."""
    import base64

    bodies = [base64.b64encode(json.dumps({"instances": [instance]}).encode()).decode() for instance in instances]
    return Route(path, "application/json", tuple(bodies), **options)


def npy_route(path: str, rows: NDArray[Any], **options: Any) -> Route:
    """A route whose bodies are one row each, as numpy writes it."""
    import base64
    import io

    bodies = []
    for row in rows:
        file = io.BytesIO()
        np.save(file, row[np.newaxis])
        bodies.append(base64.b64encode(file.getvalue()).decode())
    return Route(path, "application/x-npy", tuple(bodies), **options)

"""Steady mixed load on a real server, and how much memory it has meanwhile."""

import itertools
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from models.bundle import Bundle
from models.task import Task
from service.settings import PRETRAINED, Settings
from tests.e2e.server import Server, running, wait_for
from tests.e2e.test_same_bits import WAYS, Outputs, bits, native_json, v2_grpc
from tests.redeploy.memory import resident_kib

MODELS = ("cnn", "dnn", "lstm", "regressor")
TASKS: dict[str, Task] = {name: Bundle.open(PRETRAINED / name).manifest.task for name in MODELS}
RATE = 40.0
"""Requests a second, over all clients."""
FULL_ROWS: int = 2 * Settings.model_fields["feedback_rows"].default
"""After so many rows a worker has all the answers that it ever remembers for feedback.

That is most of what fills after a start, some 400 bytes an answer: measured before, it looks like a leak.
"""
_FULL_S = 300.0
_CLIENTS = 4
_BAD_EVERY = 20
_SAMPLE_S = 0.5


@dataclass
class Soak:
    """What was seen.

    Attributes:
        seconds: When each sample was taken, since the worker remembers all that it ever does.
        kib: Resident memory of the worker then.
        descriptors: Open ones of the worker then.
        answered: Requests that had been answered as they should be by then.
        requests: How many were in all.
        wrong: Which were not.
    """

    seconds: list[float] = field(default_factory=list)
    kib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    requests: int = 0
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, *, right: bool) -> None:
        with self._lock:
            if right:
                self.requests += 1
            else:
                self.wrong.append(what)


def soak(folder: Path, minutes: float, **environment: str) -> Soak:
    """Serve the shipped models to `_CLIENTS` clients for so long; every answer is compared.

    Before that they ask as fast as they can, until the worker has filled what it fills.
    """
    found, full, over = Soak(), threading.Event(), threading.Event()
    with running(folder / "home", pretrained=PRETRAINED, grpc=True, **environment) as server:
        (worker,) = server.workers()
        clients = [
            threading.Thread(target=_client, args=(server, number, found, full, over)) for number in range(_CLIENTS)
        ]
        for client in clients:
            client.start()
        try:
            wait_for(lambda: server.metric("serving_predictions_total") >= FULL_ROWS, seconds=_FULL_S)
            full.set()
            began = time.monotonic()
            while (now := time.monotonic() - began) < 60 * minutes:
                found.seconds.append(now)
                found.kib.append(resident_kib(worker))
                found.descriptors.append(sum(1 for _ in Path(f"/proc/{worker}/fd").iterdir()))
                found.answered.append(found.requests)
                time.sleep(_SAMPLE_S)
        finally:
            over.set()
            for client in clients:
                client.join()
    return found


def _client(server: Server, number: int, found: Soak, full: threading.Event, over: threading.Event) -> None:
    """Every model by every protocol in turn, with a bad request and a look at the pages in between.

    On schedule once the worker is ``full``.
    """
    turns = itertools.cycle([(model, way) for model in MODELS for way in (native_json, *WAYS, None)])
    with httpx.Client(base_url=server.url, timeout=30) as client:
        rows = {name: Bundle.open(PRETRAINED / name).golden()[0][number : number + 2] for name in MODELS}
        expected = {name: bits(native_json(client, name, TASKS[name], rows[name])) for name in MODELS}
        due = time.monotonic()
        for turn, (model, way) in enumerate(turns):
            due = due + _CLIENTS / RATE if full.is_set() else time.monotonic()
            if over.wait(max(0.0, due - time.monotonic())):
                return
            what = f"{model} by {way.__name__ if way else 'grpc'}"
            try:
                task, some = TASKS[model], rows[model]
                answers: list[Outputs] = (
                    list(v2_grpc(server, model, task, some)) if way is None else [way(client, model, task, some)]
                )
                found.count(what, right=all(bits(answer) == expected[model] for answer in answers))
                if turn % _BAD_EVERY == 0:
                    _look_around(client, model, found)
            except Exception as error:  # Whatever it is, it is what the soak is there to find.
                found.count(f"{what}: {error!r}", right=False)


def _look_around(client: httpx.Client, model: str, found: Soak) -> None:
    bad = client.post(f"/predict/{model}", json={"instances": ["nonsense"]})
    found.count(f"nonsense for {model}: {bad.status_code}", right=bad.status_code == 422)
    for path in ("/metrics", "/models", f"/models/{model}", "/readyz"):
        found.count(path, right=client.get(path).status_code == 200)

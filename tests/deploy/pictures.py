"""Draws the dashboards of docs/observability.md anew: ``python -m tests.deploy.pictures`` (about five minutes).

The shipped models on two workers, some 40 requests a second of several kinds, a canary and a shadow of the CNN, and a
real Prometheus with the rules as they are shipped. Only loopback addresses are used.
"""

import argparse
import gzip
import shutil
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from deploy.grafana import DASHBOARDS
from deploy.grafana.draw import draw
from models.bundle import Bundle
from models.store import Canary, Store, Traffic
from models.task import Classes
from service.settings import PRETRAINED
from tests.deploy.watched import JOB, Prometheus, prometheus
from tests.e2e.server import Server, running, wait_for
from tests.redeploy.offered import resealed

DOCS = Path(__file__).resolve().parents[2] / "docs" / "observability"
# Of Debian's package dataset-fashion-mnist.
_PICTURES = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")
_LABELS = _PICTURES.with_name("train-labels-idx1-ubyte.gz")
_THREADS = 4
_PAUSE_S = 0.1


def _bodies() -> list[tuple[str, dict[str, Any], int]]:
    """Model, body and true class, or -1, of each request to choose from; one in fifty is wrong."""
    found: list[tuple[str, dict[str, Any], int]] = []
    rows = np.frombuffer(gzip.decompress(_PICTURES.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    truth = np.frombuffer(gzip.decompress(_LABELS.read_bytes()), np.uint8, offset=8)
    for name in ("cnn", "dnn"):
        # One, two or three pictures a request.
        for i in range(0, 1000, 3):
            count = 1 + i // 3 % 3
            found.append((name, {"instances": rows[i : i + count].tolist()}, int(truth[i]) if count == 1 else -1))
    for name in ("regressor", "lstm"):
        found += [(name, {"instances": [Bundle.open(PRETRAINED / name).manifest.example]}, -1)] * 80
    return [*found, *[("regressor", {"instances": [{"weight": 1}]}, -1)] * 15]


def _load(server: Server, seed: int, until: float) -> None:
    bodies = _bodies()
    task = Bundle.open(PRETRAINED / "cnn").manifest.task
    assert isinstance(task, Classes)
    labels = task.labels
    chance = np.random.default_rng(seed)
    with httpx.Client(timeout=30) as client:
        while time.monotonic() < until:
            name, body, truth = bodies[chance.integers(len(bodies))]
            answer = client.post(f"{server.url}/predict/{name}", json=body)
            if truth >= 0:
                told = {"request_id": answer.json()["request_id"], "label": labels[truth]}
                client.post(f"{server.url}/feedback", json=told)
            # A slow swing, so that lines are not flat.
            time.sleep(_PAUSE_S * (1.2 + np.sin(time.monotonic() / 20)) * chance.exponential())


def _draw(found: Prometheus, seconds: float) -> None:
    end = time.time()

    def ask(expr: str) -> list[dict[str, Any]]:
        span = {"query": expr, "start": end - seconds, "end": end, "step": 2}
        answer = httpx.get(f"{found.url}/api/v1/query_range", params=span, timeout=30).json()
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    variables = {"$job": JOB, "$model": "cnn", "$__rate_interval": "20s"}
    for page in DASHBOARDS:
        draw(page, ask, variables, DOCS / f"{page.uid}.png")
        print(DOCS / f"{page.uid}.png", flush=True)


def main() -> None:
    """Serve, load, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240, help="of load [%(default)s]")
    seconds: float = parser.parse_args().seconds
    folder = Path(tempfile.mkdtemp(prefix="pictures-"))
    try:
        with (
            running(folder / "home", "--workers", "2", pretrained=PRETRAINED) as server,
            prometheus(folder / "prometheus", [server.url.removeprefix("http://")], 1) as found,
        ):
            threads = [
                threading.Thread(target=_load, args=(server, seed, time.monotonic() + seconds))
                for seed in range(_THREADS)
            ]
            for thread in threads:
                thread.start()
            time.sleep(seconds / 3)
            _begin_canary(server, folder)
            for thread in threads:
                thread.join()
            wait_for(lambda: found.query("job_model:serving_requests:rate5m"), "recorded rules")
            _draw(found, seconds)
    finally:
        shutil.rmtree(folder)


def _begin_canary(server: Server, folder: Path) -> None:
    cnn = Bundle.open(PRETRAINED / "cnn")
    candidate = resealed(cnn, folder / "candidate", cnn.manifest.created + timedelta(hours=1))
    store = Store(server.home)
    store.add(candidate.path)
    store.set_alias("cnn", candidate.manifest.version, "candidate")
    store.set_traffic("cnn", Traffic(canary=Canary(percent=20, p99_factor=1000), shadow=True))


if __name__ == "__main__":
    main()

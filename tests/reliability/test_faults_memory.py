"""A version that the memory has no room for."""

import resource
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from models.store import Store
from models.task import ImageClassification
from tests.bundles import CREATED, IMAGE, LABELS, make_bundle, rows_of
from tests.e2e.server import running
from tests.figures import Figure
from tests.reliability.faults import problems
from tests.reliability.probe import until

# Its graph has 3 million weights for each of three classes: 36 MB, several times that while it is opened.
LARGE = ImageClassification(height=1732, width=1732, channels=1, preparation="fashion_mnist_v1", labels=LABELS)
ROOM = 48 * 1024 * 1024


@pytest.mark.slow
@pytest.mark.reliability(
    35, "memory limit: a version that does not fit is refused, the old one answers, then it is tried again"
)
def test_a_version_that_does_not_fit_is_refused_and_the_old_one_answers(tmp_path: Path, figure: Figure) -> None:
    home = tmp_path / "home"
    store = Store(home)
    small = make_bundle(tmp_path / "made", "clothes", IMAGE)
    large = make_bundle(tmp_path / "made", "clothes", LARGE, seed=1, created=CREATED + timedelta(hours=1))
    for bundle in (small, large):
        store.add(bundle.path)
    store.set_alias("clothes", small.manifest.version)
    body = {"instances": [rows_of(IMAGE, 1)[0][:, :, 0].tolist()]}
    with running(home, pretrained=tmp_path / "none", SERVING_RETRY_S="2") as server:

        def version() -> str:
            answer = httpx.post(f"{server.url}/predict/clothes", json=body, timeout=30)
            return str(answer.json()["version"]) if answer.status_code == 200 else str(answer.status_code)

        assert version() == small.manifest.version
        (worker,) = server.workers()
        size = int(Path(f"/proc/{worker}/statm").read_text().split()[0]) * resource.getpagesize()
        limits = resource.prlimit(worker, resource.RLIMIT_AS)
        resource.prlimit(worker, resource.RLIMIT_AS, (size + ROOM, limits[1]))
        store.set_alias("clothes", large.manifest.version)
        until(lambda: server.metric("serving_model_reloads_total", model="clothes", result="failure") >= 1, 60)
        reason = problems(server)["clothes"]
        assert {version() for _ in range(20)} == {small.manifest.version}
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert server.workers() == [worker]
        resource.prlimit(worker, resource.RLIMIT_AS, limits)
        until(lambda: not problems(server), 60)
        assert server.workers() == [worker]
    figure(f"{ROOM // 2**20} MiB of room: refused ({reason[:60]}); 20 of 20 predictions by the old; loaded later")

"""The loop's short form: everything but training, in seconds; ``make test-redeploy`` is the long one."""

import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from models.store import Store
from tests.bundles import CARS, IMAGE, make_bundle, rows_of
from tests.e2e.server import running
from tests.figures import Figure
from tests.redeploy import offered
from tests.redeploy.loop import ADMIN_TOKEN, Loop, json_route, load, npy_route

NAME = "cars"


@pytest.mark.reliability(1, "Versions come and go, good and bad, under steady load: no error, no wrong answer")
def test_versions_come_and_go_under_load_without_a_failed_or_wrong_answer(tmp_path: Path, figure: Figure) -> None:
    home = tmp_path / "home"
    store = Store(home)
    old = make_bundle(tmp_path / "made", NAME, CARS)
    new = make_bundle(tmp_path / "made", NAME, CARS, seed=1, created=datetime(2026, 2, 1, tzinfo=UTC))
    slow = offered.resealed(new, tmp_path / "slow", datetime(2026, 3, 1, tzinfo=UTC), offered.slow(new, side=1100))
    broken = offered.resealed(new, tmp_path / "broken", datetime(2026, 4, 1, tzinfo=UTC))
    for bundle in (old, new, slow, make_bundle(tmp_path / "made", "clothes", IMAGE)):
        store.add(bundle.path)
    store.set_alias(NAME, old.manifest.version)
    store.set_alias("clothes", store.versions("clothes")[0])
    cars, clothes = rows_of(CARS, 12), rows_of(IMAGE, 4)
    instances = [CARS.record(row) for row in cars]
    routes = (
        json_route(f"/predict/{NAME}", instances),
        json_route(f"/predict/{NAME}", instances, keys=24),
        json_route(f"/predict/{NAME}?label=production", instances),
        npy_route("/predict/clothes", clothes),
    )
    with running(
        home, "--workers", "2", pretrained=tmp_path / "none", SERVING_ADMIN_TOKEN=ADMIN_TOKEN, SERVING_POLL_S="0.1"
    ) as server:
        loop = Loop(server, NAME)
        loop.know()
        with load(server, routes, 100, tmp_path) as record_of:
            with loop.change():
                time.sleep(0.5)
            loop.admin("load", version=new.manifest.version)
            loop.admin("shadow", on=True)
            time.sleep(1)
            loop.admin("shadow", on=False)
            with loop.change(new.manifest.version):
                loop.admin("canary", percent=30)
            time.sleep(1)
            with loop.change():
                loop.admin("promote", version=new.manifest.version)
            offered.corrupt(offered.place(broken, home))
            loop.admin("promote", version=broken.manifest.version, status=422)
            loop.force(broken.manifest.version, broken.manifest.digest)
            loop.wait(
                "the broken version counted as a failure",
                lambda: server.metric("serving_model_reloads_total", model=NAME, result="failure") > 0,
            )
            loop.admin("promote", version=new.manifest.version)
            loop.admin("load", version=slow.manifest.version)
            with loop.change(slow.manifest.version):
                # By so small a factor that what a busy machine adds to both versions does not hide it.
                loop.admin("canary", percent=50, requests=50, p99_factor=1)
            with loop.change():
                loop.wait("the slow canary ended", lambda: not loop.store.aliases().traffic.get(NAME))
                server.wait_until_followed(NAME, loop.store.aliases().revision)
            loop.promote_many((old.manifest.version, new.manifest.version), 4, kill_at=2)
            with loop.change():
                loop.admin("rollback")
            time.sleep(1.5)
        record = record_of()

    assert record.problems == []
    assert record.errors == 0
    assert record.wrong(loop.bundles, {0: cars, 1: cars, 2: cars, 3: clothes}) == []
    assert loop.late(record, (0, 1)) == []
    answered = {(route, answer["version"]) for route, _, answer, _ in record.answers}
    versions = {bundle.manifest.version for bundle in (old, new, slow)}
    assert {version for route, version in answered if route == 0} == versions
    # Never the candidate: it is production that is asked for.
    assert slow.manifest.version not in {version for route, version in answered if route == 2}
    by_service = [change for change in loop.store.changes(NAME) if change.who == "service"]
    assert [change.action for change in by_service] == ["traffic"]
    # A busy machine may not keep up with it, so that its answers are too late to count.
    assert by_service[0].reason.startswith(("p99: ", "error rate: "))
    assert np.median(record.latency) < 1
    switches = len(loop.answering) - 1
    figure(f"{len(record.due)} requests, {switches} switches, a worker killed: 0 failed, 0 not what their version says")

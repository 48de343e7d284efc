"""Many reloads in a row: nobody notices, and nothing of the versions before is kept."""

import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.store import Store
from service.settings import PRETRAINED
from tests.bundles import CARS, IMAGE, make_bundle, rows_of
from tests.e2e.server import running
from tests.figures import Figure
from tests.redeploy import offered
from tests.redeploy.loop import ADMIN_TOKEN, Loop, json_route, load, npy_route
from tests.redeploy.memory import growth

RELOADS = 200
LATER = datetime(2030, 1, 1, tzinfo=UTC)
FIRST_FEW = 20
ALLOWED_KIB = 64
"""Growth that is accepted, KiB a reload: a fiftieth of the engine. `make test-redeploy` is stricter, over 200."""
LEAKY = Path(offered.__file__).parent / "leaky"


@pytest.mark.slow
@pytest.mark.reliability(1, "200 reloads under steady load: no error, every answer is what its version says")
def test_200_reloads_under_steady_load_give_no_error_and_no_answer_of_another_version(
    tmp_path: Path, figure: Figure
) -> None:
    store = Store(tmp_path / "home")
    old = make_bundle(tmp_path, "cars", CARS, seed=1)
    new = make_bundle(tmp_path, "cars", CARS, seed=2, created=LATER)
    for bundle in (old, new, make_bundle(tmp_path, "clothes", IMAGE)):
        store.add(bundle.path)
    store.set_alias("cars", old.manifest.version)
    store.set_alias("clothes", store.versions("clothes")[0])
    cars, clothes = rows_of(CARS, 12), rows_of(IMAGE, 4)
    instances = [CARS.record(row) for row in cars]
    routes = (
        json_route("/predict/cars", instances),
        json_route("/predict/cars?label=production", instances),
        npy_route("/predict/clothes", clothes),
    )
    with running(
        tmp_path / "home", "--workers", "2", pretrained=tmp_path / "none", SERVING_ADMIN_TOKEN=ADMIN_TOKEN
    ) as server:
        loop = Loop(server, "cars")
        loop.know()
        with load(server, routes, 150, tmp_path) as record_of:
            with loop.change():
                time.sleep(0.5)
            loop.promote_many((new.manifest.version, old.manifest.version), RELOADS, pause_s=0.3)
            time.sleep(1)
        record = record_of()
        reloads = server.metric("serving_model_reloads_total", model="cars", result="success")

    assert record.problems == []
    assert record.errors == 0
    assert record.wrong(loop.bundles, {0: cars, 1: cars, 2: clothes}) == []
    assert reloads >= RELOADS
    answered = {version for version in record.versions if (record.version == record.versions.index(version)).any()}
    assert {old.manifest.version, new.manifest.version} <= answered
    p50, p99, longest = 1000 * np.percentile(record.latency, (50, 99, 100))
    figure(
        f"{RELOADS} promotions, {reloads:.0f} loads in two workers, {len(record.due)} requests: 0 failed, 0 wrong; "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {longest:.0f} ms"
    )


def resident_over_reloads(folder: Path, times: int, **environment: str) -> list[float]:
    """Resident memory of a worker after each promotion but the first few, KiB.

    The shipped regressor and a copy of it are promoted in turn.
    """
    store = Store(folder / "home")
    first = Bundle.open(PRETRAINED / "regressor")
    second = offered.resealed(first, folder / "second", LATER)
    for bundle in (first, second):
        store.add(bundle.path)
    store.set_alias("regressor", first.manifest.version)
    settings = {"SERVING_ADMIN_TOKEN": ADMIN_TOKEN, "SERVING_POLL_S": "0.05", **environment}
    with running(folder / "home", pretrained=folder / "none", **settings) as server:
        loop = Loop(server, "regressor")
        loop.promote_many((second.manifest.version, first.manifest.version), FIRST_FEW + times, pause_s=0)
        assert server.metric("serving_model_reloads_total", model="regressor", result="success") >= times
        (samples,) = loop.memory.values()
    return samples[FIRST_FEW:]


@pytest.mark.slow
@pytest.mark.reliability(6, "50 reloads: resident memory is flat after the first few, and is not where a server leaks")
def test_resident_memory_is_flat_over_50_reloads_and_grows_where_engines_are_kept(
    tmp_path: Path, figure: Figure
) -> None:
    for name in ("whole", "leaky"):
        (tmp_path / name).mkdir()
    samples = resident_over_reloads(tmp_path / "whole", 50)
    leaking = resident_over_reloads(tmp_path / "leaky", 20, PYTHONPATH=f"{LEAKY}")
    figure(
        f"{growth(samples):+.1f} KiB a reload (accepted: {ALLOWED_KIB:g}), {samples[0] / 1024:.0f} -> "
        f"{samples[-1] / 1024:.0f} MiB; a server that keeps its engines: {growth(leaking):+.0f} KiB a reload"
    )
    assert growth(samples) <= ALLOWED_KIB
    assert growth(leaking) > ALLOWED_KIB, "the criterion does not see a leak"

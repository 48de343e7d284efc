"""How far each version of a model is, as other servers' clients are told."""

from datetime import timedelta

import pytest

from models.bundle import ONNX, Bundle
from models.errors import UnknownModelError
from models.store import Store
from service.errors import NotReadyError
from service.loader import Loader
from service.metrics import Metrics
from service.protocols.base import Pin
from service.runtime import Runtime
from service.settings import Settings
from service.states import states
from tests.bundles import CARS, CREATED
from tests.conftest import MakeBundle
from tests.service.conftest import StartRuntime, client_of, until


@pytest.fixture
def newer(store: Store, bundle_of: MakeBundle) -> Bundle:
    """A second version of ``cars``, which is the candidate."""
    bundle = store.add(bundle_of(CARS, "cars", seed=1, created=CREATED + timedelta(days=1)).path)
    store.set_alias("cars", bundle.manifest.version, "candidate")
    return bundle


@pytest.fixture
def older(store: Store, newer: Bundle) -> str:
    target = store.aliases().target("cars")
    assert target is not None
    return target.version


async def test_loaded_versions_are_available_the_newest_first(
    newer: Bundle, older: str, start_runtime: StartRuntime, settings: Settings
) -> None:
    runtime = await start_runtime(settings)
    await until(lambda: len(runtime.loader.named("cars")) == 2)
    found = states(runtime.loader, "cars")
    assert [(one.version, one.aliases, one.served is not None) for one in found] == [
        (newer.manifest.version, ("candidate",), True),
        (older, ("production",), True),
    ]
    for pin in (Pin(label="candidate"), Pin(version=newer.manifest.version)):
        assert [one.version for one in states(runtime.loader, "cars", pin)] == [newer.manifest.version]


async def test_a_version_that_cannot_be_loaded_says_why(
    newer: Bundle, older: str, start_runtime: StartRuntime, settings: Settings
) -> None:
    (newer.path / ONNX).write_bytes(b"altered")
    runtime: Runtime = await start_runtime(settings)
    await until(lambda: "candidate" in runtime.loader.failures_of("cars"))
    client = client_of(runtime)
    failed, good = (await client("GET", "/v1/models/cars")).json["model_version_status"]
    assert (failed["version"], failed["state"], failed["status"]["error_code"]) == (
        newer.manifest.version,
        "END",
        "UNKNOWN",
    )
    assert ONNX in failed["status"]["error_message"]
    assert (good["version"], good["state"]) == (older, "AVAILABLE")
    index = [one for one in (await client("POST", "/v2/repository/index")).json if one["name"] == "cars"]
    assert [one["state"] for one in index] == ["UNAVAILABLE", "READY"]
    ready = (await client("POST", "/v2/repository/index", b'{"ready": true}')).json
    assert [one["version"] for one in ready if one["name"] == "cars"] == [older]


async def test_a_version_that_is_not_there_yet_is_being_loaded(
    newer: Bundle, older: str, store: Store, settings: Settings
) -> None:
    loader = Loader(settings, store, Metrics())
    with pytest.raises(NotReadyError):
        states(loader, "cars")
    loader._aliases.content = store.aliases()
    found = states(loader, "cars")
    assert [(one.version, one.served, one.reason) for one in found] == [
        (newer.manifest.version, None, ""),
        (older, None, ""),
    ]
    await loader.close()


async def test_what_nobody_knows_is_an_error_that_says_what_is_known(runtime: Runtime) -> None:
    version = runtime.loader.served["cars"].manifest.version
    for pin in (Pin(version="7"), Pin(label="candidate")):
        with pytest.raises(UnknownModelError, match=rf"Known: {version} \(production\)"):
            states(runtime.loader, "cars", pin)
    with pytest.raises(UnknownModelError, match="Unknown model 'nope'"):
        states(runtime.loader, "nope")

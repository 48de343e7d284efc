"""What we rely on in BentoML and prometheus_client without their having promised it.

When one of these fails after an update, look at service/app.py, models/store.py and service/metrics.py.
"""

import asyncio
import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bentoml
import prometheus_client
import pytest
from _bentoml_sdk.service import Service
from bentoml._internal.models import ModelStore

from service.bounded import Limits
from service.fast_path import FastPath
from service.general_path import GeneralPath
from service.runtime import Runtime
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def test_bentoml_is_the_version_that_these_tests_were_written_for() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for package in ("bentoml", "uvicorn"):
        (pinned,) = (line for line in dependencies if line.startswith(package))
        assert pinned == f"{package}=={version(package)}"


def test_a_service_class_of_ours_makes_the_service() -> None:
    class Ours(Service[Any]):
        pass

    @bentoml.service(name="contract", service_class=Ours)
    class Contract:
        @bentoml.api
        def predict(self, text: str) -> str:
            return text

    assert type(Contract) is Ours
    assert Contract.name == "contract"


def test_the_service_makes_its_application_in_to_asgi_and_says_whether_it_is_the_main_one() -> None:
    assert list(inspect.signature(Service.to_asgi).parameters) == ["self", "is_main"]


def test_the_servers_worker_asks_the_service_for_its_application() -> None:
    import _bentoml_impl.worker.service as worker

    source = inspect.getsource(worker)
    assert ".to_asgi(" in source


def test_the_document_of_a_service_is_a_property_that_can_be_overridden() -> None:
    assert isinstance(inspect.getattr_static(Service, "openapi_spec"), property)
    from _bentoml_impl.server import app

    assert "openapi_spec.asdict()" in inspect.getsource(app)


def test_our_application_wraps_bentomls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVING_HOME", str(tmp_path))
    from service.app import FrontDoorService, KerasServing
    from service.gateway import Gateway

    assert isinstance(KerasServing, FrontDoorService)
    monkeypatch.setattr(FrontDoorService, "runtime", None)
    gateway = KerasServing.to_asgi(is_main=True)
    assert isinstance(gateway, Gateway)
    assert callable(gateway._inner)
    assert FrontDoorService.runtime is not None
    assert KerasServing.openapi_spec.asdict()["openapi"] == "3.1.0"


def test_the_server_that_bentoml_makes_has_our_limits_and_the_fast_path_unless_it_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import uvicorn.config

    from service.app import FrontDoorService, KerasServing

    monkeypatch.setenv("SERVING_HOME", str(tmp_path))
    monkeypatch.setattr(FrontDoorService, "runtime", None)
    monkeypatch.setenv("SERVING_RECEIVE_S", "30")
    monkeypatch.setenv("SERVING_MAX_HEAD_BYTES", "2048")
    for switch in ("false", "true"):
        monkeypatch.setattr(uvicorn.config, "HTTP_PROTOCOLS", {"auto": "uvicorn.protocols.http.auto:AutoHTTPProtocol"})
        monkeypatch.setenv("SERVING_FAST_PATH", switch)
        gateway: Any = KerasServing.to_asgi(is_main=True)
        # As BentoML's worker makes it: with the application, and with no protocol named.
        config = uvicorn.Config(app=gateway)
        config.load()
        chosen: Any = config.http_protocol_class
        if switch == "false":
            assert (chosen.func, chosen.args) == (GeneralPath, (Limits(30, 2048),))
        else:
            assert (chosen.func, chosen.args) == (FastPath, (gateway.predictions,))
            assert chosen.keywords == {"limits": Limits(30, 2048)}


def test_the_api_method_keeps_its_route_and_its_names() -> None:
    from service.app import KerasServing

    method = KerasServing.apis["predict"]
    assert method.route == "/predict"
    assert list(method.input_spec.model_fields) == ["model", "instances"]


async def test_the_api_method_too_waits_for_the_models_of_a_worker_that_has_just_started(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, thawed_garbage: None
) -> None:
    from service.app import FrontDoorService, KerasServing

    runtime = Runtime.create(settings.model_copy(update={"start_wait_s": 60.0}))
    monkeypatch.setattr(FrontDoorService, "runtime", runtime)
    car = {"weight": 3504, "horsepower": 130, "origin": "usa"}
    early = asyncio.create_task(KerasServing.inner().predict(model="cars", instances=[car]))
    await asyncio.sleep(0.05)
    await runtime.start()
    assert (await early)["model"] == "cars"
    await runtime.close()


def test_the_model_store_lies_in_a_folder_a_name_and_a_folder_a_version(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with bentoml.models.create("some-model:20260102-030405-0123abcd", _model_store=store) as model:
        Path(model.path_of("file.txt")).write_text("text")
    folder = tmp_path / "some-model" / "20260102-030405-0123abcd"
    assert (folder / "file.txt").read_text() == "text"
    assert [str(found.tag) for found in store.list()] == ["some-model:20260102-030405-0123abcd"]


def test_a_failure_while_a_model_is_written_leaves_nothing_in_the_store(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    with (
        pytest.raises(ZeroDivisionError),
        bentoml.models.create("some-model:20260102-030405-0123abcd", _model_store=store),
    ):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_default_model_store_is_models_below_bentomls_home() -> None:
    from bentoml._internal.configuration.containers import BentoMLContainer

    assert Path(BentoMLContainer.model_store_dir.get()).name == "models"


def test_a_histogram_has_the_parts_that_bulk_observation_reaches_into() -> None:
    registry = prometheus_client.CollectorRegistry()
    child = prometheus_client.Histogram("h", "", ["a"], buckets=(1, 2), registry=registry).labels("x")
    assert child._upper_bounds == [1.0, 2.0, float("inf")]
    assert len(child._buckets) == 3
    child._buckets[1].inc(4)
    child._sum.inc(6.0)
    assert registry.get_sample_value("h_bucket", {"a": "x", "le": "1.0"}) == 0
    assert registry.get_sample_value("h_bucket", {"a": "x", "le": "2.0"}) == 4
    assert registry.get_sample_value("h_count", {"a": "x"}) == 4
    assert registry.get_sample_value("h_sum", {"a": "x"}) == 6


def test_the_files_of_live_gauges_are_named_by_process() -> None:
    from prometheus_client import multiprocess

    assert "gauge_{mode}_{pid}.db" in inspect.getsource(multiprocess.mark_process_dead)

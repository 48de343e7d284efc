"""API keys: predictions need one where there are any; what only describes stays open."""

import itertools
import json
import logging

import pytest
from pydantic import SecretStr

from service.access import Secrets
from service.errors import UnauthorizedError
from service.runtime import Runtime
from service.settings import Settings
from tests.service.asgi import Client
from tests.service.conftest import StartRuntime
from tests.service.test_gateway import CAR, body_of, check_problem
from tests.service.test_metrics import rendered

KEYS = ("first-key-of-sixteen", "second-key-of-sixteen")
JSON = {"content-type": "application/json"}


@pytest.fixture
async def runtime(start_runtime: StartRuntime, settings: Settings) -> Runtime:
    return await start_runtime(Settings.load(**settings.model_dump() | {"api_keys": ",".join(KEYS)}))


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEYS[0]}"},
        {"authorization": f"bearer {KEYS[1]}"},
        {"x-api-key": KEYS[0]},
        {"x-api-key": KEYS[1]},
        {"authorization": "Basic dTpw", "x-api-key": KEYS[1]},
    ],
)
async def test_any_of_the_keys_opens_predictions(client: Client, headers: dict[str, str]) -> None:
    assert (await client("POST", "/predict/cars", body_of(CAR), headers=JSON | headers)).status == 200
    answer = await client("POST", "/predict", b"{}", headers=headers)
    assert answer.headers["x-from"] == "bentoml"


OTHER_PROTOCOLS = ("/v1/models/cars:predict", "/v2/models/cars/infer", "/v2/models/cars/versions/production/infer")


async def test_the_other_protocols_need_a_key_too_and_say_so_in_their_form(client: Client) -> None:
    for path, headers in itertools.product(OTHER_PROTOCOLS, ({}, {"x-api-key": KEYS[0][:-1]})):
        answer = await client("POST", path, body_of(CAR), headers=headers)
        assert (answer.status, list(answer.json)) == (401, ["error"])
        assert answer.headers["www-authenticate"] == 'Bearer realm="keras-serving"'
    for path in OTHER_PROTOCOLS:
        # Let in: the body is looked at, and is none of v2's.
        answer = await client("POST", path, body_of(CAR), headers={"x-api-key": KEYS[0]})
        assert answer.status == (200 if path.startswith("/v1") else 400)


async def test_what_describes_in_the_other_protocols_stays_open(client: Client) -> None:
    for path in ("/v2", "/v2/health/ready", "/v2/models/cars", "/v2/models/cars/stats", "/v1/models/cars/metadata"):
        assert (await client("GET", path)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": KEYS[0][:-1]},
        {"x-api-key": ",".join(KEYS)},
        {"authorization": KEYS[0]},
        {"authorization": f"Basic {KEYS[0]}"},
        {"authorization": f"Bearer {KEYS[0]} {KEYS[1]}"},
    ],
)
@pytest.mark.parametrize("path", ["/predict/cars", "/predict/trains", "/predict", "/predict/"])
async def test_without_a_key_no_route_predicts(client: Client, path: str, headers: dict[str, str]) -> None:
    answer = await client("POST", path, body_of(CAR), headers=JSON | headers)
    check_problem(answer, 401, www_authenticate='Bearer realm="keras-serving"')


async def test_refusals_are_counted_on_either_route(client: Client, runtime: Runtime) -> None:
    for path in ("/predict/cars", "/predict"):
        await client("POST", path, body_of(CAR), headers=JSON)
    found = rendered(runtime.metrics)
    assert found['serving_rejected_total{reason="unauthorized"}'] == 2
    assert found['serving_requests_total{alias="production",code="401",model="cars",route="/predict/{model}"}'] == 1
    assert found['serving_requests_total{alias="",code="401",model="",route="/predict"}'] == 1


async def test_a_request_without_a_key_is_refused_before_its_body_is_read(client: Client) -> None:
    await client("POST", "/predict/cars", [b"x"] * 100, headers=JSON)
    assert client.chunks_read == 0


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/models", "/models/cars", "/openapi.json", "/docs"])
async def test_health_metrics_and_descriptions_stay_open(client: Client, path: str) -> None:
    assert (await client("GET", path)).status == 200
    assert (await client("GET", "/schema.json")).headers["x-from"] == "bentoml"


async def test_without_keys_predictions_are_open(start_runtime: StartRuntime, settings: Settings) -> None:
    from tests.service.conftest import client_of

    client = client_of(await start_runtime(settings))
    assert (await client("POST", "/predict/cars", body_of(CAR), headers=JSON)).status == 200


async def test_no_key_is_logged_or_shown(client: Client, runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "a-key-that-is-not-one"
    texts = [(await client("POST", "/predict/cars", body_of(CAR), headers=JSON | {"x-api-key": wrong})).body]
    texts += [(await client("POST", "/predict/cars", body_of(CAR), headers=JSON | {"x-api-key": KEYS[0]})).body]
    texts += [(await client("GET", path)).body for path in ("/models", "/models/cars", "/metrics", "/openapi.json")]
    shown = b"".join(texts).decode() + caplog.text + repr(runtime.settings) + json.dumps(str(runtime.settings))
    for secret in (*KEYS, wrong):
        assert secret not in shown


def test_every_secret_is_compared_even_after_a_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append(right)
        return left == right

    monkeypatch.setattr("service.access.compare_digest", compare)
    secrets = Secrets([SecretStr(key) for key in KEYS], "a key", b"x-api-key")
    secrets.check([(b"x-api-key", KEYS[0].encode())])
    assert len(compared) == len(KEYS)
    assert not {key.encode() for key in KEYS} & set(compared), "hashes, not secrets"


def test_nobody_passes_a_door_without_secrets() -> None:
    with pytest.raises(UnauthorizedError):
        Secrets([], "a token").check([(b"authorization", b"Bearer ")])

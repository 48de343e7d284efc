"""What clients of the Open Inference Protocol ask beside predictions: health, metadata, statistics, and the index."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from models.errors import InputError, ServingError, shorten
from service.decode.json import decode_json
from service.errors import ClientDisconnectError, TooLargeError, status_of
from service.protocols.base import Pin
from service.protocols.signature import inputs_of, outputs_of
from service.protocols.tensors import BYTES, Spec
from service.replies import json_response
from service.runtime import Runtime
from service.served import Served
from service.states import State, states

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "schedule_policy", "statistics")
_EXACT: Mapping[str, str] = MappingProxyType(
    {"/v2/": "/v2"}
    | {
        path: path
        for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/repository/index", "/v2/models/stats")
    }
)
_MODEL = re.compile(r"/v2/models/[^/]+(?:/versions/[^/]+)?(/ready|/config|/stats)?")
_MAX_QUESTION_BYTES = 4096


def openinference_route(path: str) -> str | None:
    """Template of the route of these that ``path`` belongs to, if any."""
    if path in _EXACT:
        return _EXACT[path]
    found = _MODEL.fullmatch(path)
    return f"/v2/models/{{model}}{found[1] or ''}" if found else None


def openinference_routes(runtime: Runtime) -> list[Route]:
    """The routes that describe ``runtime`` in the protocol's words."""
    loader = runtime.loader

    def find(request: Request) -> Served:
        return loader.find(request.path_params["model"], _pin(request))

    async def live(_: Request) -> Response:
        return json_response({"live": True})

    async def ready(_: Request) -> Response:
        return json_response({"ready": runtime.ready}, 200 if runtime.ready else 503)

    async def server(_: Request) -> Response:
        name = "keras-serving"
        return json_response({"name": name, "version": version(name), "extensions": EXTENSIONS})

    async def model(request: Request) -> Response:
        served = find(request)
        task = served.manifest.task
        others = states(loader, served.manifest.name)
        document = {
            "name": served.manifest.name,
            "versions": [state.version for state in others if state.served],
            "platform": served.engine.name,
            "inputs": [_tensor(spec) for spec in inputs_of(task)],
            "outputs": [_tensor(spec) for spec in outputs_of(task)],
        }
        return json_response(document)

    async def model_ready(request: Request) -> Response:
        name = request.path_params["model"]
        try:
            find(request)
        except ServingError as error:
            return json_response({"name": name, "ready": False}, status_of(error))
        return json_response({"name": name, "ready": not runtime.draining}, 503 if runtime.draining else 200)

    async def config(request: Request) -> Response:
        served = find(request)
        task = served.manifest.task
        document = {
            "name": served.manifest.name,
            "platform": served.engine.name,
            "max_batch_size": runtime.settings.max_request_rows,
            "input": [_configured(spec) for spec in inputs_of(task)],
            "output": [_configured(spec) for spec in outputs_of(task)],
            "dynamic_batching": {},
        }
        return json_response(document)

    async def stats(request: Request) -> Response:
        if "version" in request.path_params:
            chosen = [find(request)]
        else:
            names = [request.path_params["model"]] if "model" in request.path_params else sorted(loader.served)
            chosen = [state.served for name in names for state in states(loader, name) if state.served]
        return json_response(
            {"model_stats": [s.statistics.document(s.manifest.name, s.manifest.version) for s in chosen]}
        )

    async def index(request: Request) -> Response:
        only_ready = _wants_only_ready(await _little(request))
        names = sorted({*loader.served, *loader.failures})
        found = [_indexed(name, state) for name in names for state in states(loader, name)]
        return json_response([one for one in found if one["state"] == "READY" or not only_ready])

    of_model = (("", model), ("/ready", model_ready), ("/config", config), ("/stats", stats))
    return [
        Route("/v2", server),
        Route("/v2/", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/repository/index", index, methods=["POST"]),
        Route("/v2/models/stats", stats),
        *(Route("/v2/models/{model}" + end, answer) for end, answer in of_model),
        *(Route("/v2/models/{model}/versions/{version}" + end, answer) for end, answer in of_model),
    ]


def _pin(request: Request) -> Pin | None:
    return Pin.named(request.path_params["version"]) if "version" in request.path_params else None


def _tensor(spec: Spec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _configured(spec: Spec) -> dict[str, Any]:
    """A tensor as Triton's model configuration has it: without the batch axis."""
    kind = "STRING" if spec.datatype == BYTES else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape[1:]}


def _indexed(name: str, state: State) -> dict[str, str]:
    """One line of the repository's index."""
    ready = "READY" if state.served else "UNAVAILABLE" if state.reason else "LOADING"
    return {"name": name, "version": state.version, "state": ready, "reason": "" if state.served else state.reason}


async def _little(request: Request) -> bytes:
    """The body of a question about the index, which is a few bytes or none.

    Raises:
        TooLargeError: More than 4 KiB.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_QUESTION_BYTES:
                raise TooLargeError(f"A body has at most {_MAX_QUESTION_BYTES} bytes. Received: more. Send less.")
    except ClientDisconnect:
        raise ClientDisconnectError from None
    return bytes(body)


def _wants_only_ready(body: bytes) -> bool:
    """What the body of a question about the index says.

    Raises:
        DecodeError: Not JSON.
        InputError: ``ready`` is neither true nor false.
    """
    document = decode_json(body) if body else {}
    ready = document.get("ready", False) if isinstance(document, dict) else document
    if not isinstance(ready, bool):
        raise InputError("ready", "must be true or false", shorten(ready), "Leave the body out for all versions.")
    return ready

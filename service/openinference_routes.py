"""What clients of the Open Inference Protocol ask beside predictions: health, metadata, statistics, and the index."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.errors import InputError, ServingError, shorten
from service.bodies import read_small
from service.decode.json import decode_json
from service.errors import status_of
from service.openinference_documents import (
    config_document,
    index_documents,
    model_document,
    server_document,
    statistics_documents,
)
from service.protocols.base import Pin
from service.replies import json_response
from service.runtime import Runtime
from service.served import Served

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
        return json_response(server_document("binary_tensor_data"))

    async def model(request: Request) -> Response:
        return json_response(model_document(loader, find(request)))

    async def model_ready(request: Request) -> Response:
        name = request.path_params["model"]
        try:
            find(request)
        except ServingError as error:
            return json_response({"name": name, "ready": False}, status_of(error))
        return json_response({"name": name, "ready": not runtime.draining}, 503 if runtime.draining else 200)

    async def config(request: Request) -> Response:
        return json_response(config_document(find(request), runtime.settings.max_request_rows))

    async def stats(request: Request) -> Response:
        found = statistics_documents(loader, request.path_params.get("model", ""), _pin(request))
        return json_response({"model_stats": found})

    async def index(request: Request) -> Response:
        only_ready = _wants_only_ready(await read_small(request, _MAX_QUESTION_BYTES))
        return json_response(index_documents(loader, only_ready=only_ready))

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

"""What TensorFlow Serving's clients ask about a model before they use it: its status and its metadata."""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.protocols.base import Pin
from service.protocols.signature import inputs_of, outputs_of
from service.protocols.tensors import BYTES, Spec
from service.protocols.tfserving import SIGNATURE
from service.replies import json_response
from service.runtime import Runtime
from service.states import State, states

_PATH = re.compile(r"/v1/models/[^/]+(?:/(?:versions|labels)/[^/]+)?(/metadata)?")
_TYPES = {"UINT8": "DT_UINT8", "FP32": "DT_FLOAT", BYTES: "DT_STRING"}


def tfserving_route(path: str) -> str | None:
    """Template of the route of these that ``path`` belongs to, if any."""
    found = _PATH.fullmatch(path)
    return f"/v1/models/{{model}}{found[1] or ''}" if found else None


def tfserving_routes(runtime: Runtime) -> list[Route]:
    """The routes that describe ``runtime`` to TensorFlow Serving's clients."""

    async def status(request: Request) -> Response:
        found = states(runtime.loader, request.path_params["model"], _pin(request))
        return json_response({"model_version_status": [_status(state) for state in found]})

    async def metadata(request: Request) -> Response:
        manifest = runtime.loader.find(request.path_params["model"], _pin(request)).manifest
        signature = {
            "inputs": {spec.name: _tensor(spec) for spec in inputs_of(manifest.task)},
            "outputs": {spec.name: _tensor(spec) for spec in outputs_of(manifest.task)},
            "method_name": "tensorflow/serving/predict",
        }
        document = {
            "model_spec": {"name": manifest.name, "signature_name": "", "version": manifest.version},
            "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
        }
        return json_response(document)

    places = ("/v1/models/{model}", "/v1/models/{model}/versions/{version}", "/v1/models/{model}/labels/{label}")
    return [Route(place + end, answer) for place in places for end, answer in (("", status), ("/metadata", metadata))]


def _pin(request: Request) -> Pin | None:
    pinned = {name: value for name, value in request.path_params.items() if name != "model"}
    return Pin(**pinned) if pinned else None


def _status(state: State) -> dict[str, Any]:
    """One ``ModelVersionStatus``."""
    name = "AVAILABLE" if state.served else "END" if state.reason else "LOADING"
    error = {"error_code": "UNKNOWN" if name == "END" else "OK", "error_message": state.reason if name == "END" else ""}
    return {"version": state.version, "state": name, "status": error}


def _tensor(spec: Spec) -> dict[str, Any]:
    """One ``TensorInfo``."""
    return {
        "dtype": _TYPES[spec.datatype],
        "tensor_shape": {"dim": [{"size": str(n), "name": ""} for n in spec.shape], "unknown_rank": False},
        "name": f"{SIGNATURE}_{spec.name}:0",
    }

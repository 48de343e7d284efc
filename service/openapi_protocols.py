"""The routes of other servers' protocols in the OpenAPI document; the protocols' own documents have the details."""

from typing import Any

_OBJECT = {"type": "object"}
_TEXT = {"type": "string"}
_ERROR = {"type": "object", "properties": {"error": _TEXT}, "required": ["error"]}
_PARAMETERS = {"type": "object", "additionalProperties": True}
_STATUS = {
    "400": "The body cannot be read, or a value breaks the model's schema.",
    "401": "No API key, or a wrong one, where the service has keys.",
    "404": "No such model, or the version that the path pins is not loaded.",
    "413": "Too large a body, or too many rows.",
    "415": "An unknown Content-Encoding.",
    "429": "The model's queue is full; Retry-After says when to try again.",
    "500": "The model failed on this request.",
    "503": "Not ready.",
    "504": "The request's timeout passed.",
}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _responses(text: str, schema: dict[str, Any], *errors: str) -> dict[str, Any]:
    failed = {status: {"description": _STATUS[status], "content": _json(_ERROR)} for status in errors}
    return {"200": {"description": text, "content": _json(schema)}, **failed}


def _describe(text: str, *names: str, errors: tuple[str, ...] = ()) -> dict[str, Any]:
    return _with(names, {"get": {"summary": text, "responses": _responses(text, _OBJECT, *errors)}})


def _ready(text: str, *names: str, errors: tuple[str, ...]) -> dict[str, Any]:
    """A question whose answer has the same form whatever its status."""
    schema = {"type": "object", "properties": {"name": _TEXT, "ready": {"type": "boolean"}}, "required": ["ready"]}
    refusals = {status: {"description": _STATUS[status], "content": _json(schema)} for status in errors}
    return _with(names, {"get": {"summary": text, "responses": _responses(text, schema) | refusals}})


def _predict(text: str, names: tuple[str, ...], body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    operation = {
        "summary": text,
        "requestBody": {"required": True, "content": _json(body)},
        "responses": _responses("The outputs of the model.", answer, *_STATUS),
    }
    return _with(names, {"post": operation})


def _with(names: tuple[str, ...], item: dict[str, Any]) -> dict[str, Any]:
    parameters = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]
    return {"parameters": parameters, **item} if parameters else item


def _tensor(*others: str) -> dict[str, Any]:
    """A tensor in the Open Inference Protocol's JSON."""
    shape = {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 8}
    properties = {"name": _TEXT, "datatype": _TEXT, "shape": shape, "data": {"type": "array"}}
    required = ["name", "datatype", "shape", *others]
    return {"type": "object", "properties": properties | {"parameters": _PARAMETERS}, "required": required}


def _open_inference() -> dict[str, Any]:
    wanted = {"type": "object", "properties": {"name": _TEXT, "parameters": _PARAMETERS}, "required": ["name"]}
    request = {
        "type": "object",
        "properties": {
            "id": _TEXT,
            "inputs": {"type": "array", "items": _tensor(), "minItems": 1},
            "outputs": {"type": "array", "items": wanted},
            "parameters": _PARAMETERS,
        },
        "required": ["inputs"],
    }
    answer = {
        "type": "object",
        "properties": {
            "id": _TEXT,
            "model_name": _TEXT,
            "model_version": _TEXT,
            "outputs": {"type": "array", "items": _tensor()},
        },
        "required": ["model_name", "model_version", "outputs"],
    }
    paths: dict[str, Any] = {
        "/v2": _describe("Open Inference Protocol: the server"),
        "/v2/health/live": _describe("Open Inference Protocol: the process is alive"),
        "/v2/health/ready": _ready("Open Inference Protocol: ready for requests", errors=("503",)),
        "/v2/models/stats": _describe("Open Inference Protocol: what each loaded version has done in this worker"),
        "/v2/repository/index": {
            "post": {
                "summary": "Open Inference Protocol: every version that is known",
                "responses": _responses("Their states.", {"type": "array", "items": _OBJECT}, "400", "413"),
            }
        },
    }
    for place, names in (("", ("model",)), ("/versions/{version}", ("model", "version"))):
        prefix = "/v2/models/{model}" + place
        paths |= {
            f"{prefix}/infer": _predict("Open Inference Protocol: predict", names, request, answer),
            prefix: _describe("Open Inference Protocol: a model's tensors", *names, errors=("404", "503")),
            f"{prefix}/ready": _ready("Open Inference Protocol: can it answer", *names, errors=("404", "503")),
            f"{prefix}/config": _describe("Open Inference Protocol: its configuration", *names, errors=("404", "503")),
            f"{prefix}/stats": _describe("Open Inference Protocol: what it has done", *names, errors=("404", "503")),
        }
    return paths


def _tensorflow_serving() -> dict[str, Any]:
    request = {
        "type": "object",
        "properties": {
            "signature_name": {"const": "serving_default"},
            "instances": {"type": "array", "items": {}, "minItems": 1},
            "inputs": {"oneOf": [{"type": "array", "items": {}, "minItems": 1}, _OBJECT]},
        },
        "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
    }
    answer = {"type": "object", "properties": {"predictions": {"type": "array", "items": {}}, "outputs": {}}}
    paths: dict[str, Any] = {}
    for place, names in (
        ("", ("model",)),
        ("/versions/{version}", ("model", "version")),
        ("/labels/{label}", ("model", "label")),
    ):
        prefix = "/v1/models/{model}" + place
        paths |= {
            f"{prefix}:predict": _predict("TensorFlow Serving: predict", names, request, answer),
            # 400: a name with a colon in it is taken for a method.
            prefix: _describe("TensorFlow Serving: states of the versions", *names, errors=("400", "404", "503")),
            f"{prefix}/metadata": _describe("TensorFlow Serving: inputs and outputs", *names, errors=("404", "503")),
        }
    return paths


def protocol_paths() -> dict[str, Any]:
    """Path items of every route of the protocols that are not our own."""
    return _open_inference() | _tensorflow_serving()

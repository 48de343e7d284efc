"""The OpenAPI document of what is served now, made from the manifests."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from models.manifest import Manifest
from models.task import Classes, ImageClassification
from service.deadlines import MAX_TIMEOUT_MS
from service.openapi_protocols import protocol_paths
from service.release import release
from service.schemas import instance, prediction
from service.truth import Feedback

_MODEL_PARAMETER = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
_NO_ADMIN: Mapping[str, type[BaseModel]] = {}
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_STATUS = {
    "400": "The body cannot be read: broken JSON, a truncated picture.",
    "401": "No API key, or a wrong one, where the service has keys.",
    "404": "No such model, or the version that the request pins is not loaded; the detail lists what is.",
    "405": "Another method than POST.",
    "409": "The present state forbids the change, or another change was first.",
    "413": "Too large a body, or too many rows.",
    "415": "A media type that this model does not take, or a Content-Encoding other than Accept-Encoding names.",
    "422": "A value breaks the schema: shape, type or range. `errors` has the path, the rule and the remedy.",
    "429": "The model's queue is full, or too long to wait in; Retry-After says when to try again.",
    "500": "The model failed on this request; the log has the reason under the request id.",
    "503": "Not ready: still loading, or no version could be loaded.",
    "504": "The deadline that the request set (X-Request-Timeout-Ms) passed; what was still queued is not computed.",
}


_PREDICT = tuple(status for status in _STATUS if status != "409")
_PINS: tuple[dict[str, Any], ...] = (
    {
        "name": "version",
        "in": "query",
        "schema": {"type": "string", "minLength": 1},
        "description": "Pins the answering version, which must be loaded; GET /models/{model} lists those. "
        "Not together with `label`.",
    },
    {
        "name": "label",
        "in": "query",
        "schema": {"type": "string", "minLength": 1, "examples": ["production", "candidate"]},
        "description": "Pins the version that this alias points to.",
    },
)


def _reply(text: str, schema: dict[str, Any], media: str = "application/json") -> dict[str, Any]:
    return {"description": text, "content": {media: {"schema": schema}}}


def _problems(*statuses: str) -> dict[str, Any]:
    return {status: _reply(_STATUS[status], _PROBLEM, "application/problem+json") for status in statuses}


def _get(
    text: str, schema: dict[str, Any], media: str = "application/json", others: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"get": {"summary": text, "responses": {"200": _reply(text, schema, media), **(others or {})}}}


def _predict(manifest: Manifest) -> dict[str, Any]:
    """The path item of one model's predictions."""
    task = manifest.task
    body = {
        "type": "object",
        "properties": {"instances": {"type": "array", "items": instance(task), "minItems": 1}},
        "required": ["instances"],
        "additionalProperties": False,
    }
    binary = {"schema": {"type": "string", "format": "binary"}}
    content: dict[str, Any] = {
        "application/json": {"schema": body, "example": {"instances": [manifest.example]}},
        "application/x-npy": binary,
    }
    parameters: list[dict[str, Any]] = [
        {
            "name": "X-Request-Id",
            "in": "header",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
            "description": "Comes back in the answer; made up when absent.",
        },
        {
            "name": "X-Canary-Key",
            "in": "header",
            "schema": {"type": "string"},
            "description": "During a canary, requests with the same key are answered by the same version.",
        },
        {
            "name": "X-Request-Timeout-Ms",
            "in": "header",
            "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_MS},
            "description": "504 instead of an answer after so many milliseconds.",
        },
        {
            "name": "X-Serving-Details",
            "in": "header",
            "schema": {"const": "1"},
            "description": "Adds `Server-Timing`, `X-Model-Version` and `X-Batch-Rows` to the answer.",
        },
        *_PINS,
        {
            "name": "trial",
            "in": "query",
            "schema": {"const": "1"},
            "description": "Somebody only tries the model, as on the page at /: the request is answered and counted as "
            "any other, and neither drift, a shadow nor capture sees it.",
        },
    ]
    if isinstance(task, ImageClassification):
        content |= {"image/png": binary, "image/jpeg": binary}
        files = {"type": "object", "properties": {"file": {"type": "array", "items": binary["schema"], "minItems": 1}}}
        files["required"] = ["file"]
        content["multipart/form-data"] = {"schema": files}
    if isinstance(task, Classes):
        parameters.append(
            {
                "name": "top_k",
                "in": "query",
                "schema": {"type": "integer", "minimum": 1, "maximum": len(task.labels)},
                "description": "Only the most probable classes in `probabilities`.",
            }
        )
    answer = {
        "type": "object",
        "properties": {
            "model": {"const": manifest.name},
            "version": {"type": "string"},
            "request_id": {"type": "string"},
            "predictions": {"type": "array", "items": prediction(task)},
        },
        "required": ["model", "version", "request_id", "predictions"],
    }
    return {
        "post": {
            "summary": f"Predict with {manifest.name}",
            "description": f"Version {manifest.version}, a {manifest.architecture} for {task.kind.replace('_', ' ')}.",
            "operationId": f"predict_{manifest.name.replace('-', '_')}",
            "parameters": parameters,
            "requestBody": {"required": True, "content": content},
            "responses": {"200": _reply("One prediction an instance, in their order.", answer), **_problems(*_PREDICT)},
        }
    }


def _admin(action: str, kind: type[BaseModel]) -> dict[str, Any]:
    """The path item of one action of the administration."""
    answer = {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "action": {"type": "string"},
            "alias": {"type": "string"},
            "version": {"type": "string"},
            "revision": {"type": "integer"},
            "serving": {"type": "boolean", "description": "Whether all workers follow already; else see `reason`."},
            "reason": {"type": "string"},
        },
        "required": ["model", "action", "alias", "version", "revision", "serving"],
    }
    return {
        "parameters": [_MODEL_PARAMETER],
        "post": {
            "summary": f"{action.capitalize()}: {' '.join((kind.__doc__ or '').split())}",
            "operationId": f"admin_{action}",
            "security": [{"token": []}],
            "requestBody": {
                "required": any(field.is_required() for field in kind.model_fields.values()),
                "content": {"application/json": {"schema": kind.model_json_schema()}},
            },
            "responses": {
                "200": _reply("The change is in the store.", answer),
                **_problems("401", "404", "405", "409", "413", "422", "503"),
            },
        },
    }


def openapi_document(
    manifests: Iterable[Manifest], *, admin: Mapping[str, type[BaseModel]] = _NO_ADMIN
) -> dict[str, Any]:
    """OpenAPI 3.1 document of every route.

    Args:
        manifests: The models that are served.
        admin: Actions of the administration, if there is one -> what their bodies say.
    """
    obj = {"type": "object"}
    text = {"type": "string"}
    paths: dict[str, Any] = {f"/predict/{manifest.name}": _predict(manifest) for manifest in manifests}
    instances = {"type": "array", "items": {}, "minItems": 1}
    generic = {
        "type": "object",
        "properties": {"model": text, "instances": instances},
        "required": ["model", "instances"],
    }
    paths |= {
        "/predict": {
            "post": {
                "summary": "Predict with any model, for BentoML clients",
                "requestBody": {"required": True, "content": {"application/json": {"schema": generic}}},
                "responses": {
                    "200": _reply("The same answer as POST /predict/{model}.", obj),
                    **{status: {"description": "As BentoML reports errors."} for status in _PREDICT},
                },
            }
        },
        "/models": _get("The models that are served", obj),
        "/models/{model}": {
            "parameters": [_MODEL_PARAMETER],
            **_get("Schema, example, quality and version of a model", obj, others=_problems("404", "503")),
        },
        "/models/{model}/compare": {
            "parameters": [_MODEL_PARAMETER],
            **_get("What shadowing has shown of a model's candidate", obj, others=_problems("404", "503")),
        },
        "/feedback": {
            "post": {
                "summary": "What turned out to be true of an answer",
                "operationId": "feedback",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": Feedback.model_json_schema()}},
                },
                "responses": {
                    "200": _reply("What the model had said, and how good that was.", obj),
                    **_problems("401", "404", "405", "409", "413", "422"),
                },
            }
        },
        "/models/{model}/drift": {
            "parameters": [_MODEL_PARAMETER],
            **_get("How far a model's traffic moved from its training", obj, others=_problems("404", "503")),
        },
        "/models/{model}/prepared": {
            "parameters": [_MODEL_PARAMETER, *_PINS],
            "post": {
                "summary": "A picture as the model sees it, in its size and colours",
                "requestBody": {
                    "required": True,
                    "content": {kind: {"schema": {}} for kind in ("image/png", "image/jpeg")},
                },
                "responses": {"200": _reply("The prepared picture.", {}, "image/png"), **_problems(*_PREDICT)},
            },
        },
        **protocol_paths(),
        **{f"/admin/models/{{model}}/{action}": _admin(action, kind) for action, kind in admin.items()},
        "/livez": _get("The process is alive", obj),
        "/readyz": _get(
            "Ready for requests", obj, others={"503": _reply("Loading, draining, or no model served.", obj)}
        ),
        "/healthz": _get("The same as /livez", obj),
        "/metrics": _get("Metrics in Prometheus's text format, summed over the workers", text, "text/plain"),
        "/openapi.json": _get("This document", obj),
        "/docs": _get("This document as a page", text, "text/html"),
        "/live.json": _get("What the page at / shows of the last ten minutes, summed over the workers", obj),
        "/": _get("The page on which to look at the models and try them", text, "text/html"),
    }
    detail = dict.fromkeys(("field", "rule", "received", "remedy"), text)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "keras-serving",
            "version": release(),
            "description": "Keras models behind HTTP. Everything numeric happens inside the models: send raw values.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Problem": {
                    "type": "object",
                    "description": "RFC 9457 problem details.",
                    "properties": {
                        "type": text,
                        "title": text,
                        "status": {"type": "integer"},
                        "detail": text,
                        "request_id": text,
                        "errors": {
                            "type": "array",
                            "items": {"type": "object", "properties": detail, "required": list(detail)},
                        },
                    },
                    "required": ["type", "title", "status", "detail", "request_id"],
                }
            },
        },
    }

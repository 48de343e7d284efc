"""docs/reference/http.md."""

import json
from collections.abc import Iterator
from typing import Any

from docs.generate.markdown import attributes, heading, prose, table
from models.bundle import Bundle
from models.manifest import Manifest
from service.admin import ORDERS
from service.openapi import openapi_document
from service.settings import PRETRAINED
from service.truth import Feedback

_INTRODUCTION = """
Port 3000, HTTP/1.1. A running server has this as an OpenAPI 3.1 document for exactly its models at `/openapi.json`,
and as a page at `/docs`. gRPC (port 3001) is on the page about [protocols](../protocols.md).
"""
_GROUPS = {
    "Predictions": ("/predict", "/feedback"),
    "Models": ("/models",),
    "Health, metrics, pages": ("/livez", "/readyz", "/healthz", "/metrics", "/openapi.json", "/docs", "/live.json"),
    "Administration": ("/admin/",),
    "Open Inference Protocol": ("/v2",),
    "TensorFlow Serving": ("/v1",),
}
_SAID = {
    "Administration": "Absent unless `SERVING_ADMIN_TOKEN` is set; each needs `Authorization: Bearer TOKEN`.",
    "Open Inference Protocol": "Each route of a model also below `/v2/models/{model}/versions/{version}`.",
    "TensorFlow Serving": "Each also below `/v1/models/{model}/versions/{version}` and `.../labels/{label}`.",
}
_PROBLEM = """
Failures of our own routes are [problem details](https://www.rfc-editor.org/rfc/rfc9457)
(`application/problem+json`): `type`, `title`, `status`, `detail`, `request_id`, and for each wrong value in `errors`
its `field`, the `rule`, what was `received` and the `remedy`. The other protocols answer `{"error": "..."}`, as
their clients expect.
"""
# Members of the protocols' own documents, which say more.
_MEMBERS = {
    "instances": "One value a row.",
    "inputs": "Tensors (Open Inference Protocol), or values a name (TensorFlow Serving's columnar form).",
    "outputs": "The tensors wanted; all where absent.",
    "parameters": "`timeout` and others: see [protocols](../protocols.md#from-triton-or-kserve).",
    "id": "Comes back.",
    "model": "Its name.",
    "signature_name": "The only one there is.",
}
# One model's predictions stand for all: those of others differ in schema and example alone.
_SHOWN = "/predict/cnn"


def page() -> str:
    """The page's text.

    Raises:
        LookupError: A route belongs to no group of this page.
    """
    manifests = [Bundle.open(folder).manifest for folder in sorted(PRETRAINED.iterdir()) if folder.is_dir()]
    document = openapi_document(manifests, admin=ORDERS)
    groups: dict[str, str] = dict.fromkeys(_GROUPS, "")
    meanings: dict[str, dict[str, str]] = {"problem": {}, "protocol": {}}
    for path, item in document["paths"].items():
        if "/versions/" in path or "/labels/" in path or (path.startswith("/predict/") and path != _SHOWN):
            continue
        group = _group(path)
        groups[group] += "".join(_operations(path, item, manifests))
        kind = "protocol" if path.startswith(("/v1", "/v2")) else "problem"
        for status, reply in _replies(item):
            if status >= "400":
                meanings[kind].setdefault(status, prose(reply["description"]))
    sections = (f"\n## {name}\n" + (f"\n{_SAID[name]}\n" if name in _SAID else "") + groups[name] for name in groups)
    return heading("HTTP", _INTRODUCTION) + "".join(sections) + _statuses(meanings)


def _group(path: str) -> str:
    for name, prefixes in _GROUPS.items():
        if path.startswith(prefixes) or (path == "/" and "/docs" in prefixes):
            return name
    raise LookupError(f"{path}: which group of docs/reference/http.md does it belong to?")


def _replies(item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for method in ("get", "post"):
        if method in item:
            yield from item[method]["responses"].items()


def _operations(path: str, item: dict[str, Any], manifests: list[Manifest]) -> Iterator[str]:
    for method in ("get", "post"):
        if method not in item:
            continue
        operation = item[method]
        shown = "/predict/{model}" if path == _SHOWN else path
        summary = "Predict with a model" if path == _SHOWN else _without_group(operation["summary"])
        yield f"\n### {method.upper()} {shown}\n\n{summary}.\n"
        yield _parameters([*item.get("parameters", ()), *operation.get("parameters", ())])
        if body := operation.get("requestBody"):
            yield f"\nBody: {', '.join(f'`{media}`' for media in body['content'])}.\n"
            said = attributes(Feedback) if path == "/feedback" else {}
            yield _members(body["content"].get("application/json", {}).get("schema", {}), said)
        if path == _SHOWN:
            yield _examples(manifests)
        yield f"\nStatuses: {', '.join(operation['responses'])}.\n"


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = [[f"`{one['name']}`", one["in"], one.get("description", "")] for one in parameters if one["in"] != "path"]
    return "\n" + table(["parameter", "in", "meaning"], rows) if rows else ""


def _without_group(summary: str) -> str:
    """A summary without the words before its colon, which the page's headings say already."""
    text = prose(summary).rpartition(": ")[2].rstrip(".")
    return text[:1].upper() + text[1:]


def _members(schema: dict[str, Any], said: dict[str, str]) -> str:
    """What a JSON object may hold."""
    required = schema.get("required", [])
    rows = [
        [f"`{name}`", _rule(one), "required" if name in required else _default(one), _meaning(name, one, said)]
        for name, one in schema.get("properties", {}).items()
    ]
    return "\n" + table(["member", "value", "default", "meaning"], rows) if rows else ""


def _meaning(name: str, schema: dict[str, Any], said: dict[str, str]) -> str:
    return str(schema.get("description", said.get(name, _MEMBERS.get(name, ""))))


def _default(schema: dict[str, Any]) -> str:
    return f"`{json.dumps(schema['default'])}`" if schema.get("default") not in (None, "") else ""


def _rule(schema: dict[str, Any]) -> str:
    kinds = [one.get("type", "") for one in schema.get("anyOf", schema.get("oneOf", [schema]))]
    words = " or ".join(kind for kind in kinds if kind and kind != "null") or "any"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    low, high = schema.get("minimum"), schema.get("maximum")
    limits = (f" from {low:g}" if low is not None else "") + (f" to {high:,.0f}" if high is not None else "")
    return words + limits


def _examples(manifests: list[Manifest]) -> str:
    rows = []
    for manifest in manifests:
        example = json.dumps(manifest.example)
        shown = example if len(example) < 400 else f"{example[:60]} ..."
        rows.append([f"`{manifest.name}`", manifest.task.kind.replace("_", " "), f"`{shown}`"])
    return "\nWhat the shipped models take:\n\n" + table(["model", "task", "one of `instances`"], rows)


def _statuses(meanings: dict[str, dict[str, str]]) -> str:
    tables = [table(["status", "when"], sorted(found.items())) for found in meanings.values()]
    return (
        f"\n## Failures\n{_PROBLEM}\nOur own routes:\n\n{tables[0]}\n"
        f"The routes of TensorFlow Serving and of the Open Inference Protocol:\n\n{tables[1]}"
    )

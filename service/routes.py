"""Every route of ours but the predictions: health, metrics, what is served, and the documentation."""

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from models.errors import ServingError
from service.admin import ADMIN_ROUTE, ORDERS, Admin
from service.comparison import comparison
from service.drift_report import Worker, drift_document
from service.errors import MethodError, NotReadyError, form_of
from service.feedback import FEEDBACK_ROUTE
from service.loader import Loader
from service.openapi import openapi_document
from service.openinference_routes import openinference_route, openinference_routes
from service.pages import FILE_ROUTE, LIVE_ROUTE, page_routes
from service.patience import patiently
from service.prepared import PREPARED_ROUTE, prepared_route
from service.protocols.native import media_types
from service.replies import json_response
from service.runtime import Runtime
from service.served import Served
from service.tfserving_routes import tfserving_route, tfserving_routes

REQUEST_ID = "serving.request_id"
"""Key of the request id in an ASGI scope."""

_OWNED = frozenset(
    {"/", "/livez", "/readyz", "/healthz", "/metrics", "/models", "/openapi.json", "/docs", LIVE_ROUTE, FEEDBACK_ROUTE}
)
_MODEL_ROUTE = "/models/{model}"
# BentoML's own: they fall through, and have a name in the metrics.
_BENTOML = ("/predict", "/schema.json", "/docs.json", "/static_content")
DESCRIPTIONS = frozenset(_BENTOML[1:])
"""Those of BentoML's routes that only describe: open whatever the API keys."""
_COMPARE_ROUTE = "/models/{model}/compare"
_DRIFT_ROUTE = "/models/{model}/drift"

_DOCS_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>keras-serving: HTTP API</title>
<link rel="stylesheet" href="/static_content/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/static_content/swagger-ui-bundle.js"></script>
<script src="/static_content/swagger-ui-standalone-preset.js"></script>
<script src="/static_content/swagger-initializer.js"></script>
</body>
</html>
"""
# Swagger UI sets style attributes and inlines its icons.
_DOCS_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


def owned(path: str, *, admin: bool = False) -> str | None:
    """Template of the route of ours that ``path`` belongs to, or None when it is for BentoML or for nobody.

    Args:
        path: Of the request.
        admin: Whether there is an administration.
    """
    if path in _OWNED:
        return path
    if path.startswith("/models/"):
        if path.count("/") == 2:
            return _MODEL_ROUTE
        if path.count("/") == 3 and path.endswith("/compare"):
            return _COMPARE_ROUTE
        if path.count("/") == 3 and path.endswith("/drift"):
            return _DRIFT_ROUTE
        if path.count("/") == 3 and path.endswith("/prepared"):
            return PREPARED_ROUTE
    if path.startswith("/web/"):
        return FILE_ROUTE
    if path.startswith(("/v1/", "/v2")):
        return tfserving_route(path) or openinference_route(path)
    if admin and path.startswith("/admin/models/") and path.count("/") == 4:
        action = path.rpartition("/")[2]
        return ADMIN_ROUTE + action if action in ORDERS else None
    return None


def bentoml_route(path: str) -> str | None:
    """Name of the BentoML route that ``path`` belongs to, for the metrics."""
    return next((route for route in _BENTOML if path == route or path.startswith(route + "/")), None)


def summary(served: Served) -> dict[str, Any]:
    """One line of ``GET /models``."""
    manifest = served.manifest
    # The validation rows chose the version: their figures, of the same names, flatter it.
    tested = [figure for figure in manifest.figures if figure.split == "test"] or manifest.figures
    return {
        "name": manifest.name,
        "version": manifest.version,
        "kind": manifest.task.kind,
        "architecture": manifest.architecture,
        "figures": {figure.name: figure.value for figure in tested},
        "predict": f"/predict/{manifest.name}",
    }


def description(served: Served) -> dict[str, Any]:
    """``GET /models/{model}``: schema, example, quality, and how it runs."""
    manifest = served.manifest
    return {
        **summary(served),
        "created": manifest.created.isoformat(),
        "parameters": manifest.parameters,
        "figures": [figure.model_dump(mode="json") for figure in manifest.figures],
        "input": manifest.task.model_dump(mode="json"),
        "row": {"shape": manifest.task.input_shape, "dtype": manifest.task.dtype},
        "media_types": media_types(manifest.task),
        "example": {"instances": [manifest.example]},
        "lineage": {
            "dataset": manifest.lineage.dataset,
            "rows": manifest.lineage.rows,
            "command": manifest.lineage.command,
            "code_version": manifest.lineage.code_version,
        },
        "running": {
            "engine": served.engine.name,
            "device": served.engine.device,
            "load_seconds": round(served.load_s, 3),
            "golden_difference": served.golden_difference,
            "batch_latency_ms": {str(rows): round(ms, 4) for rows, ms in served.profile.latency_ms.items()},
            "batch_rows": served.profile.batch_rows,
            "inline_rows": served.batcher.inline_rows,
            "padded": served.engine.padded,
            "split_rows": served.engine.split_rows,
        },
    }


def standing(loader: Loader, name: str) -> dict[str, Any]:
    """What ``GET /models/{model}`` says of the aliases: what each points to, and why one is not loaded, if so.

    It reads what the other workers wrote, so call it in a thread.
    """
    targets, revision = loader.document.models.get(name, {}), loader.document.revision
    followed = loader.revision.in_all_workers(name, *targets)
    named, failures = loader.named(name), loader.failures_of(name)
    aliases: dict[str, Any] = {}
    for alias, target in sorted(targets.items()):
        loaded = alias in named and named[alias].manifest.version == target.version
        everywhere = loaded and followed[alias] >= revision
        aliases[alias] = {"version": target.version, "loaded": loaded, "in_all_workers": everywhere}
        if alias in failures:
            aliases[alias]["problem"] = failures[alias].reason
    document: dict[str, Any] = {"revision": revision, "aliases": aliases}
    if (traffic := loader.document.traffic.get(name)) is not None:
        document["traffic"] = traffic.model_dump(mode="json")
    return document


def fallback(loader: Loader, name: str) -> dict[str, Any]:
    """What ``GET /models`` adds where another version than production's answers, as that one cannot be loaded."""
    failure = loader.failures.get(name)
    if failure is None:
        return {}
    return {"fallback": {"instead_of": failure.target.version, "reason": failure.reason}}


def api_of(runtime: Runtime) -> dict[str, Any]:
    """The OpenAPI document of what is served now."""
    manifests = [served.manifest for _, served in sorted(runtime.loader.served.items())]
    return openapi_document(manifests, admin=ORDERS if runtime.settings.admin_token else {})


async def _model(runtime: Runtime, name: str) -> Response:
    """``GET /models/{model}``."""
    loader = runtime.loader
    try:
        found = description(loader.find(name))
    except NotReadyError:
        if name not in loader.failures:
            raise
        failure = loader.failures[name]
        return json_response({"name": name, "version": failure.target.version, "problem": failure.reason}, 503)
    async with patiently():
        found |= await runtime.beside(standing, loader, name)
    if name in loader.failures:
        failure = loader.failures[name]
        found["problem"] = {"version": failure.target.version, "reason": failure.reason}
    return json_response(found)


def build_routes(runtime: Runtime) -> Starlette:
    """The application that answers these routes for ``runtime``."""
    loader = runtime.loader
    admin = Admin(runtime) if runtime.settings.admin_token else None

    def livez(_: Request) -> Response:
        return json_response({"status": "alive"})

    def readyz(_: Request) -> Response:
        status = "draining" if runtime.draining else "ready" if runtime.ready else "loading"
        if loader.ready and not loader.served:
            status = "no model is served"
        document = {
            "status": status,
            "models": {name: served.manifest.version for name, served in sorted(loader.served.items())},
            "problems": runtime.problems(),
        }
        return json_response(document, 200 if runtime.ready else 503)

    async def metrics(_: Request) -> Response:
        runtime.measure()
        # Here, where requests record too.
        runtime.metrics.flush()
        async with patiently():
            body, content_type = await runtime.beside(runtime.metrics.expose)
        return Response(body, headers={"content-type": content_type})

    def models(_: Request) -> Response:
        served = [summary(served) | fallback(loader, name) for name, served in sorted(loader.served.items())]
        return json_response({"models": served, "problems": runtime.problems()})

    async def model(request: Request) -> Response:
        return await _model(runtime, request.path_params["model"])

    async def compare(request: Request) -> Response:
        name = request.path_params["model"]
        loader.find(name)
        runtime.measure()
        async with patiently():
            document = await runtime.beside(comparison, runtime, name)
        return json_response(document)

    async def drift(request: Request) -> Response:
        name = request.path_params["model"]
        loader.find(name)
        async with patiently():
            await runtime.drift.turn()
            levels = await runtime.beside(runtime.metrics.drift_state.everywhere)
        worker = Worker(int(runtime.vitals.worker), runtime.settings.workers, levels)
        return json_response(drift_document(name, loader.named(name), worker))

    def openapi(_: Request) -> Response:
        return json_response(api_of(runtime))

    def docs(_: Request) -> Response:
        return HTMLResponse(_DOCS_PAGE, headers=_DOCS_HEADERS)

    async def refuse(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):  # Starlette's way to say that a route has no such method.
            error = MethodError(request.method, (error.headers or {}).get("Allow", "GET"))
        status, headers, body = form_of(request.url.path)(error, request.scope.get(REQUEST_ID, "-"))
        return Response(body, status, {key.decode(): value.decode() for key, value in headers})

    # Plain functions would each take a thread; none of these waits for anything.
    def quick(endpoint: Any) -> Any:
        async def call(request: Request) -> Response:
            response: Response = endpoint(request)
            return response

        return call

    return Starlette(
        routes=[
            *page_routes(runtime),
            Route("/livez", quick(livez)),
            Route("/healthz", quick(livez)),
            Route("/readyz", quick(readyz)),
            Route("/metrics", metrics),
            Route("/models", quick(models)),
            Route(_MODEL_ROUTE, model),
            Route(_COMPARE_ROUTE, compare),
            Route(_DRIFT_ROUTE, drift),
            *runtime.feedback.routes(),
            prepared_route(runtime),
            Route("/openapi.json", quick(openapi)),
            Route("/docs", quick(docs)),
            *openinference_routes(runtime),
            *tfserving_routes(runtime),
            *(admin.routes() if admin else ()),
        ],
        # Starlette raises what nobody foresaw again after the answer, so that the server logs it.
        exception_handlers={ServingError: refuse, HTTPException: refuse, Exception: refuse},
    )

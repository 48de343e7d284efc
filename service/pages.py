"""The page at ``/``: its files, fixed at the start, and the figures that it shows."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.store import CANDIDATE
from service.errors import NoRouteError
from service.live import History
from service.loader import Loader
from service.patience import patiently
from service.replies import json_response
from service.runtime import Runtime

FOLDER = Path(__file__).parent / "web"
FILE_ROUTE = "/web/{file}"
"""As the metrics name it."""
LIVE_ROUTE = "/live.json"
_START = "index.html"

_MEDIA_TYPES = MappingProxyType(
    {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
)
_HEADERS = MappingProxyType(
    {
        # The hash decides: after an update of the service nobody is left with half of the old page.
        "cache-control": "no-cache",
        # Pictures come from the user's own files and from the canvas.
        "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "cross-origin-opener-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
    }
)


@dataclass(frozen=True)
class _File:
    body: bytes
    media_type: str
    etag: str


def read_files(folder: Path = FOLDER) -> dict[str, _File]:
    """Name -> file, of those directly in ``folder`` whose kind the page may consist of."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in _MEDIA_TYPES:
            body = path.read_bytes()
            files[path.name] = _File(body, _MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return files


def page_routes(runtime: Runtime) -> list[Route]:
    """The routes of the page."""
    files = read_files()
    history = History(runtime.live.directory)
    needs_key = bool(runtime.settings.api_keys)

    async def page(request: Request) -> Response:
        # A look-up in a table: no path is ever made from what a client sends.
        file = files.get(request.path_params.get("file", _START))
        if file is None:
            raise NoRouteError(request.url.path)
        headers = {**_HEADERS, "etag": file.etag}
        if file.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers={**headers, "content-type": file.media_type})

    async def live(request: Request) -> Response:
        since = request.query_params.get("since", "")
        first = int(since) if since.isascii() and since.isdigit() and len(since) < 16 else 0
        names = sorted(runtime.loader.served)
        async with patiently():
            document = await runtime.beside(history.document, names, first)
        for name, model in document["models"].items():
            model.update(versions(runtime.loader, name))
        return json_response(document | {"needs_key": needs_key}, headers={"cache-control": "no-store"})

    return [Route("/", page), Route("/web/{file:path}", page), Route(LIVE_ROUTE, live)]


def versions(loader: Loader, name: str) -> dict[str, Any]:
    """Who answers for a model now: production's version, the candidate's, and the candidate's share of the traffic."""
    named = loader.named(name)
    document: dict[str, Any] = {"version": loader.served[name].manifest.version} if name in loader.served else {}
    if CANDIDATE in named:
        document["candidate"] = named[CANDIDATE].manifest.version
    if (traffic := loader.document.traffic.get(name)) is not None:
        document["traffic"] = traffic.model_dump(mode="json")
    return document

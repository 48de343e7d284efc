"""Answers of the routes that are not predictions."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``document``, which may hold numpy values, as JSON."""
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(body, status, headers, media_type="application/json")

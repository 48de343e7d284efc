"""Ask a running service over HTTP."""

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

import click

DEFAULT_URL = "http://127.0.0.1:3000"
_BYTES = 16 * 1024 * 1024


def ask(url: str, path: str, *, timeout_s: float = 5) -> tuple[int, dict[str, Any]]:
    """Status and JSON object that a service answers with.

    Args:
        url: Of the service, such as ``http://127.0.0.1:3000``.
        path: Such as ``/models``.
        timeout_s: Seconds.

    Raises:
        click.UsageError: ``url`` is none.
        ConnectionError: Nobody answers there, or not with a JSON object.
    """
    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"--url must begin with http:// or https://. Received: {url[:80]!r}.")
    try:
        status, document = _get(url.rstrip("/") + path, timeout_s)
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(f"{url} does not answer as keras-serving does: {reason}") from None
    if not isinstance(document, dict):
        raise ConnectionError(f"{url} does not answer as keras-serving does: no JSON object")
    return status, document


def _get(url: str, timeout_s: float) -> tuple[int, Any]:
    try:
        reply = urllib.request.urlopen(url, timeout=timeout_s)  # noqa: S310 - the caller looked at the scheme
    except urllib.error.HTTPError as error:
        reply = error  # Also an answer.
    with reply:
        return reply.status, json.loads(reply.read(_BYTES))

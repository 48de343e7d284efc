"""JSON body -> its value, and the list of instances in it."""

import re
from typing import Any

import orjson

from models.errors import DecodeError, InputError, shorten

# orjson follows RFC 8259, which has no NaN, and gives up on deep nesting instead of overflowing the stack.
_WORDS = re.compile(rb"\b(NaN|-?Infinity)\b")


def decode_json(body: bytes | memoryview) -> Any:
    """The value of a JSON body.

    Raises:
        DecodeError: Not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "JSON has no NaN or Infinity; leave such rows out." if _WORDS.search(body) else "Check the JSON."
        raise DecodeError(f"body: not valid JSON: {error}. {hint}") from None


def decode_instances(body: bytes) -> list[Any]:
    """The value of ``instances`` in ``body``.

    Raises:
        DecodeError: Not JSON.
        InputError: Not an object with a non-empty list ``instances``, or a boolean where a number belongs.
    """
    document = decode_json(body)
    form = 'Send {"instances": [...]}.'
    if not isinstance(document, dict):
        raise InputError("body", 'must be an object with the member "instances"', shorten(document), form)
    if "instances" not in document:
        found = ", ".join(map(shorten, list(document)[:5])) or "no members"
        raise InputError("instances", "is required", found, form)
    if len(document) > 1:
        extra = next(member for member in document if member != "instances")
        raise InputError(shorten(extra)[1:-1], '"instances" is the only member', "an unknown member", "Leave it out.")
    instances = document["instances"]
    if not isinstance(instances, list) or not instances:
        raise InputError("instances", "must be a list of at least one instance", shorten(instances), form)
    # To Python true is 1, to the sender it is no pixel. Booleans are rare and need an "e" after the member's
    # name: one memchr spares the usual body the walk.
    if body.find(b"e", body.find(b"[")) != -1:
        refuse_booleans(instances, "instances", depth=4)
    return instances


def refuse_booleans(values: list[Any], field: str, depth: int) -> None:
    """Walk as deep as any task's instances go; what is nested deeper is refused by the task anyway.

    Raises:
        InputError: A boolean, where a number belongs.
    """
    for i, value in enumerate(values):
        if isinstance(value, bool):
            raise InputError(f"{field}[{i}]", "must be a number", str(value).lower(), "Send 0 or 1.")
        if depth and isinstance(value, list):
            refuse_booleans(value, f"{field}[{i}]", depth - 1)

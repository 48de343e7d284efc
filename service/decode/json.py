"""JSON body -> its value, and the list of instances in it."""

import json
import re
from collections import Counter
from typing import Any

import orjson

from models.errors import DecodeError, InputError, shorten

# orjson follows RFC 8259, which has no NaN, and gives up on deep nesting instead of overflowing the stack.
_WORDS = re.compile(r".?-?(NaN|Infinity)\b", re.DOTALL)
# Possessive: what could be given back would be remembered for every byte, a hundred times as much as the body.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# In longer bodies a member that comes twice is not named: a second parse would hold up everybody. Bytes.
_NAMED_BYTES = 64 * 1024


def decode_json(body: bytes) -> Any:
    """The value of a JSON body.

    Raises:
        DecodeError: Not JSON.
        InputError: A member comes twice in an object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        wrong = _WORDS.match(error.doc, max(error.pos - 1, 0))
        hint = "JSON has no NaN or Infinity; leave such rows out." if wrong else "Check the JSON."
        raise DecodeError(f"body: not valid JSON: {error}. {hint}") from None
    # Each member has a colon. An object with one member is the usual body, and takes two memchr.
    if body.find(b":", body.find(b":") + 1) != -1:
        _refuse_doubled_members(body, document)
    return document


def _refuse_doubled_members(body: bytes, document: Any) -> None:
    """Of two members of one name, parsers take either (RFC 8259, section 4): nobody can say which one was meant.

    Raises:
        InputError: There are such.
    """
    colons, members = body.count(b":"), _count_members(document, thoroughly=False)
    if colons == members:
        return
    colons -= sum(body.count(b":", *text.span()) for text in _TEXT.finditer(body))
    if colons > members and colons > _count_members(document, thoroughly=True):
        rule = "a member may come only once in an object"
        raise InputError(_doubled_member(body), rule, "it came twice", "Leave one out.")


def _count_members(document: Any, *, thoroughly: bool) -> int:
    """Members of all objects; unless thoroughly, a list whose first value is plain is taken to hold only such."""
    count, left = 0, [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            count += len(value)
            left += value.values()
        elif isinstance(value, list) and value and (thoroughly or isinstance(value[0], dict | list)):
            left += value
    return count


def _doubled_member(body: bytes) -> str:
    """Name of the first member that comes twice, as far as that is quickly found."""
    doubled: list[str] = []

    def look(members: list[tuple[str, Any]]) -> None:
        doubled.extend(name for name, times in Counter(name for name, _ in members).items() if times > 1)

    if len(body) <= _NAMED_BYTES:
        try:
            json.loads(body, object_pairs_hook=look, parse_int=str)
        except RecursionError:
            return "body"
    return shorten(doubled[0])[1:-1] if doubled else "body"


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

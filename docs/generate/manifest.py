"""docs/reference/manifest.md."""

import typing
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.generate.markdown import attributes, heading, summary, table
from models.decision import Criterion, Decision
from models.manifest import Figure, FileEntry, Lineage, Manifest
from models.task import Category, Number, Task

_INTRODUCTION = """
`manifest.json` is what a trained version says of itself; the service knows nothing else about a model. The file is
canonical JSON (sorted names, two spaces), so that one manifest has one digest. Unknown members, NaN and infinity are
refused. Members that came later are left out where they have their default, so that older digests hold. Beside it
lie the files that `files` lists; [a version on disk](../architecture.md#two-ideas) says what each is for.

`keras-serving models show NAME --json` prints one, `GET /models/NAME` what of it clients need.
"""
_FIXED = {"kind": "Tells the kinds apart.", "manifest_version": "Of the form that this page describes."}
_TASKS = typing.get_args(typing.get_args(Task)[0])
_PARTS: tuple[type[BaseModel], ...] = (
    *(Manifest, *_TASKS, Number, Category),
    *(Figure, Lineage, FileEntry, Decision, Criterion),
)


def page() -> str:
    """The page's text."""
    return heading("The manifest", _INTRODUCTION) + "".join(_section(kind) for kind in _PARTS)


def _section(kind: type[BaseModel]) -> str:
    said = attributes(kind)
    rows = []
    for name, field in kind.model_fields.items():
        default = "" if field.is_required() or name in _FIXED else f"`{_default(field)}`"
        meaning = _FIXED[name] if name in _FIXED else said[name]
        rows.append([f"`{name}`", _type(field.annotation), default, meaning])
    return f"\n## {kind.__name__}\n\n{summary(kind)}\n\n" + table(["member", "type", "default", "meaning"], rows)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return {None: "null", False: "false", True: "true", "": '""'}.get(value, str(value)) if _plain(value) else "{}"


def _plain(value: object) -> bool:
    return value is None or isinstance(value, bool | str | int | float)


def _type(annotation: Any) -> str:
    """A type as JSON has it, with a link to the part of this page that describes it."""
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(members[0])
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in members)
    if origin in (tuple, list):
        return f"list of {_type(members[0])}"
    if origin is dict:
        return f"object of {_type(members[1])}"
    if members:
        return " or ".join(dict.fromkeys(_type(one) for one in members))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return _JSON.get(annotation, "any JSON")


_JSON = {
    datetime: "time, ISO 8601",
    str: "text",
    int: "whole number",
    float: "number",
    bool: "boolean",
    type(None): "null",
}

"""docs/reference/settings.md."""

import typing
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from docs.generate.markdown import attributes, heading, table
from service.settings import Settings

_INTRODUCTION = """
Every setting of the service is an environment variable with the prefix `SERVING_`; flags of [`keras-serving
serve`](cli.md#keras-serving-serve) set some of them. A value that breaks its rule ends the start with one line that
names the variable, the rule and the value. A variable that is no setting does nothing; it is named at the start,
with the setting that is like it. Secrets are never shown.

Durations end in `_S`, `_MS` or `_H` for seconds, milliseconds or hours.
"""
_PLAIN = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text", SecretStr: "secret"}
# What the code makes of an empty value, and defaults that are another's.
_DEFAULTS = {"home": "`~/.keras-serving`", "pretrained": "the shipped bundles", "models": "all in the store"}


def page() -> str:
    """The page's text."""
    said = attributes(Settings)
    rows = [
        [f"`SERVING_{name.upper()}`<br>{_values(name, field)}", _default(name, field), said[name]]
        for name, field in Settings.model_fields.items()
    ]
    return heading("Settings", _INTRODUCTION) + "\n" + table(["variable", "default", "meaning"], rows)


def _values(name: str, field: FieldInfo) -> str:
    kind = field.annotation
    if name == "objectives":
        return "`NAME=MS:SHARE,...`"
    if typing.get_origin(kind) is Literal:
        return ", ".join(f"`{one}`" for one in typing.get_args(kind))
    members = [one for one in typing.get_args(kind) if one not in (type(None), ...)]
    if typing.get_origin(kind) is tuple:
        return f"comma-separated {'secrets' if members == [SecretStr] else 'names'}"
    only = members[0] if members else kind
    text = _PLAIN.get(only, "folder" if only is Path else str(only))  # type: ignore[arg-type]
    return " ".join([text, _limits(field.metadata)]).strip()


def _limits(metadata: list[Any]) -> str:
    found = {key: getattr(rule, key) for rule in metadata for key in ("ge", "gt", "le", "lt") if hasattr(rule, key)}
    low = f"from {_number(found['ge'])}" if "ge" in found else f"above {_number(found['gt'])}" if "gt" in found else ""
    high = f"to {_number(found['le'])}" if "le" in found else ""
    return " ".join(part for part in (low, high) if part)


def _default(name: str, field: FieldInfo) -> str:
    if name in _DEFAULTS:
        return _DEFAULTS[name]
    value = field.get_default(call_default_factory=True)
    if value in (None, (), {}, ""):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _number(value: float) -> str:
    return f"{value:,}"

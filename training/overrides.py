"""Single settings changed by name: `fit.optimizer=nesterov`, `model.units=[100, 50]`, or `optimizer=nesterov`."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from models.errors import ConfigError
from training.choices import OWNED, FitConfig


def known_keys(config: type[BaseModel], model: type[BaseModel]) -> tuple[str, ...]:
    """Dotted names of all settings of one architecture; `architecture` itself is chosen elsewhere."""
    return tuple(key for key in _leaves(config, {"model": model}) if key != "architecture")


def _leaves(kind: type[BaseModel], inner: dict[str, type[BaseModel]]) -> list[str]:
    names = []
    for name, field in kind.model_fields.items():
        part = inner.get(name, field.annotation)
        if isinstance(part, type) and issubclass(part, BaseModel):
            names += [f"{name}.{leaf}" for leaf in _leaves(part, {})]
        else:
            names.append(name)
    return names


def split_setting(text: str) -> tuple[str, str]:
    """`key=value` to its two parts.

    Raises:
        ConfigError: It is not of that form.
    """
    key, separator, value = (part.strip() for part in text.partition("="))
    if not (key and separator and value):
        raise ConfigError(f"{text!r} is no setting: write KEY=VALUE, such as fit.optimizer=nesterov")
    return key, value


def full_key(key: str, known: Sequence[str]) -> str:
    """The dotted name that is meant: the last part of one is enough where no other ends so.

    Raises:
        ConfigError: None or several are meant.
    """
    if key in known:
        return key
    meant = [name for name in known if name.rpartition(".")[2] == key]
    if len(meant) > 1:
        raise ConfigError(f"{key!r} could be {' or '.join(meant)}: write the one that is meant")
    if not meant:
        raise ConfigError(f"there is no setting {key!r}; known: {', '.join(known)}")
    return meant[0]


def parse_value(text: str) -> Any:
    """A TOML value; a bare word is itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_values(text: str) -> list[Any]:
    """Values parted by commas; those within brackets and quotes part nothing."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [parse_value(part.strip()) for part in parts if part.strip()]


def overridden(document: dict[str, Any], settings: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """A copy of a document with settings changed; the last one of a name counts.

    Changing the optimizer or the schedule forgets the document's numbers that were chosen for the other one (`OWNED`),
    unless they are set too.

    Args:
        document: As a TOML file says it.
        settings: `key=value` each.
        known: Dotted names of all settings.

    Raises:
        ConfigError: A setting that is unknown, ambiguous or not of that form.
    """
    changes = {}
    for setting in settings:
        key, value = split_setting(setting)
        changes[full_key(key, known)] = parse_value(value)
    result = copy.deepcopy(document)
    fit = result.get("fit", {})
    for owner, owned in OWNED.items():
        before = fit.get(owner, FitConfig.model_fields[owner].default)
        if changes.get(f"fit.{owner}", before) != before:
            for name in owned:
                fit.pop(name, None)
    for key, value in changes.items():
        *path, last = key.split(".")
        place = result
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return result

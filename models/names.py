"""Names of models and versions: they reach the file system and URLs, so they come from an allow-list.

BentoML's tags allow no upper case.
"""

import re
from typing import Annotated

from pydantic import AfterValidator

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_VERSION = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")


def is_name(text: str) -> bool:
    """Whether ``text`` can be a model's or an alias's name: lower case, digits, - and _, at most 63 characters."""
    return len(text) <= 63 and _NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether ``text`` has the form of a version, such as ``20260131-235959-0123abcd``."""
    return _VERSION.fullmatch(text) is not None


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text!r} is no name: lower case letters, digits, - and _, at most 63 of them")
    return text


def _version(text: str) -> str:
    if not is_version(text):
        raise ValueError(f"{text!r} is no version, such as 20260131-235959-0123abcd")
    return text


Name = Annotated[str, AfterValidator(_name)]
"""Of a model or an alias, in a document."""
Version = Annotated[str, AfterValidator(_version)]
"""Of a model, in a document."""

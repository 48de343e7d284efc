"""Names of models and versions: they reach the file system and URLs, so they come from an allow-list.

BentoML's tags allow no upper case.
"""

import re

_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_VERSION = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")


def is_name(text: str) -> bool:
    """Whether ``text`` can be a model's or an alias's name: lower case, digits, - and _, at most 63 characters."""
    return len(text) <= 63 and _NAME.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether ``text`` has the form of a version, such as ``20260131-235959-0123abcd``."""
    return _VERSION.fullmatch(text) is not None

"""Changes that others may come between: they are decided anew, not lost and not refused."""

import functools
import random
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from models.errors import OvertakenError

_Arguments = ParamSpec("_Arguments")
_Done = TypeVar("_Done")
_TRIES = 5
_WAIT_S = 0.05


def retry_if_overtaken(change: Callable[_Arguments, _Done]) -> Callable[_Arguments, _Done]:
    """Let a change that was overtaken be made once more, from its beginning, a few times.

    Raises:
        OvertakenError: Others came between each time.
    """

    @functools.wraps(change)
    def made(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Done:
        for tried in range(_TRIES - 1):
            try:
                return change(*arguments, **named)
            except OvertakenError:
                # By chance, so that two that met do not meet again.
                time.sleep(random.uniform(0, _WAIT_S * 2**tried))  # noqa: S311 - no secret
        return change(*arguments, **named)

    return made

"""A name for each request: in its answer, and in the log."""

import itertools
import os
import re

# What a client may choose: it is echoed in a header and logged.
_WANTED = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """Gives ids that are unique over workers and restarts, far cheaper than a UUID a request."""

    def __init__(self) -> None:
        self._prefix = os.urandom(5).hex()
        self._numbers = itertools.count(1)

    def next(self) -> str:
        """An id that no other request has."""
        return f"{self._prefix}{next(self._numbers):x}"

    def choose(self, *wanted: str) -> str:
        """The first id that the client wants and that may be one, else `next`."""
        return next(filter(_WANTED.fullmatch, wanted), None) or self.next()

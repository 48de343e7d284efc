"""What a large JSON body may become, found out before it is parsed.

The parser holds Python's lock from its first byte to its last, and makes 30 bytes of each: 16 MiB of ``[],`` would be
half a gigabyte and keep the whole worker waiting for a second, from 16 kB of gzip. Lists of numbers are cheaper, and no
model needs more of them than its rows have.
"""

from itertools import accumulate
from typing import Final

from models.task import ImageClassification, Records, Task
from service.errors import TooLargeError

CHEAP_BYTES: Final = 64 * 1024
"""Whatever so many bytes are, they become 5 MiB at most, in some milliseconds."""
_FEW_VALUES: Final = 65_536
"""Allowed on top, and where the model is not known yet: 10 ms of parsing, 10 MiB."""
_PIECE_BYTES: Final = 256 * 1024


def check_json(body: bytes, task: Task, max_rows: int) -> None:
    """Refuse a body of more values and texts than ``max_rows`` rows of ``task`` have in any protocol.

    Args:
        body: JSON, maybe; that is found out later.
        task: Of the model.
        max_rows: That a request may have.

    Raises:
        TooLargeError: More.
    """
    if len(body) > CHEAP_BYTES:
        values = _FEW_VALUES + max_rows * _values_of_row(task)
        # Where rows are no records, each may be a picture: a text in one object or two.
        texts = values if isinstance(task, Records) else _FEW_VALUES + 3 * max_rows
        _check_counts(body, values, texts, f"for {max_rows} rows of this model")


def _values_of_row(task: Task) -> int:
    """The values of a row as lists in lists, the lists too, each of which has a comma or a bracket before it."""
    nested = 1 + sum(accumulate(task.input_shape, int.__mul__))
    # A stretch may be longer than what the model looks at, and a record's values may each be in a list of its own.
    return nested if isinstance(task, ImageClassification) else 4 * nested


def check_few(body: bytes) -> None:
    """Refuse a body that would take BentoML's own route long, as it parses on the event loop, several times.

    Raises:
        TooLargeError: More values than that.
    """
    if len(body) > CHEAP_BYTES:
        _check_counts(body, _FEW_VALUES, _FEW_VALUES, "for this route, where /predict/{model} takes more,")


def _check_counts(body: bytes, values: int, texts: int, whose: str) -> None:
    """Refuse a body of more than ``values`` values, lists and objects included, or of more than ``texts`` texts.

    The names of members are texts too. The message says ``whose`` the limits are.

    Raises:
        TooLargeError: More.
    """
    parts = quotes = 0
    # In pieces: the count ends early, and others get their turns with Python's lock.
    for start in range(0, len(body), _PIECE_BYTES):
        end = start + _PIECE_BYTES
        parts += sum(body.count(sign, start, end) for sign in (b",", b"[", b"{"))
        quotes += body.count(b'"', start, end)
        for what, most, found in (("values", values, parts), ("texts", texts, quotes // 2)):
            if found > most:
                raise TooLargeError(
                    f"body: JSON {whose} has at most {most} {what}. Received: {found} or more in {len(body)} bytes. "
                    "Check the nesting, or split the request."
                )

"""How long batches take: as the model's profile says, corrected by how long they really take."""

from math import ceil

# About ten batches decide.
_WEIGHT = 0.1
# A batch that took more than so many times as long was held up by the machine, which the next one may not be.
_MOST = 4.0


class BatchLatency:
    """Expects seconds for rows: each batch costs something, and each row.

    Args:
        row_s: Seconds a row.
        batch_s: Seconds a batch, besides.
        batch_rows: Largest batch.

    Attributes:
        full_row_s: Seconds a row in a full batch, as batches take at present.
    """

    def __init__(self, row_s: float, batch_s: float, batch_rows: int) -> None:
        self._row_s, self._batch_s, self._batch_rows = row_s, batch_s, batch_rows
        # Really over expected.
        self._factor = 1.0
        self.full_row_s = row_s + batch_s / batch_rows

    def expect(self, rows: int) -> float:
        """Seconds for ``rows``, in as few batches as hold them."""
        return self._factor * (rows * self._row_s + ceil(rows / self._batch_rows) * self._batch_s)

    def took(self, rows: int, seconds: float) -> None:
        """Take in one batch."""
        really = seconds / (rows * self._row_s + self._batch_s)
        self._factor += _WEIGHT * (min(really, _MOST * self._factor) - self._factor)
        self.full_row_s = self._factor * (self._row_s + self._batch_s / self._batch_rows)

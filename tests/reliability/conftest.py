"""See `tests.figures`."""

from tests.figures import Figure, figure

__all__ = ["Figure", "figure"]

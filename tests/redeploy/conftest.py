"""One test here proves a promise of docs/reliability.md."""

from tests.figures import figure

__all__ = ["figure"]

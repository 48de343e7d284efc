"""The page of a record, its plots, and the record itself beside it."""

from pathlib import Path

from benchmarks.peers.record import Record


def publish(record: Record, folder: Path) -> Path:
    """Write the page; return its path."""
    raise NotImplementedError

"""Engines run rows through a bundle's graph; training and service use the same ones."""

from models.engines.base import Engine, check_golden, open_engine

__all__ = ["Engine", "check_golden", "open_engine"]

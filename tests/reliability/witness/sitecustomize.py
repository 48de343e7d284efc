"""On the path of a server, it writes down each graph that is deserialised, and when the last of it is let go.

A line a time in the file that ``WITNESS`` names: ``opened`` or ``closed``, and the graph's sha256. What a server says
of itself could be wrong; this is what it really gave to ONNX Runtime.
"""

import hashlib
import os
import sys
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

# What is started with this file on its path has not the repository on it.
sys.path.append(str(Path(__file__).resolve().parents[3]))

from benchmarks.after_import import after_import


def _note(what: str, digest: str) -> None:
    # One short write to a file opened for appending: workers do not mix their lines.
    with open(os.environ["WITNESS"], "a", encoding="ascii") as file:  # noqa: PTH123
        file.write(f"{what} {digest}\n")


def _witnessed(module: ModuleType) -> None:
    class Seen(module.InferenceSession):  # type: ignore[misc, name-defined]
        def __init__(self, graph: bytes, *arguments: Any, **options: Any) -> None:
            digest = hashlib.sha256(graph).hexdigest()
            _note("opened", digest)
            super().__init__(graph, *arguments, **options)
            weakref.finalize(self, _note, "closed", digest).atexit = False

    module.InferenceSession = Seen  # type: ignore[attr-defined]


after_import("onnxruntime", _witnessed)

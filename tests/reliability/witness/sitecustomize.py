"""On the path of a server, it writes down each graph that is deserialised, and when the last of it is let go.

A line a time in the file that ``WITNESS`` names: ``opened`` or ``closed``, and the graph's sha256. What a server says
of itself could be wrong; this is what it really gave to ONNX Runtime.
"""

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import weakref
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_MODULE = "onnxruntime"


def _note(what: str, digest: str) -> None:
    # One short write to a file opened for appending: workers do not mix their lines.
    with open(os.environ["WITNESS"], "a", encoding="ascii") as file:  # noqa: PTH123
        file.write(f"{what} {digest}\n")


class _Witness(importlib.abc.MetaPathFinder):
    """Finds one module as usual, and changes one class once it is executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def changed(module: ModuleType) -> None:
            execute(module)

            class Seen(module.InferenceSession):  # type: ignore[misc, name-defined]
                def __init__(self, graph: bytes, *arguments: Any, **options: Any) -> None:
                    digest = hashlib.sha256(graph).hexdigest()
                    _note("opened", digest)
                    super().__init__(graph, *arguments, **options)
                    weakref.finalize(self, _note, "closed", digest).atexit = False

            module.InferenceSession = Seen  # type: ignore[attr-defined]

        spec.loader.exec_module = changed  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Witness())

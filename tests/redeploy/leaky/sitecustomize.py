"""On the path of a server, it makes the server leak: no engine that was ever opened is let go.

With ``LEAK=batches`` 8 KiB of every batch are kept instead. Both are controls of a memory criterion: a server that
leaks so must fail it.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_MODULE = "models.engines.onnx"


class _Leak(importlib.abc.MetaPathFinder):
    """Finds one module as usual, and changes one method once it is executed."""

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
            kept: list[Any] = []
            if os.environ.get("LEAK") == "batches":
                run = module.OnnxEngine.run

                def keeping(engine: Any, rows: Any) -> Any:
                    kept.append(bytearray(b"x" * 8192))
                    return run(engine, rows)

                module.OnnxEngine.run = keeping
                return
            # A list's own method would not be bound to the engine.
            module.OnnxEngine.close = lambda engine: kept.append(engine)  # noqa: PLW0108

        spec.loader.exec_module = changed  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Leak())

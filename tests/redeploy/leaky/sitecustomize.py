"""On the path of a server, it makes the server leak: no engine that was ever opened is let go.

With ``LEAK=batches`` 8 KiB of every batch are kept instead. Both are controls of a memory criterion: a server that
leaks so must fail it.
"""

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

# What is started with this file on its path has not the repository on it.
sys.path.append(str(Path(__file__).resolve().parents[3]))

from benchmarks.after_import import after_import


def _leaking(module: ModuleType) -> None:
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


after_import("models.engines.onnx", _leaking)

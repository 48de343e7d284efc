"""A model that is switched between two versions while it is under load, by the commands that a user types."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np

from models.bundle import GOLDEN, MANIFEST, ONNX, Bundle
from models.store import Store
from models.task import Classes

_SHIFT = np.float32(1.0)
_CLI_S = 60


class RedeployError(RuntimeError):
    """A switch could not be made."""


def successor(source: Bundle, folder: Path) -> Bundle:
    """Another version of a model, whose answers cannot be taken for those of the first.

    Classes change places, values are larger by one.
    """
    shutil.copytree(source.path, folder, ignore=shutil.ignore_patterns(MANIFEST, "model.yaml"))
    rows, outputs = source.golden()
    classes = isinstance(source.manifest.task, Classes)
    (folder / ONNX).write_bytes(_changed(source, classes=classes))
    np.savez(folder / GOLDEN, rows=rows, outputs=outputs[:, ::-1] if classes else outputs + _SHIFT)
    return source.resealed(folder, created=source.manifest.created + timedelta(seconds=1))


def _changed(source: Bundle, *, classes: bool) -> bytes:
    """The graph with one more step at its end."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(source.read(ONNX))
    graph = model.graph
    (output,) = graph.output
    for node in graph.node:
        node.output[:] = ["before_the_change" if name == output.name else name for name in node.output]
    step = ["before_the_change", "the_change"]
    if classes:
        change = np.arange(source.manifest.task.output_shape[0])[::-1].copy()
        graph.node.append(helper.make_node("Gather", step, [output.name], axis=1))
    else:
        change = np.array(_SHIFT)
        graph.node.append(helper.make_node("Add", step, [output.name]))
    graph.initializer.append(numpy_helper.from_array(change, "the_change"))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def both(bundles: Path, model: str, folder: Path) -> tuple[Path, Bundle]:
    """A folder with links to all bundles and the successor of one beside them, and that successor.

    Args:
        bundles: Folder of the served bundles.
        model: Which is to be switched; empty for the first that gives values, or else the first.
        folder: Empty.

    Raises:
        RedeployError: No such model.
    """
    found = {bundle.manifest.name: bundle for bundle in map(Bundle.open, _folders(bundles))}
    values = [name for name, bundle in found.items() if not isinstance(bundle.manifest.task, Classes)]
    name = model or next(iter([*values, *found]), "")
    if name not in found:
        raise RedeployError(f"{bundles} holds no bundle of {name or 'any model'}. Check --bundles and --redeploy.")
    for bundle in found.values():
        (folder / bundle.path.name).symlink_to(bundle.path.resolve())
    return folder, successor(found[name], folder / f"{found[name].path.name}-successor")


def _folders(bundles: Path) -> list[Path]:
    return [manifest.parent for manifest in sorted(bundles.glob("*/manifest.json"))]


class Switching:
    """Promotes the successor and rolls it back, in turn, until it is told to stop.

    Args:
        home: Of the server's store.
        name: Of the model.
        version: Of the successor, which the store holds.
        pause_s: Between two switches.
        say: Gets a line for each.

    Attributes:
        switches: Done so far.
        problem: Why there were no more; empty if all went well.
    """

    def __init__(self, home: Path, name: str, version: str, pause_s: float, say: Callable[[str], None]) -> None:
        self._home, self._name, self._version = home, name, version
        self._pause_s, self._say = pause_s, say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="switching")
        self.switches = 0
        self.problem = ""

    def start(self) -> None:
        """Begin, with a pause."""
        self._thread.start()

    def stop(self) -> None:
        """End; production is what it was in the beginning."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._pause_s) or self.switches % 2:
                if self.switches % 2:
                    self._switch("rollback", self._name)
                else:
                    self._switch("promote", self._name, self._version)
        except RedeployError as error:
            self.problem = str(error)

    def _switch(self, *words: str) -> None:
        command = [str(Path(sys.executable).with_name("keras-serving")), "models", *words]
        home = {"SERVING_HOME": str(self._home), "BENTOML_HOME": str(self._home)}
        done = subprocess.run(  # noqa: S603 - no shell
            command,
            env=os.environ | home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_CLI_S,
            check=False,
        )
        if done.returncode:
            raise RedeployError(f"keras-serving models {' '.join(words)}: exit {done.returncode}:\n{done.stdout}")
        self.switches += 1
        self._say(f"switch {self.switches}: keras-serving models {' '.join(words)}")


@contextmanager
def switching(home: Path, bundle: Bundle, pause_s: float, say: Callable[[str], None]) -> Iterator[Switching]:
    """Add ``bundle`` to the store under ``home``, and switch to it and back while the block runs."""
    Store(home).add(bundle.path)
    found = Switching(home, bundle.manifest.name, bundle.manifest.version, pause_s, say)
    found.start()
    try:
        yield found
    finally:
        found.stop()

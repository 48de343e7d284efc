"""Imports go one way: service -> models <- training; the command line and the tests see all."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("models", "training", "service", "keras_serving")
MAY_SEE = {
    "models": {"models"},
    "training": {"models", "training"},
    "service": {"models", "service"},
    "keras_serving": set(ROOMS),
}
HEAVY = {"tensorflow", "keras", "tf2onnx"}


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a source file."""
    try:
        return ast.parse(path.read_bytes())
    except SystemError:
        # CPython 3.11 counts the depth of all threads together, and numpy parses headers of arrays in those of others.
        return ast.parse(path.read_bytes())


def modules(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, room
    return found


def imported(node: ast.AST, path: Path) -> list[str]:
    """Full names of what an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            package = path.relative_to(ROOT).parts[: -node.level]
            return [".".join([*package, node.module or ""])]
        return [node.module or ""]
    return []


def all_imports(path: Path) -> set[str]:
    return {name for node in ast.walk(parsed(path)) for name in imported(node, path)}


def imports_at_import_time(path: Path) -> set[str]:
    """What is imported when the module is: not in a function, nor for type checkers alone."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        found.update(imported(node, path))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(parsed(path))
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_that_it_may_see(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(room)
        for name in all_imports(path)
        if (top := name.partition(".")[0]) in {*ROOMS, "tests"} and top not in MAY_SEE[room]
    }
    assert not wrong


def test_tensorflow_is_imported_by_its_engine_and_build_functions_alone() -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for room in ("models", "service", "keras_serving")
        for path in modules(room)
        for name in imports_at_import_time(path)
        if name.partition(".")[0] in HEAVY
    }
    assert not wrong
    by_hand = {
        path.relative_to(ROOT).as_posix()
        for room in ("models", "service", "keras_serving")
        for path in modules(room)
        for name in all_imports(path)
        if name.partition(".")[0] in HEAVY
    }
    allowed = {"models/engines/tensorflow.py", "models/__init__.py", "models/layers.py", "models/tables.py"}
    assert {name for name in by_hand if not name.startswith("models/zoo/")} <= allowed


def test_the_zoo_is_written_for_keras_and_not_for_tensorflow() -> None:
    for path in modules("models/zoo"):
        for function in ast.walk(parsed(path)):
            if not isinstance(function, ast.FunctionDef):
                continue
            names = {name.partition(".")[0] for node in ast.walk(function) for name in imported(node, path)}
            assert "tensorflow" not in names, f"{path.name}: {function.name}"


def loaded_by(code: str) -> set[str]:
    """Top-level modules in a fresh process after ``code``."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import service.app",
        "import models.store, models.engines.onnx, models.engines.tensorflow, models.pictures",
        "import models; [models.architecture(name) for name in models.architectures()]",
        "import keras_serving.main",
    ],
)
def test_serving_loads_no_tensorflow(code: str) -> None:
    assert not loaded_by(code) & {*HEAVY, "pandas", "matplotlib", "sklearn"}


def test_this_test_would_see_it() -> None:
    assert "json" in loaded_by("import json")

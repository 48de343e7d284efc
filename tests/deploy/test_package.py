"""What `pip install .` installs and what `bentoml build` packs."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from service import release

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = ("keras_serving", "models", "service", "training")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Name -> size of each file of the wheel, built without a network from a copy of the source."""
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import setuptools.build_meta as backend; backend.build_wheel('dist')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", build], cwd=source, check=True, capture_output=True)
    (file,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        return {one.filename: one.file_size for one in archive.infolist()}


@pytest.mark.parametrize("name", PACKAGES)
def test_the_wheel_holds_every_module(wheel: dict[str, int], name: str) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / name).rglob("*.py")}
    assert modules
    assert {file for file in wheel if file.startswith(f"{name}/") and file.endswith(".py")} == modules


@pytest.mark.parametrize("pattern", ["models/pretrained/*/**/*", "service/web/*", "training/configs/*.toml"])
def test_the_wheel_holds_what_the_modules_read_byte_for_byte_as_long(wheel: dict[str, int], pattern: str) -> None:
    files = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in ROOT.glob(pattern) if path.is_file()}
    assert files
    assert files.items() <= wheel.items()


def test_the_wheel_holds_the_command_and_nothing_that_is_only_for_us(wheel: dict[str, int]) -> None:
    tops = {file.partition("/")[0] for file in wheel}
    assert tops == {*PACKAGES, f"keras_serving-{PROJECT['project']['version']}.dist-info"}
    assert any(file.endswith("entry_points.txt") for file in wheel)


def test_a_bento_is_packed_with_what_serves_and_its_lock() -> None:
    build = PROJECT["tool"]["bentoml"]["build"]
    module, _, name = build["service"].partition(":")
    assert f"class {name}" in (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert {f"{package}/**" for package in ("models", "service")} < set(build["include"])
    assert build["python"]["requirements_txt"] in build["include"]
    assert all((ROOT / one.removesuffix("/**")).exists() for one in build["include"])


def test_where_no_package_is_installed_the_release_is_what_the_source_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise release.PackageNotFoundError

    monkeypatch.setattr(release, "version", missing)
    assert release.release() == PROJECT["project"]["version"]

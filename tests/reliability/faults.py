"""What goes wrong around a server: disks that fill up or may only be read; two versions of a small model."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from models.bundle import Bundle
from models.store import Store
from tests.bundles import CARS, CREATED, make_bundle
from tests.e2e.server import Server

RECORD = {"weight": 3000, "horsepower": 100, "origin": "usa"}
BODY = {"instances": [RECORD]}
ROUTE = "/predict/cars"
TOKEN = "token-of-the-tests-of-faults"  # noqa: S105 - of a server on loopback that lives for seconds
ADMIN = {"authorization": f"Bearer {TOKEN}"}


def two_versions(folder: Path, home: Path) -> tuple[Bundle, Bundle]:
    """A store at ``home`` with two versions of a model, of which the older is production's."""
    old = make_bundle(folder / "made", "cars", CARS, seed=1)
    new = make_bundle(folder / "made", "cars", CARS, seed=2, created=CREATED + timedelta(hours=1))
    store = Store(home)
    for bundle in (old, new):
        store.add(bundle.path)
    store.set_alias("cars", old.manifest.version)
    return old, new


def ask(server: Server) -> httpx.Response:
    """A prediction, on a connection of its own."""
    return httpx.post(server.url + ROUTE, json=BODY, timeout=30)


def answers(server: Server, number: int = 40) -> set[tuple[int, str]]:
    """Status and version of some predictions."""
    found = [ask(server) for _ in range(number)]
    return {(one.status_code, one.json().get("version", "")) for one in found}


def promote(server: Server, bundle: Bundle) -> httpx.Response:
    """The administration's answer."""
    url = f"{server.url}/admin/models/cars/promote"
    return httpx.post(url, json={"version": bundle.manifest.version}, headers=ADMIN, timeout=30)


def problems(server: Server) -> dict[str, str]:
    """What readiness says is not as it should be."""
    found: dict[str, str] = httpx.get(f"{server.url}/readyz", timeout=30).json()["problems"]
    return found


@contextlib.contextmanager
def small_disk(folder: Path, mib: int = 4) -> Iterator[Path]:
    """A volume of its own at ``folder``; skips where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield folder
    finally:
        # Lazily: a process that is ending may have a file open.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room at all; the file that takes it, to be deleted."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


def make_read_only(disk: Path, *, on: bool = True) -> None:
    """Let nothing on the volume be written any more, or again; no file may be open for writing."""
    subprocess.run(["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(disk)], check=True)

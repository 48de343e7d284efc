"""What the figures were measured on."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.peers.contenders import ENVIRONMENTS
from benchmarks.report import machine

_PACKAGES = {"fastapi": "fastapi", "litserve": "litserve", "mosec": "mosec", "triton": "nvidia-pytriton"}


def about(root: Path, preset: str) -> dict[str, Any]:
    """Machine, commit, versions of the peers, and when."""
    return {
        "preset": preset,
        "started": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": said("git", "-C", str(root), "rev-parse", "--short=12", "HEAD"),
        "changed_files": len(said("git", "-C", str(root), "diff", "--name-only", "HEAD").splitlines()),
        "kernel": said("uname", "-r"),
        "machine": machine(),
        "peers": {package: _version(environment, package) for environment, package in _PACKAGES.items()},
    }


def _version(environment: str, package: str) -> str:
    python = ENVIRONMENTS / environment / "bin" / "python"
    code = f"import importlib.metadata as m; print(m.version({package!r}), 'onnxruntime', m.version('onnxruntime'))"
    return said(str(python), "-c", code) if python.exists() else "not installed"


def said(*command: str) -> str:
    """What a command prints; ``unknown`` where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip() if not done.returncode else "unknown"

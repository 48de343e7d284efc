"""Runs the blocks of a page one after another in one shell, in a folder of their own, as a reader would."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.docs.pages import ROOT, Block
from tests.e2e.server import free_port

_PRELUDE = """set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT
curl() { command curl -sS --fail-with-body "$@"; }
"""
_MARK = "@@ block "
_READY = "for _ in $(seq 600); do command curl -sf {url}/readyz >/dev/null && break; sleep 0.1; done"


def run(
    blocks: Sequence[Block],
    folder: Path,
    *,
    url: str = "",
    grpc: str = "",
    home: Path | None = None,
    version: str = "VERSION",
) -> None:
    """Run the blocks; the page's own server where it starts one, else the one at ``url``.

    Args:
        blocks: In the page's order.
        folder: Where the commands are typed.
        url: Of the server.
        grpc: Its address for gRPC.
        home: The store that commands work on.
        version: What `VERSION` stands for.

    Raises:
        AssertionError: A block failed, or printed something else than the page says.
    """
    url = url or f"http://127.0.0.1:{free_port()}"
    grpc = grpc or f"127.0.0.1:{free_port()}"
    (folder / "deploy").symlink_to(ROOT / "deploy")
    script = _PRELUDE + "".join(
        _step(i, block, url, grpc, folder).replace("VERSION", version) for i, block in enumerate(blocks)
    )
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SERVING_", "BENTOML_", "PROMETHEUS_"))}
    settings = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SERVING_HOME": str(home or folder / "home"),
        "SERVING_GRPC_PORT": grpc.rpartition(":")[2],
        "SERVING_DRAIN_S": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=inherited | settings, capture_output=True, text=True, check=False
    )
    printed = dict(_outputs(done.stdout))
    at = blocks[max(printed, default=0)]
    log = folder / "server.log"
    said = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}{log.read_text() if log.exists() else ''}"
    assert done.returncode == 0, f"{at} failed with {done.returncode}:\n{said}"
    for i, block in enumerate(blocks):
        if block.mark == "output":
            assert_shown(block, printed[i - 1])


def _step(number: int, block: Block, url: str, grpc: str, folder: Path) -> str:
    """The lines of the script for one block."""
    text = block.text.replace(".venv/bin/", "")
    for place in ("localhost", "127.0.0.1"):
        text = text.replace(f"{place}:3000", url.removeprefix("http://")).replace(f"{place}:3001", grpc)
    if not block.runs:
        return ""
    begin = f"echo; echo '{_MARK}{number}'\n"
    if block.title:
        return f"{begin}cat > {block.title} <<'END_OF_FILE'\n{text}END_OF_FILE\n"
    if block.language == "python":
        return f"{begin}python - <<'END_OF_FILE'\n{text}END_OF_FILE\n"
    if block.mark == "background":
        command = text.strip().replace("keras-serving serve", f"keras-serving serve --port {url.rpartition(':')[2]}")
        return f"{begin}{command} > {folder}/server.log 2>&1 &\n{_READY.format(url=url)}\n"
    if block.mark == "fails":
        return f"{begin}if {text.strip()}; then echo 'it did not fail' >&2; exit 1; fi\n"
    return begin + text


def _outputs(stdout: str) -> list[tuple[int, str]]:
    parts = re.split(rf"^{_MARK}(\d+)\n", stdout, flags=re.MULTILINE)
    return [(int(number), text) for number, text in zip(parts[1::2], parts[2::2], strict=True)]


def assert_shown(block: Block, printed: str) -> None:
    """Check that ``printed`` is what the page shows, but for numbers, versions and ids.

    Raises:
        AssertionError: It is something else.
    """
    if block.language == "json":
        shown = json.loads(block.text)
        assert any(_holds(answer, shown) for answer in _documents(printed)), f"{block}: printed\n{printed}"
        return
    left = iter(_plain(line) for line in printed.splitlines())
    for line in block.text.splitlines():
        wanted = _plain(line)
        assert wanted in ("", "...") or wanted in left, f"{block}: {line!r} was not printed, but\n{printed}"


def _documents(printed: str) -> Iterator[Any]:
    """The JSON documents among other things, also where no line ends between two."""
    at = printed.find("{")
    while at >= 0:
        try:
            document, end = json.JSONDecoder().raw_decode(printed, at)
            yield document
        except ValueError:
            end = at + 1
        at = printed.find("{", end)


def _plain(line: str) -> str:
    line = re.sub(r"\d{8}-\d{6}-[0-9a-f]{8}", "VERSION", line)
    line = re.sub(r"\b\S+@\S+\b", "WHO", line)
    line = re.sub(r"[-+]?\d[\d,]*(\.\d+)?(e-?\d+)?", "#", line)
    return " ".join(line.split())


def _holds(answer: Any, shown: Any) -> bool:
    """Whether an answer has every member that is shown, with the same kind of value."""
    if isinstance(shown, dict):
        return isinstance(answer, dict) and all(k in answer and _holds(answer[k], v) for k, v in shown.items())
    if isinstance(shown, list):
        same = isinstance(answer, list) and len(answer) == len(shown)
        return same and all(_holds(a, s) for a, s in zip(answer, shown, strict=True))
    if isinstance(shown, str):
        hexadecimal = re.fullmatch("[0-9a-f]{8,}", shown) is not None
        return isinstance(answer, str) and (hexadecimal or _plain(answer) == _plain(shown))
    return isinstance(answer, int | float) == isinstance(shown, int | float)

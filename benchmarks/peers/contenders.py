"""Who is compared, and how each is started and asked."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.servers import BenchmarkError, Contender
from models.bundle import ONNX, Bundle
from models.task import ImageClassification

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-peers"
OURS, LIMIT, STOCK = "keras-serving", "bare ASGI handler", "BentoML batchable"
PLAIN, TUNED, LITSERVE, MOSEC = "FastAPI", "FastAPI tuned by hand", "LitServe", "mosec"
TRITON_JSON, TRITON_BINARY = "Triton, v2 JSON", "Triton, v2 binary"
# As ours by default: a batch is split over the CPUs.
WIDE_SUFFIX = ", a thread a CPU"
WIDE_MOSEC, WIDE_TRITON = MOSEC + WIDE_SUFFIX, TRITON_BINARY + WIDE_SUFFIX
PEERS = ("fastapi", "litserve", "mosec", "triton")
"""Each has an environment, whose lock is requirements/peers/NAME.txt."""
SMALL = ROOT / "benchmarks" / "small"
PRETRAINED = ROOT / "models" / "pretrained"
_SERVICES = Path(__file__).parent / "services"
_TRITON_PATH = "/v2/models/peer/infer"


def gather(folder: Path) -> None:
    """Links to all bundles in one folder: the shipped ones and the small network."""
    for path in (*PRETRAINED.iterdir(), SMALL):
        if (path / "manifest.json").is_file():
            (folder / path.name).symlink_to(path)


def peers_of(bundle: Bundle, bundles: Path) -> dict[str, Contender]:
    """Every contender by name: ours serves all of ``bundles``, each of the others the one graph alone.

    Raises:
        BenchmarkError: The model does not classify pictures.
    """
    task = bundle.manifest.task
    if not isinstance(task, ImageClassification):
        raise BenchmarkError(f"{bundle.manifest.name} must classify pictures.")
    graph = str((bundle.path / ONNX).resolve())
    environment = {"PEER_MODEL": graph, "PEER_PORT": "{port}", "PEER_HOME": "{home}"}

    def peer(name: str, folder: str, script: str, *arguments: str) -> Contender:
        python = sys.executable if not folder else str(ENVIRONMENTS / folder / "bin" / "python")
        command = (python, str(_SERVICES / script), *arguments)
        return Contender(name, command, environment, "/predict", "rows", "rows")

    labels = {"PEER_LABELS": json.dumps(task.labels)}
    triton = replace(peer(TRITON_JSON, "triton", "triton_server.py"), path=_TRITON_PATH, reader="v2")
    bare = peer(LIMIT, "", "bare_asgi.py")
    found = [
        ours(bundle.manifest.name, bundles),
        replace(bare, payload="instances", reader="serving", environment=environment | labels),
        stock(graph),
        peer(PLAIN, "fastapi", "fastapi_server.py", "plain"),
        peer(TUNED, "fastapi", "fastapi_server.py", "tuned"),
        peer(LITSERVE, "litserve", "litserve_server.py"),
        peer(MOSEC, "mosec", "mosec_server.py"),
        replace(triton, payload="v2 json"),
        replace(triton, name=TRITON_BINARY, payload="v2 binary"),
    ]
    wide = environment | {"PEER_THREADS": str(len(os.sched_getaffinity(0)))}
    found += [
        replace(found[-3], name=WIDE_MOSEC, environment=wide),
        replace(found[-1], name=WIDE_TRITON, environment=wide),
    ]
    return {contender.name: contender for contender in found}


def ours(model: str, bundles: Path, workers: int = 1) -> Contender:
    """Our service with every bundle in ``bundles`` and every feature as shipped."""
    return Contender(
        OURS if workers == 1 else f"{OURS}, {workers} workers",
        (str(Path(sys.executable).with_name(OURS)), "serve", "--port", "{port}", "--workers", str(workers)),
        {"SERVING_PRETRAINED": str(bundles.resolve())},
        f"/predict/{model}",
        "instances",
        "serving",
    )


def stock(graph: str) -> Contender:
    """BentoML as its documentation shows, one worker."""
    return Contender(
        STOCK,
        (
            *(sys.executable, "-m", "bentoml", "serve", "benchmarks.stock_bentoml:Stock"),
            *("--host", "127.0.0.1", "--port", "{port}", "--working-dir", str(ROOT)),
        ),
        {"STOCK_MODEL": graph},
        "/predict",
        "rows",
        "rows",
    )


def in_format(contender: Contender, payload: str) -> Contender:
    """Our service asked in another format."""
    named = replace(contender, name=f"{contender.name}, {payload}", payload=payload)
    if not payload.startswith("v2"):
        return named
    model = contender.path.rpartition("/")[2]
    return replace(named, path=f"/v2/models/{model}/infer", reader="v2")


def two_processes(found: dict[str, Contender], model: str, bundles: Path) -> list[Contender]:
    """Ours and mosec with two processes that run the model."""
    mosec = found[MOSEC]
    return [
        ours(model, bundles, workers=2),
        replace(mosec, name=f"{MOSEC}, 2 workers", environment=mosec.environment | {"PEER_WORKERS": "2"}),
    ]


def missing_environments() -> list[str]:
    """Names of those that `make bench-peers` has not installed."""
    installed = (ENVIRONMENTS / name / "bin" / "python" for name in PEERS)
    return [name for name, python in zip(PEERS, installed, strict=True) if not python.exists()]

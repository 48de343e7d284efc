"""Triton's own server binary, as the package nvidia-pytriton brings it: Python backend only, dynamic batching.

Run directly, without that package's proxy, which would cost two thirds of the throughput. This file lays out a model
repository in ``PEER_HOME`` and becomes the server.
"""

import os
import shutil
import sys
from pathlib import Path

import onnxruntime
import pytriton

_CONFIG = """
backend: "python"
max_batch_size: 64
input [ {{ name: "input" data_type: TYPE_UINT8 dims: {dims} }} ]
output [ {{ name: "probabilities" data_type: TYPE_FP32 dims: {classes} }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
dynamic_batching {{ }}
parameters {{ key: "model" value: {{ string_value: "{model}" }} }}
"""


def main() -> None:
    """Lay out, and become the server."""
    home, port, model = Path(os.environ["PEER_HOME"]), os.environ["PEER_PORT"], os.environ["PEER_MODEL"]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (home / "models" / "peer" / "1").mkdir(parents=True)
    config = _CONFIG.format(
        dims=session.get_inputs()[0].shape[1:], classes=session.get_outputs()[0].shape[1:], model=model
    )
    (home / "models" / "peer" / "config.pbtxt").write_text(config)
    shutil.copy(Path(__file__).with_name("triton_model.py"), home / "models" / "peer" / "1" / "model.py")
    package = Path(pytriton.__file__).parent
    # The backend looks for the stub of this Python beside itself.
    shutil.copytree(package / "tritonserver" / "backends", home / "backends")
    stub = "triton_python_backend_stub"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(package / "tritonserver" / "python_backend_stubs" / version / stub, home / "backends" / "python" / stub)
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(package.parent / "nvidia_pytriton.libs"),
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": next(path for path in sys.path if path.endswith("site-packages")),
    }
    arguments = [
        f"--model-repository={home / 'models'}",
        f"--backend-directory={home / 'backends'}",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--http-thread-count=2",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--log-info=false",
        f"--backend-config=python,shm-region-prefix-name=peer{os.getpid()}-",
        "--backend-config=python,shm-default-byte-size=4194304",
    ]
    binary = package / "tritonserver" / "bin" / "tritonserver"
    os.execve(binary, [str(binary), *arguments], environment)  # noqa: S606 - no shell


if __name__ == "__main__":
    main()

"""Checks a running service from beside it: that every model of its store answers as it did when it was trained.

    python deploy/smoke.py [--port 3000] [--grpc-port 3001] [--container] [NAME:VERSION ...]

given the service's SERVING_HOME, and what production has to be where it is not what ships. With --container also what
the process may do and what lies beside it. Exits 1 with one line for each failure. image_test.sh feeds it to the
container's own Python, package_test.sh to that of an installation; so it imports only what serves.
"""

import argparse
import http.client
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.errors import StoreError
from models.remote.address import Address
from models.remote.s3 import Bucket
from models.store import Store
from models.task import Records, TabularRegression
from service.settings import PRETRAINED, Settings

ROWS = 32
# Longest wait for the server to follow a change of the store. Seconds.
FOLLOW_S = 10
failures: list[str] = []


def require(good: bool, message: str) -> None:
    """Note ``message`` unless ``good``."""
    if not good:
        failures.append(message)


def call(port: int, method: str, path: str, document: Any = None) -> tuple[int, bytes]:
    """Status and body of one request to the service."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = None if document is None else json.dumps(document)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    response = connection.getresponse()
    return response.status, response.read()


def check_confinement() -> None:
    """A numeric user without capabilities, on a root file system that nobody can write."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    require(os.getuid() == 10001 and os.getgid() == 10001, f"uid {os.getuid()}, gid {os.getgid()}")
    for name in ("CapEff", "CapPrm", "CapBnd"):
        require(int(status[name], 16) == 0, f"{name} is {status[name]}")
    require(status["NoNewPrivs"].strip() == "1", "new privileges are possible")
    require(bool(os.statvfs("/").f_flag & os.ST_RDONLY), "the root file system can be written")
    main = Path("/proc/1/cmdline").read_bytes().split(b"\0")
    # Signals reach process 1 only.
    server = any(b"bentoml" in word or b"keras-serving" in word for word in main)
    require(server, f"process 1 is {main}, not the server")


def check_contents() -> None:
    """No TensorFlow, no installer."""
    for module in ("tensorflow", "keras", "pip", "setuptools"):
        require(importlib.util.find_spec(module) is None, f"{module} is in the image")
    components = json.loads((Path(sys.prefix) / "sbom.cdx.json").read_text())["components"]
    listed = {(one["name"].lower(), one["version"]) for one in components}
    installed = {(one.name.lower(), one.version) for one in importlib.metadata.distributions()}
    require(listed == installed, f"listed and installed differ: {sorted(listed ^ installed)}")


def check_s3() -> None:
    """What slim.sh leaves of AWS's client is enough to speak to S3, and to whoever hands out credentials for it."""
    import botocore.session  # type: ignore[import-untyped]

    for service in ("s3", "sts", "sso", "sso-oidc"):
        botocore.session.get_session().create_client(service, region_name="us-east-1")
    # Nobody listens there: what is asked for is that the client comes as far as that.
    os.environ |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
    said = ""
    try:
        Bucket(Address.parse("s3://models/fleet"), 2).keys("")
    except StoreError as error:
        said = str(error)
    require("EndpointConnectionError" in said, f"S3: {said or 'no error'}")


def check_grpc(port: int) -> None:
    """The second port says that everything is served, and a model answers golden rows there."""
    import grpc
    from grpc_health.v1 import health_pb2
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    bundle = Bundle.open(PRETRAINED / "dnn")
    rows, outputs = (array[:ROWS] for array in bundle.golden())
    request = service_pb2.ModelInferRequest(model_name="dnn", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="input", datatype="UINT8", shape=rows.shape)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        status = ask(health_pb2.HealthCheckRequest(), timeout=10).status
        answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
    require(status == health_pb2.HealthCheckResponse.SERVING, f"gRPC health is {status}")
    received = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(outputs.shape)
    require(np.allclose(received, outputs, atol=1e-5), "the answers over gRPC differ from the golden ones")


def instance(task: Any, row: NDArray[Any]) -> Any:
    """A row as a client would send it."""
    if isinstance(task, Records):
        return task.record(row)
    return row[..., 0].tolist() if row.shape[-1] == 1 else row.tolist()


def numbers(task: Any, answer: dict[str, Any]) -> list[float]:
    """The numbers of an answer, in the order of the output row."""
    if "probabilities" in answer:
        return list(answer["probabilities"].values())
    if isinstance(task, TabularRegression):
        return [answer["value"], answer["low"], answer["high"]]
    return list(np.column_stack([answer["forecast"], answer["low"], answer["high"]]).ravel())


def check_model(port: int, bundle: Bundle) -> None:
    """The model answers golden rows as it did when it was trained."""
    manifest, task = bundle.manifest, bundle.manifest.task
    rows, outputs = (array[:ROWS] for array in bundle.golden())
    question = {"instances": [instance(task, row) for row in rows]}
    deadline = time.monotonic() + FOLLOW_S
    while True:
        status, body = call(port, "POST", f"/predict/{manifest.name}", question)
        if status != 200 or json.loads(body)["version"] == manifest.version or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    require(status == 200, f"{manifest.name}: status {status}: {body[:300]!r}")
    if status != 200:
        return
    document = json.loads(body)
    require(document["version"] == manifest.version, f"{manifest.name}: version {document['version']} answered")
    received = np.array([numbers(task, answer) for answer in document["predictions"]])
    expected = outputs.reshape(len(outputs), -1).astype(float)
    close = received.shape == expected.shape and np.allclose(received, expected, rtol=1e-5, atol=1e-4)
    require(close, f"{manifest.name}: the answers differ from the golden ones")
    print(f"{manifest.name}:{manifest.version}: {len(rows)} golden rows answered")


def check_page(port: int) -> None:
    """What is no prediction: metrics, the documentation, the page with its files."""
    for path, part in (("/metrics", b"serving_requests_total"), ("/openapi.json", b"/predict/"), ("/", b"<html")):
        status, body = call(port, "GET", path)
        require(status == 200 and part in body, f"{path}: status {status}")


def main() -> int:
    """Run every check."""
    parser = argparse.ArgumentParser(description="Checks a running service.")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--grpc-port", type=int, default=3001)
    parser.add_argument("--container", action="store_true")
    parser.add_argument("expected", nargs="*", metavar="NAME:VERSION")
    options = parser.parse_args()
    if options.container:
        check_confinement()
        check_contents()
        check_s3()
    check_grpc(options.grpc_port)
    shipped = [Bundle.open(path.parent).manifest for path in sorted(PRETRAINED.glob("*/manifest.json"))]
    require(bool(shipped), "no model ships")
    expected = {one.name: one.version for one in shipped} | dict(word.split(":") for word in options.expected)
    store = Store(Settings.load().home)
    for name, version in expected.items():
        target = store.aliases().target(name)
        require(target is not None and target.version == version, f"{name}: production is {target}, not {version}")
        check_model(options.port, store.open(name, version))
    check_page(options.port)
    for failure in failures:
        print(f"smoke: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""The same pictures in every wire format that is compared."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import pictures

Headers = tuple[tuple[str, str], ...]
_JSON: Headers = (("Content-Type", "application/json"),)
_BOUNDARY = "a-boundary-of-the-benchmark"


@dataclass(frozen=True)
class Body:
    """One request.

    Attributes:
        headers: But for the length.
        data: The body itself.
    """

    headers: Headers
    data: bytes


Payload = Callable[[NDArray[np.uint8]], Body]
"""Of pictures (n, height, width, channels)."""


def _pictures(rows: NDArray[np.uint8]) -> list[Any]:
    """A grey picture as people write it: without the channel axis."""
    pictures: list[Any] = (rows[..., 0] if rows.shape[-1] == 1 else rows).tolist()
    return pictures


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def instances(rows: NDArray[np.uint8]) -> Body:
    """Our JSON, and TensorFlow Serving's."""
    return Body(_JSON, _compact({"instances": _pictures(rows)}))


def rows_json(rows: NDArray[np.uint8]) -> Body:
    """The peers' JSON."""
    return Body(_JSON, _compact({"rows": _pictures(rows)}))


def npy(rows: NDArray[np.uint8]) -> Body:
    """Numpy's own format."""
    stream = io.BytesIO()
    np.save(stream, rows)
    return Body((("Content-Type", "application/x-npy"),), stream.getvalue())


def png(rows: NDArray[np.uint8]) -> Body:
    """A picture file; several as a form."""
    if len(rows) == 1:
        return Body((("Content-Type", "image/png"),), pictures.png(rows[0]))
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{i}.png"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + pictures.png(row)
        + b"\r\n"
        for i, row in enumerate(rows)
    ]
    data = b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
    return Body((("Content-Type", f"multipart/form-data; boundary={_BOUNDARY}"),), data)


def _tensor(rows: NDArray[np.uint8], **more: object) -> dict[str, Any]:
    return {"name": "input", "shape": list(rows.shape), "datatype": "UINT8", **more}


def v2_json(rows: NDArray[np.uint8]) -> Body:
    """Open Inference Protocol, tensor as a flat JSON list."""
    return Body(_JSON, _compact({"inputs": [_tensor(rows, data=rows.ravel().tolist())]}))


def v2_binary(rows: NDArray[np.uint8]) -> Body:
    """Open Inference Protocol, tensors as raw bytes both ways."""
    head = _compact(
        {
            "inputs": [_tensor(rows, parameters={"binary_data_size": rows.nbytes})],
            "parameters": {"binary_data_output": True},
        }
    )
    headers = (("Content-Type", "application/octet-stream"), ("Inference-Header-Content-Length", str(len(head))))
    return Body(headers, head + rows.tobytes())


PAYLOADS: dict[str, Payload] = {
    "instances": instances,
    "rows": rows_json,
    "npy": npy,
    "png": png,
    "v2 json": v2_json,
    "v2 binary": v2_binary,
}


def requests(
    payload: str, pictures: NDArray[np.uint8], outputs: NDArray[np.float32], rows: int
) -> tuple[Headers, list[bytes], list[list[float]]]:
    """Bodies of ``rows`` pictures each, and for each the numbers that must come back.

    Returns:
        Headers (of all alike), bodies, and output rows flattened.

    Raises:
        ValueError: Fewer pictures than a request holds, or the bodies need different headers.
    """
    if len(pictures) < rows:
        raise ValueError(f"a request of {rows} rows needs as many pictures. Received: {len(pictures)}.")
    starts = range(0, len(pictures) - rows + 1, rows)
    bodies = [PAYLOADS[payload](pictures[start : start + rows]) for start in starts]
    if any(body.headers != bodies[0].headers for body in bodies):
        raise ValueError(f"{payload}: the bodies of one run must have the same headers")
    expected = [outputs[start : start + rows].ravel().tolist() for start in starts]
    return bodies[0].headers, [body.data for body in bodies], expected


def longest(pictures: NDArray[np.uint8], count: int) -> Sequence[int]:
    """Indices of the ``count`` pictures with most digits as JSON: like the busier ones of real traffic."""
    sizes = [len(instances(pictures[i : i + 1]).data) for i in range(len(pictures))]
    return sorted(range(len(pictures)), key=sizes.__getitem__, reverse=True)[:count]

"""Bodies that try something: too large, too deep, or not what they say."""

import io
import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.reliability.probe import JSON, head

CAR = {"weight": 3000, "horsepower": 100, "origin": "usa"}
GOOD = json.dumps({"instances": [CAR]}).encode()


def padded(size: int) -> bytes:
    """A good body of so many bytes."""
    return GOOD[:-1] + b" " * (size - len(GOOD)) + b"}"


def npy(shape: object, descr: str = "'|u1'", data: bytes = b"\0" * 784, order: str = "False") -> bytes:
    """An .npy file that declares what it wants."""
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def form(*parts: tuple[str, bytes], boundary: str = "b") -> bytes:
    """A multipart body of parts, each with its Content-Disposition."""
    return (
        b"".join(
            b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (boundary.encode(), said.encode(), data)
            for said, data in parts
        )
        + b"--%b--\r\n" % boundary.encode()
    )


def chunked(path: str, body: bytes, size: int) -> list[bytes]:
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return [head(path, JSON, "Transfer-Encoding: chunked"), framed, b"0\r\n\r\n"]


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def gradient(side: int) -> Image.Image:
    """A square picture that does not compress to nothing."""
    return Image.fromarray(np.add.outer(np.arange(side), np.arange(side)).astype(np.uint8))


def large_png(side: int) -> bytes:
    """Grey pixels, all black, in few bytes; built without ever having them at once."""
    deflate, row = zlib.compressobj(1), b"\0" * (side + 1)
    return png_of(side, b"".join(deflate.compress(row * 100) for _ in range(side // 100)) + deflate.flush())


def png_of(side: int, data: bytes) -> bytes:
    """A square of grey pixels, as it says, whatever the data are."""
    size = side.to_bytes(4, "big")
    chunks = ((b"IHDR", size + size + b"\x08\0\0\0\0"), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in chunks
    )


class Opens:
    """What unpickling it leaves behind: a file."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self._marker), "w")


def record(**changed: object) -> bytes:
    """The good request with values in the places of others, as JSON text where they are bytes."""
    members = [
        f"{json.dumps(name)}: {value.decode() if isinstance(value, bytes) else json.dumps(value)}"
        for name, value in (CAR | changed).items()
    ]
    return f'{{"instances": [{{{", ".join(members)}}}]}}'.encode()


# Body -> what its error must name.
BAD_JSON = {
    b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": "body",
    b"[" * 100_000: "body",
    b'{"instances": ' + b'{"a": ' * 100_000 + b"1" + b"}" * 100_001: "body",
    record(weight=b"NaN"): "NaN",
    record(weight=b"Infinity"): "Infinity",
    record(weight=b"-Infinity"): "Infinity",
    record(weight=b"1e400"): "infinity",
    record(weight=b"1" + b"0" * 400): "infinity",
    record(weight=b"-" + b"9" * 100_000): "infinity",
    record(weight=2**64): "weight",
    record()[:-3] + b', "weight": 4000}]}': "weight",
    GOOD[:-1] + b", " + GOOD[1:]: "instances",
    record(weight="3000"): "weight",
    record(weight=None): "weight",
    record(weight=True): "weight",
    record(weight=[3000]): "weight",
    record(weight={}): "weight",
    record(weight=1): "weight",
    record(origin="mars"): "origin",
    record(origin="usa\0"): "origin",
    record(origin=b'"\\ud800"'): "body",
    record(colour="red"): "colour",
    b'{"instances": [{"weight": 3000}]}': "horsepower",
    b'{"instances": [{}, 1]}': "instances[0]",
    b'{"instances": {}}': "instances",
    b'{"instances": []}': "instances",
    b'{"inputs": []}': "instances",
    b"[]": "body",
    b"\xef\xbb\xbf" + GOOD: "body",
    b"\xff" + GOOD: "body",
    GOOD + GOOD: "body",
    GOOD[:-1]: "body",
    b"": "body",
}
BAD_PIXELS = {
    json.dumps({"instances": [[[0] * 28] * 27]}).encode(): "instances[0]",
    json.dumps({"instances": [[[0] * 28] * 27 + [[0] * 27]]}).encode(): "instances[0]",
    json.dumps({"instances": [[[0] * 28] * 27 + [[0] * 27 + [256]]]}).encode(): "instances[0]",
    json.dumps({"instances": [[[0] * 28] * 27 + [[0] * 27 + ["0"]]]}).encode(): "instances[0]",
    json.dumps({"instances": [[[0] * 28] * 27 + [[0] * 27 + [0.5]]]}).encode(): "instances[0]",
    json.dumps({"instances": [{"b64": "?"}]}).encode(): "instances[0].b64",
    json.dumps({"instances": [{"url": "http://localhost/cat.png"}]}).encode(): "instances[0]",
    json.dumps({"instances": ["http://localhost/cat.png"]}).encode(): "instances[0]",
}


def filled(start: bytes, piece: bytes, end: bytes, size: int) -> bytes:
    """JSON with as many of ``piece``, each with a comma at its end, as fit into ``size`` bytes."""
    return start + (piece * ((size - len(start) - len(end)) // len(piece))).removesuffix(b",") + end

"""Raw bytes for an HTTP server: requests of every kind, broken in every way, by a seed."""

from random import Random

PATHS = (
    b"/predict/regressor",
    b"/predict/lstm?top_k=1",
    b"/predict/nope",
    b"/v1/models/regressor:predict",
    b"/v2/models/regressor/infer",
    b"/models",
    b"/livez",
    b"/predict",
    b"/admin/models/regressor/rollback",
    b"/feedback",
    b"/..%2f..%2fetc/passwd",
    b"http://elsewhere/predict/regressor#x",
    b"/predict/\xff\xfe",
    b"*",
)
METHODS = (*[b"POST"] * 12, b"GET", b"HEAD", b"OPTIONS", b"PUT", b"CONNECT", b"BREW", b"post")
VERSIONS = (*[b"HTTP/1.1"] * 20, b"HTTP/1.0", b"HTTP/9.9", b"HTTP/2.0", b"")
HEADERS = (
    b"Content-Type: application/json",
    b"Content-Encoding: gzip",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Expect: 100-continue",
    b"Connection: close",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13",
    b"Content-Length: 3",
    b"Content-Length: -1",
    b"Content-Length: 18446744073709551617",
    b"X-Request-ID: a\rb",
    b"X-Request-ID: \xff\x00",
    b"Inference-Header-Content-Length: 99999999999999999999",
    b"X-Request-Timeout-Ms: 1e400",
    b"traceparent: 00-" + b"f" * 500,
    b": no name",
    b" folded",
    b"X: " + b"y" * 3000,
    b"Authorization: Bearer " + b"z" * 200,
)
BODIES = (
    b"{}",
    b'{"instances": [{}]}',
    b'{"instances": [NaN]}',
    b"[" * 5000,
    b"\x1f\x8b\x08\x00garbage",
    b"\x93NUMPY\x01\x00\xff\xff",
    b"--x\r\n\r\n",
    b"\x00" * 2000,
    b"1" * 70_000,
)


def hostile_bytes(random: Random, key: bytes) -> bytes:
    """What one connection sends: requests, some with a key that opens predictions, some damaged at random places."""
    if random.random() < 0.1:
        return random.randbytes(random.randint(1, 3000))
    whole = bytearray(b"".join(_request(random, key) for _ in range(random.choice((1, 1, 1, 2, 5)))))
    if random.random() < 0.3:
        for _ in range(random.randint(1, 4)):
            at = random.randrange(len(whole))
            damage = random.choice((b"", b"\r\n", b"\x00", random.randbytes(3), bytes(whole[at : at + 40]) * 2))
            whole[at : at + random.randint(0, 6)] = damage
    return bytes(whole)


def _request(random: Random, key: bytes) -> bytes:
    body = random.choice(BODIES)
    headers = random.sample(HEADERS, random.choice((0, 0, 1, 2)))
    if random.random() < 0.8:
        headers.append(b"X-API-Key: " + key)
    if random.random() < 0.7:
        headers.append(b"Content-Length: %d" % (len(body) + random.choice((*[0] * 8, 1, -1))))
    if b"Transfer-Encoding: chunked" in headers and random.random() < 0.7:
        body = b"%x;e=1\r\n%b\r\n0\r\nTrailer: 1\r\n\r\n" % (len(body), body)
    line = b" ".join((random.choice(METHODS), random.choice(PATHS), random.choice(VERSIONS)))
    return b"\r\n".join([line, b"Host: here", *headers, b"", body])

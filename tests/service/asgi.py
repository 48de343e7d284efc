"""Drives an ASGI application directly: no server, no socket."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from service.gateway import App


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """Sends requests to ``app``; `sent` is what it sent; once `leave` is set the client goes away."""

    app: App
    chunks_read: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list)
    leave: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(
        self,
        method: str,
        url: str,
        body: bytes | Iterable[bytes] = b"",
        *,
        headers: Mapping[str, str] | None = None,
        length: int | str | None = "true",
        leave_after: int | None = None,
        whole: bool = True,
    ) -> Answer:
        """One request.

        Args:
            method: HTTP method.
            url: Path with query.
            body: The whole body, or its chunks.
            headers: Further headers.
            length: Content-Length: "true" for the real one of a whole body, None for none, else what is claimed.
            leave_after: Chunks after which the client goes away.
            whole: Whether the last chunk says that it is the last.
        """
        path, _, query = url.partition("?")
        chunks = [body] if isinstance(body, bytes) else list(body)
        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        if length == "true" and isinstance(body, bytes):
            raw.append((b"content-length", str(len(body)).encode()))
        elif length not in ("true", None):
            raw.append((b"content-length", str(length).encode()))
        self.chunks_read, self.sent = 0, []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": raw,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0)
            if leave_after is not None and self.chunks_read >= leave_after:
                return {"type": "http.disconnect"}
            if self.chunks_read >= len(chunks):
                # As a server does: nothing more until the client leaves.
                await self.leave.wait()
                return {"type": "http.disconnect"}
            chunk = chunks[self.chunks_read]
            self.chunks_read += 1
            return {"type": "http.request", "body": chunk, "more_body": not whole or self.chunks_read < len(chunks)}

        async def send(message: Any) -> None:
            self.sent.append(dict(message))

        await self.app(scope, receive, send)
        return self.answer()

    def answer(self) -> Answer:
        """What was sent, checked to be one well-formed response."""
        start, *bodies = self.sent
        assert start["type"] == "http.response.start"
        assert {message["type"] for message in bodies} == {"http.response.body"}
        assert not bodies[-1].get("more_body", False)
        headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        body = b"".join(message.get("body", b"") for message in bodies)
        if "content-length" in headers:
            assert int(headers["content-length"]) == len(body)
        return Answer(start["status"], headers, body)


async def native(client: Client, model: str, instances: Any) -> list[dict[str, Any]]:
    """What our own protocol answers to the same."""
    body = json.dumps({"instances": instances}).encode()
    answer = await client("POST", f"/predict/{model}", body, headers={"content-type": "application/json"})
    return answer.json["predictions"]  # type: ignore[no-any-return]

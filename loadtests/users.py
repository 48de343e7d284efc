"""Users, one kind a protocol, that send golden rows and compare every answer: a wrong one is a failure."""

import random
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar
from urllib.parse import urlsplit

from locust import FastHttpUser, User, tag, task

from loadtests.expected import MANY, SINGLE, Case, cases
from loadtests.formats import FORMATS, GRPC, NATIVE, OPENINFERENCE, TFSERVING
from loadtests.shapes import Run, may_refuse
from loadtests.verdict import judge_refusal

WEIGHTS = {SINGLE: 8, MANY: 1}
"""Rows of a request -> how often it is chosen, relative to the others of its user."""
_TAGS = {SINGLE: "single", MANY: "many"}
_REFUSALS = (429, 503)
_GRPC_PORT = 3001
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_PATIENCE_S = 30.0
Task = Callable[[Any], None]


def _sends(payload: str, rows: int) -> Task:
    def send(user: Any) -> None:
        user.send(random.choice(user.cases[payload, rows]))

    send.__name__ = f"{payload}_{rows}"
    send.sent = (payload, rows)  # type: ignore[attr-defined]
    tagged: Task = tag(payload, _TAGS[rows])(task(WEIGHTS[rows])(send))
    return tagged


def tasks_of(protocol: str) -> list[Task]:
    """Every payload of a protocol, alone and with many rows, as often as its weight says."""
    payloads = [payload for spoken, payload in FORMATS if spoken == protocol]
    sizes = [(payload, rows) for payload in payloads for rows in WEIGHTS if (payload, rows) != ("png", MANY)]
    return [one for payload, rows in sizes for one in [_sends(payload, rows)] * WEIGHTS[rows]]


class Golden:
    """What all users share, of whatever transport."""

    protocol: ClassVar[str]
    environment: Any
    tasks: list[Any]
    cases: dict[tuple[str, int], list[Case]]

    @classmethod
    def prepare(cls, options: Any) -> dict[tuple[str, int], list[Case]]:
        """The requests by payload and rows; read once a process, for they are kept.

        Raises:
            LookupError: There is nothing that this user could send.
        """
        found: dict[tuple[str, int], list[Case]] = {}
        models = tuple(filter(None, options.models.split(",")))
        for case in cases(Path(options.bundles), cls.protocol, models):
            found.setdefault((case.payload, case.rows), []).append(case)
        if not any(one.sent in found for one in cls.tasks):
            raise LookupError(f"{cls.protocol}: no model of --bundles takes these --payloads. Choose others.")
        return found

    def on_start(self) -> None:
        """Choose among what some model takes."""
        self.cases = self.prepare(self.environment.parsed_options)
        self.tasks = [one for one in self.tasks if one.sent in self.cases]

    def judge(self, case: Case, status: int, body: bytes, *, retry_after: bool) -> tuple[str, str]:
        """Name in the statistics, and why the answer is a failure, else empty."""
        if status == 200:
            version, problem = case.judge(body)
            if version:
                self.environment.tally.note(case.model, version)
            return case.name, f"wrong answer: {problem}" if problem else ""
        said = f"status {status}: {body[:200].decode(errors='replace')}"
        if status not in _REFUSALS or not self._may_be_refused():
            return case.name, said
        return judge_refusal(case.name, said, retry_after=retry_after)

    def _may_be_refused(self) -> bool:
        options = self.environment.parsed_options
        since = perf_counter() - self.environment.began
        return may_refuse(options.shape, Run(options.num_users or 1, options.seconds), since)


class HttpUser(Golden, FastHttpUser):  # type: ignore[misc]
    """Sends over one kept-alive connection, one request after the other, without a pause."""

    abstract = True

    def send(self, case: Case) -> None:
        """One request; anything but the right answer is a failure."""
        with self.client.post(
            case.path, data=case.body, headers=dict(case.headers), name=case.name, catch_response=True
        ) as response:
            retry_after = "retry-after" in (response.headers or ())
            name, problem = self.judge(case, response.status_code, response.content or b"", retry_after=retry_after)
            response.request_meta["name"] = name
            if problem:
                response.failure(problem)
            else:
                response.success()


class NativeUser(HttpUser):
    """Our own protocol."""

    protocol = NATIVE
    weight = 4
    tasks = tasks_of(NATIVE)


class TensorFlowServingUser(HttpUser):
    """TensorFlow Serving's REST interface."""

    protocol = TFSERVING
    weight = 2
    tasks = tasks_of(TFSERVING)


class OpenInferenceUser(HttpUser):
    """The Open Inference Protocol over HTTP."""

    protocol = OPENINFERENCE
    weight = 2
    tasks = tasks_of(OPENINFERENCE)


class GrpcUser(Golden, User):  # type: ignore[misc]
    """The Open Inference Protocol over gRPC."""

    protocol = GRPC
    weight = 1
    tasks = tasks_of(GRPC)

    @classmethod
    def prepare(cls, options: Any) -> dict[tuple[str, int], list[Case]]:
        """As above, and gRPC made to wait as gevent does: with threads beside it answers were a third fewer."""
        # Here, after locust has split itself into processes: gRPC's threads do not survive a fork.
        from grpc.experimental import gevent

        gevent.init_gevent()
        return super().prepare(options)

    def on_start(self) -> None:
        """Open a channel of one's own."""
        import grpc

        super().on_start()
        options = self.environment.parsed_options
        address = options.grpc or f"{urlsplit(self.host).hostname}:{_GRPC_PORT}"
        self._error = grpc.RpcError
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._infer = self._channel.unary_unary(_INFER)

    def on_stop(self) -> None:
        """Close the channel."""
        self._channel.close()

    def send(self, case: Case) -> None:
        """One call; anything but the right answer is a failure."""
        started, retry_after = perf_counter(), False
        try:
            body, status = self._infer(case.body, timeout=_PATIENCE_S), 200
        except self._error as error:
            status = {"RESOURCE_EXHAUSTED": 429, "UNAVAILABLE": 503}.get(error.code().name, 500)
            body = f"{error.code().name}: {error.details()}".encode()
            retry_after = any(key == "retry-after" for key, _ in error.trailing_metadata() or ())
        elapsed = perf_counter() - started
        name, problem = self.judge(case, status, body, retry_after=retry_after)
        self.environment.events.request.fire(
            request_type="gRPC",
            name=name,
            response_time=1000 * elapsed,
            response_length=len(body),
            exception=ValueError(problem) if problem else None,
            context={},
        )

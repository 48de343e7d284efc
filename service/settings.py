"""Every setting of the service, typed and frozen; the only reader of the environment.

Each is an environment variable with the prefix ``SERVING_``, such as ``SERVING_MAX_BATCH_ROWS=128``.
"""

import difflib
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.errors import ServingError
from models.names import is_name
from models.remote.address import Address
from service.cores import available
from service.objective import Objective, check_latency, check_ratio, parse_objectives

PRETRAINED = Path(__file__).resolve().parent.parent / "models" / "pretrained"


# What RFC 6750 lets a bearer token hold.
_SECRET = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_SECRET_LENGTH = 16
# Of one batch, if not set: beyond, the rows of a batch are too few for each.
_MOST_THREADS = 8


class SettingsError(ServingError):
    """A setting is wrong; the message names it and the rule."""


class Settings(BaseSettings):
    """The service's configuration.

    Attributes:
        home: Folder of the model store, the alias document and the servers' run folders; of copies, where `store` is
            set.
        store: A store that a fleet shares, ``s3://BUCKET/PREFIX`` (needs the extra ``s3``) or ``file:///FOLDER``; None
            for `home` itself.
        store_poll_s: Interval at which such a store is asked for news, a fifth longer or shorter by chance. Seconds.
        store_timeout_s: Longest time of one request to it. Seconds.
        pretrained: Folder of bundles that seed an empty store.
        models: Names to serve, comma-separated in the environment; empty for all in the store.
        engine: ``auto`` takes onnxruntime where a bundle has an ONNX graph, else TensorFlow.
        device: ``auto`` takes a GPU where the engine finds one.
        threads: CPU threads of one batch; 0 for the CPUs that the process may use (affinity, container quota) over the
            workers, 8 at most.
        workers: Server processes.
        grpc_host: IP address on which gRPC listens; `keras-serving serve` makes it the same as HTTP's.
        grpc_port: Port of gRPC, shared by all workers; 0 for no gRPC. Where nobody set it and it is taken,
            `keras-serving serve` says so and goes on without.
        max_batch_rows: Largest batch that may follow from a model's latency curve.
        batch_rows: The batch limit, where it is not to follow from the latency curve.
        max_batch_ms: Longest batch, as far as the curve decides. Milliseconds.
        profile_ms: How long the curve of a model is measured. Milliseconds.
        max_queue_rows: Rows that may wait for a loaded version in each worker; more are refused with 429.
        max_queue_s: Longest wait that is expected of a request, as measured, or of a large picture for its turn; more
            are refused with 429. Seconds.
        max_request_rows: Rows in one request; more are refused with 413.
        max_body_bytes: Request body, also after decompression and for BentoML's routes; larger ones are refused with
            413.
        max_head_bytes: What of a request is no body: headers, trailers, framing; larger ones are refused with 431.
        receive_s: Longest time from a request's first byte to its last, and of a connection without one; later it gets
            408. Who reads nothing of its answer for so long is cut off. Seconds.
        max_picture_pixels: Width times height of one picture; more are refused with 422. As many are decoded at once
            by a worker, besides small pictures, which takes 12 bytes a pixel.
        max_request_pixels: Of all pictures of one request; more are refused with 413.
        fast_path: Whether small predictions go past uvicorn's general path of a request.
        inline_ms: Batches expected to take no longer run on the event loop, longer ones in a thread. Milliseconds. For
            as long everything else waits, a refusal or a health check, too.
        poll_s: Interval at which the alias document is looked at. Seconds.
        retry_s: Wait before a version that failed to load is tried again. Seconds.
        admin_token: Opens the routes under /admin/, at least 16 characters; without it there are none.
        api_keys: Any of them opens the prediction routes, comma-separated in the environment, each at least 16
            characters; empty for no keys.
        canary_timeout_s: Longest wait for a candidate's answer before production answers. Seconds.
        shadow_max_share: Largest share of one core for a worker's shadows.
        drift: Whether requests and answers are compared with the reference statistics of the training.
        drift_half_life_rows: After so many rows a row counts half.
        drift_min_rows: Rows before drift is spoken of.
        capture_share: Share of the requests that is captured with their answers, 0 to 1; needs the extra ``capture``.
        capture_max_mb: Size of all captured files; the oldest go first. MiB.
        capture_max_age_h: Captured files that are older are deleted. Hours.
        capture_flush_s: Interval at which what was captured is written. Seconds.
        feedback_rows: Rows of answers that each worker remembers for feedback at least; 0 for none.
        response_details: Whether each answer has ``Server-Timing``, ``X-Model-Version`` and ``X-Batch-Rows``, asked for
            or not.
        start_wait_s: Longest wait of a prediction for the models, in a worker that has just started. Seconds.
        drain_s: How long requests are still accepted after SIGTERM, so that load balancers notice. Seconds.
        objective_latency_ms: Time within which `objective_success_ratio` of a model's requests are to be answered; one
            of the histogram's buckets.
        objective_success_ratio: Share of requests that is to succeed, and to be answered in time.
        objectives: Model name -> an objective of its own, in the environment as ``cnn=50:0.99,lstm=100:0.995``.
        log_level: Least severe level that is logged.
        log_format: ``json``, one object a line, as the container image sets it, or ``text`` for people.
        log_requests: Whether each request gets a line in the log: route, model, status, stages, ids; nothing of its
            content.
    """

    model_config = SettingsConfigDict(env_prefix="SERVING_", frozen=True, extra="ignore")

    home: Path = Field(default_factory=lambda: Path.home() / ".keras-serving")
    store: str | None = None
    store_poll_s: float = Field(default=5.0, gt=0, le=3600)
    store_timeout_s: float = Field(default=5.0, gt=0, le=300)
    pretrained: Path = PRETRAINED
    models: Annotated[tuple[str, ...], NoDecode] = ()
    engine: Literal["auto", "onnx", "tensorflow"] = "auto"
    device: Literal["auto", "cpu", "gpu"] = "auto"
    threads: int = Field(default=0, ge=0, le=256)
    workers: int = Field(default=1, ge=1, le=64)
    grpc_host: str = "127.0.0.1"
    grpc_port: int = Field(default=3001, ge=0, le=65535)
    max_batch_rows: int = Field(default=64, ge=1, le=4096)
    batch_rows: int | None = Field(default=None, ge=1, le=4096)
    max_batch_ms: float = Field(default=50.0, gt=0, le=60_000)
    profile_ms: float = Field(default=100.0, gt=0, le=60_000)
    max_queue_rows: int = Field(default=2048, ge=1, le=1_000_000)
    max_queue_s: float = Field(default=2.0, gt=0, le=3600)
    max_request_rows: int = Field(default=1024, ge=1, le=1_000_000)
    max_body_bytes: int = Field(default=16 * 1024 * 1024, ge=1024, le=1024**3)
    max_head_bytes: int = Field(default=64 * 1024, ge=1024, le=16 * 1024 * 1024)
    receive_s: float = Field(default=60.0, gt=0, le=3600)
    max_picture_pixels: int = Field(default=24_000_000, ge=1, le=1_000_000_000)
    max_request_pixels: int = Field(default=100_000_000, ge=1, le=1_000_000_000)
    fast_path: bool = True
    inline_ms: float = Field(default=4.0, ge=0, le=1000)
    poll_s: float = Field(default=0.25, gt=0, le=60)
    retry_s: float = Field(default=30.0, gt=0, le=3600)
    admin_token: SecretStr | None = None
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    canary_timeout_s: float = Field(default=1.0, gt=0, le=60)
    shadow_max_share: float = Field(default=0.25, gt=0, le=1)
    drift: bool = True
    drift_half_life_rows: int = Field(default=1000, ge=10, le=10_000_000)
    drift_min_rows: int = Field(default=200, ge=10, le=10_000_000)
    capture_share: float = Field(default=0.0, ge=0, le=1)
    capture_max_mb: int = Field(default=256, ge=1, le=1_000_000)
    capture_max_age_h: float = Field(default=168.0, gt=0, le=100_000)
    capture_flush_s: float = Field(default=10.0, gt=0, le=3600)
    feedback_rows: int = Field(default=10_000, ge=0, le=10_000_000)
    response_details: bool = False
    start_wait_s: float = Field(default=5.0, ge=0, le=60)
    # The supervisor kills a worker 30 s after SIGTERM, whatever it still does.
    drain_s: float = Field(default=2.0, ge=0, le=20)
    objective_latency_ms: float = 50.0
    objective_success_ratio: float = 0.999
    objectives: Annotated[dict[str, Objective], NoDecode] = Field(default_factory=dict)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "text"
    log_requests: bool = False

    @field_validator("models", "api_keys", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _some_key(cls, value: object) -> object:
        if isinstance(value, str) and value.strip() and not value.replace(",", " ").strip():
            raise ValueError("only commas; leave the variable out for no keys")
        return value

    @field_validator("store")
    @classmethod
    def _can_be_reached(cls, value: str | None) -> str | None:
        if value is not None and Address.parse(value).scheme == "s3" and find_spec("s3fs") is None:
            raise ValueError("needs the package s3fs: install the extra `s3`, or leave the variable out")
        return value

    @field_validator("admin_token", "store", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("admin_token", "api_keys")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | tuple[SecretStr, ...] | None) -> object:
        for secret in value if isinstance(value, tuple) else [value] if value else []:
            text = secret.get_secret_value()
            if len(text) < _SECRET_LENGTH or not _SECRET.fullmatch(text):
                raise ValueError(
                    f"each must have at least {_SECRET_LENGTH} characters, letters, digits and -._~+/= only. "
                    "Make one with: openssl rand -hex 32"
                )
        return value

    @field_validator("capture_share")
    @classmethod
    def _can_be_written(cls, value: float) -> float:
        if value and find_spec("pyarrow") is None:
            raise ValueError("needs the package pyarrow: install the extra `capture`, or leave the variable out")
        return value

    @field_validator("models")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not is_name(name):
                raise ValueError(f"{name!r} is no model name")
        return value

    @field_validator("objectives", mode="before")
    @classmethod
    def _parse_objectives(cls, value: object) -> object:
        return parse_objectives(value) if isinstance(value, str) else value

    @field_validator("objective_latency_ms")
    @classmethod
    def _has_a_bucket(cls, value: float) -> float:
        return check_latency(value)

    @field_validator("objective_success_ratio")
    @classmethod
    def _is_a_share(cls, value: float) -> float:
        return check_ratio(value)

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> Self:
        if self.max_request_rows > self.max_queue_rows:
            raise ValueError("max_request_rows must not exceed max_queue_rows, or no queue could hold such a request")
        return self

    @model_validator(mode="after")
    def _request_holds_a_picture(self) -> Self:
        if self.max_picture_pixels > self.max_request_pixels:
            raise ValueError("max_picture_pixels must not exceed max_request_pixels, or no request could hold it")
        return self

    @property
    def batch_threads(self) -> int:
        """CPU threads of one batch, as set or as this machine has them.

        Half of a batch on another CPU, without Python's lock, beats a thread for the whole of it: that thread and the
        event loop would wait for each other's turn with the lock (``python -m benchmarks.pairs --help`` says how to
        measure it).
        """
        return self.threads or max(1, min(_MOST_THREADS, available() // self.workers))

    @property
    def tracing(self) -> bool:
        """Whether OpenTelemetry's standard variables name a collector for traces; the SDK reads everything else."""
        names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        wanted = any(os.environ.get(name) for name in names) or os.environ.get("OTEL_TRACES_EXPORTER") == "otlp"
        off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        return wanted and not off and os.environ.get("OTEL_TRACES_EXPORTER") != "none"

    def objective(self, name: str) -> Objective:
        """What is expected of the model ``name``."""
        default = Objective(self.objective_latency_ms, self.objective_success_ratio)
        return self.objectives.get(name, default)

    @classmethod
    def load(cls, **overrides: object) -> "Settings":
        """Settings from the environment.

        Raises:
            SettingsError: One is wrong; the message names the variable.
        """
        try:
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            name = "SERVING_" + str(first["loc"][0]).upper() if first["loc"] else "SERVING_* settings"
            # A secret that is too short is one all the same, and an address may have one in it.
            shown = first["loc"] and first["loc"][0] not in {"admin_token", "api_keys", "store"}
            received = f" Received: {first['input']!r}." if shown else ""
            raise SettingsError(f"{name}: {first['msg'].removeprefix('Value error, ')}.{received}") from None

    @classmethod
    def misspelt(cls) -> list[str]:
        """A line for each variable ``SERVING_*`` that is no setting: it does nothing, and its value is not shown."""
        known = [f"SERVING_{name.upper()}" for name in cls.model_fields]
        lines = []
        for name in sorted(set(map(str.upper, os.environ)) - set(known)):
            if name.startswith("SERVING_"):
                meant = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
                lines.append(f"{name} is no setting and does nothing." + "".join(f" Did you mean {x}?" for x in meant))
        return lines

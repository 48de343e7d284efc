"""The users, the shape, and the thresholds that decide the exit status with ``--headless``."""

import logging
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import gevent
from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtests.shapes import SHAPES, Run, users_at
from loadtests.tally import Tally
from loadtests.users import GrpcUser, NativeUser, OpenInferenceUser, TensorFlowServingUser
from loadtests.verdict import MET, MISSED, Figures, Limits, broken, figures

__all__ = ["GrpcUser", "NativeUser", "OpenInferenceUser", "Shape", "TensorFlowServingUser"]

logger = logging.getLogger(__name__)
_PROGRESS_S = 5.0


@events.init_command_line_parser.add_listener
def add_arguments(parser: LocustArgumentParser) -> None:
    """Ours, each also an environment variable."""
    group = parser.add_argument_group("keras-serving")

    def add(flag: str, default: Any, text: str, kind: type = str, **more: Any) -> None:
        variable = f"LOAD_{flag.strip('-').replace('-', '_').upper()}"
        group.add_argument(flag, default=default, env_var=variable, type=kind, help=f"{text} [%(default)s]", **more)

    add("--shape", "steady", "How many users there are when", choices=tuple(SHAPES))
    add("--seconds", 20.0, "Length of the run", float)
    add("--bundles", "models/pretrained", "Folder of the served bundles, for their golden rows")
    add("--models", "", "Comma-separated names of the models that are asked; empty for all")
    add("--grpc", "", "HOST:PORT of gRPC; empty for port 3001 of --host")
    add("--max-failure-ratio", 0.0, "Largest accepted share of failed and wrong answers", float)
    add("--max-p99-ms", 500.0, "Largest accepted 99th percentile of response times, in milliseconds", float)
    add("--min-requests-per-s", 50.0, "Smallest accepted number of requests a second", float)


class Shape(LoadTestShape):  # type: ignore[misc]
    """As ``--shape``, ``--users`` and ``--seconds`` say."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Users, and how many of them come or go a second; None ends the run."""
        options = self.runner.environment.parsed_options
        run = Run(options.num_users or 1, options.seconds)
        users = users_at(options.shape, run, self.get_run_time())
        return None if users is None else (users, float(run.users))


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Count versions in this process, and give the counts to the master where there is one."""
    environment.tally = Tally()
    environment.began = perf_counter()

    def give(client_id: str, data: dict[str, Any]) -> None:
        data["versions"] = environment.tally.give()

    def take(client_id: str, data: dict[str, Any]) -> None:
        environment.tally.take(data["versions"])

    environment.events.report_to_master.add_listener(give)
    environment.events.worker_report.add_listener(take)


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Note the time, read what will be sent before anything is timed, and tell every few seconds how it goes."""
    environment.began = perf_counter()
    for user in environment.user_classes:
        try:
            user.prepare(environment.parsed_options)
        except LookupError as error:
            logger.error("%s", error)  # noqa: TRY400 - the message says all
            environment.runner.quit()
            return
    if not isinstance(environment.runner, WorkerRunner):
        gevent.spawn(_tell, environment)


def _tell(environment: Environment) -> None:
    options: Any = environment.parsed_options
    while (since := perf_counter() - environment.began) < options.seconds:
        if since >= _PROGRESS_S:
            found = _figures(environment)
            logger.info(
                "%.0f of %g s, %d users: %s", since, options.seconds, environment.runner.user_count, found.say()
            )
        gevent.sleep(_PROGRESS_S)


def _figures(environment: Environment) -> Figures:
    exceptions: Mapping[str, Any] = environment.runner.exceptions if environment.runner is not None else {}
    return figures(environment.stats, len(exceptions), environment.tally.versions())


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Set the exit status. Only the process that holds everybody's statistics can."""
    if isinstance(environment.runner, WorkerRunner):
        return
    options: Any = environment.parsed_options
    limits = Limits(options.max_failure_ratio, options.max_p99_ms, options.min_requests_per_s, options.shape)
    found = _figures(environment)
    problems = broken(found, limits)
    for problem in problems:
        logger.error("threshold: %s", problem)
    for line in found.say_versions():
        logger.info("%s", line)
    logger.info("%s: %s", "thresholds are missed" if problems else "all thresholds are met", found.say())
    environment.process_exit_code = MISSED if problems else MET

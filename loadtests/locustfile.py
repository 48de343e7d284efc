"""Users who send golden rows and compare every answer: a wrong one is a failure.

With ``--headless`` the thresholds decide the exit status: 0 within all of them, 1 otherwise.
"""

import logging
import random
from pathlib import Path
from typing import Any, ClassVar

from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import WorkerRunner

from loadtests.expected import JSON, PNG, Case, cases

logger = logging.getLogger(__name__)


@events.init_command_line_parser.add_listener
def add_arguments(parser: LocustArgumentParser) -> None:
    """Our thresholds, each also an environment variable."""
    group = parser.add_argument_group("keras-serving")
    group.add_argument(
        "--bundles", default="models/pretrained", env_var="LOAD_BUNDLES", help="Folder of bundles with golden rows"
    )
    group.add_argument(
        "--max-failure-ratio",
        type=float,
        default=0.0,
        env_var="LOAD_MAX_FAILURE_RATIO",
        help="Largest accepted share of failed and wrong answers [%(default)s]",
    )
    group.add_argument(
        "--max-p99-ms",
        type=float,
        default=100.0,
        env_var="LOAD_MAX_P99_MS",
        help="Largest accepted 99th percentile of response times, in milliseconds [%(default)s]",
    )
    group.add_argument(
        "--min-requests-per-s",
        type=float,
        default=200.0,
        env_var="LOAD_MIN_REQUESTS_PER_S",
        help="Smallest accepted number of requests a second [%(default)s]",
    )


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Set the exit status. Only the process that holds everybody's statistics can."""
    if isinstance(environment.runner, WorkerRunner):
        return
    options: Any = environment.parsed_options
    total = environment.stats.total
    broken = []
    if total.num_requests == 0:
        broken.append("no request was answered")
    if total.fail_ratio > options.max_failure_ratio:
        broken.append(f"failure ratio {total.fail_ratio:.4f} is above {options.max_failure_ratio:g}")
    p99 = total.get_response_time_percentile(0.99)
    if p99 > options.max_p99_ms:
        broken.append(f"p99 {p99:.0f} ms is above {options.max_p99_ms:g} ms")
    if total.total_rps < options.min_requests_per_s:
        broken.append(f"{total.total_rps:.0f} requests/s is below {options.min_requests_per_s:g}")
    if environment.runner is not None and environment.runner.exceptions:
        broken.append(f"{len(environment.runner.exceptions)} kinds of exception in the users themselves")
    for problem in broken:
        logger.error("threshold: %s", problem)
    if not broken:
        logger.info(
            "all thresholds are met: %d requests, %.0f a second, p99 %.0f ms", total.num_requests, total.total_rps, p99
        )
    environment.process_exit_code = 1 if broken else 0


class GoldenUser(FastHttpUser):
    """Sends golden rows of one kind of task, one after the other, without a pause."""

    abstract = True
    kind: ClassVar[str]
    cases: dict[str, list[Case]]

    def on_start(self) -> None:
        """Read the bundles; once a process, for the cases are kept."""
        try:
            found = cases(Path(self.environment.parsed_options.bundles), self.kind)
        except LookupError as error:
            logger.error("%s", error)  # noqa: TRY400 - the message says all
            self.environment.runner.quit()
            raise StopUser from None
        self.cases = {kind: [case for case in found if case.content_type == kind] for kind in (JSON, PNG)}

    def send(self, content_type: str) -> None:
        """One request; anything but the right answer is a failure."""
        case = random.choice(self.cases[content_type])
        with self.client.post(
            case.path,
            data=case.body,
            headers={"Content-Type": case.content_type},
            name=case.name,
            catch_response=True,
        ) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {(response.text or '')[:200]}")
            elif problem := case.problem(response.content):
                response.failure(f"wrong answer: {problem}")


class PictureUser(GoldenUser):
    """Pictures, as files and as pixels."""

    kind = "image_classification"

    @task
    def picture_file(self) -> None:
        """A PNG."""
        self.send(PNG)

    @task
    def pixels(self) -> None:
        """Nested lists of pixels."""
        self.send(JSON)


class RecordUser(GoldenUser):
    """Records as JSON objects."""

    kind = "tabular_regression"

    @task
    def record(self) -> None:
        """One record."""
        self.send(JSON)


class SequenceUser(GoldenUser):
    """The recent past of a series."""

    kind = "sequence_forecast"

    @task
    def sequence(self) -> None:
        """One sequence."""
        self.send(JSON)

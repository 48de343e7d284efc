"""What turned out to be true, told by request id, counted once, whichever worker answered."""

import asyncio
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.errors import ConflictError, InputError
from models.task import Task
from service.errors import NoAnswerError, NotReadyError
from service.feedback import FeedbackDesk
from service.mailbox import Mailbox
from service.metrics import Metrics
from service.protocols import native
from service.protocols.base import Decoded, Question
from service.runtime import Runtime
from service.served import Served
from service.settings import Settings
from service.truth import Feedback, verdict
from tests.bundles import CARS, IMAGE, SERIES
from tests.service.asgi import Answer, Client
from tests.service.conftest import StartRuntime, client_of, until

KEY = "k" * 16
CAR = {"weight": 3504, "horsepower": 130, "origin": "usa"}
JSON = {"content-type": "application/json"}


def told(**members: Any) -> Feedback:
    return Feedback(request_id="one", **members)


async def predict(client: Client, *cars: Any, request_id: str = "one") -> Any:
    body = json.dumps({"instances": [*cars] or [CAR]}).encode()
    answer = await client("POST", "/predict/cars", body, headers=JSON | {"x-request-id": request_id})
    return answer.json["predictions"]


async def tell(client: Client, body: Any, **headers: str) -> Answer:
    return await client("POST", "/feedback", json.dumps(body).encode(), headers=JSON | headers)


def counted(runtime: Runtime) -> dict[str, float]:
    text = runtime.metrics.render()[0].decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith("serving_feedback"))
    return {name: float(value) for name, _, value in lines if "_created" not in name}


def test_a_label_is_right_or_wrong() -> None:
    output = np.array([0.1, 0.7, 0.2], np.float32)
    assert verdict(IMAGE, output, told(label="boot")).outcomes == {"right": 1}
    found = verdict(IMAGE, output, told(label="bag"))
    assert (found.said, found.outcomes, found.error) == ("boot", {"wrong": 1}, None)


def test_a_value_has_an_error_and_lies_inside_or_outside_of_its_interval() -> None:
    output = np.array([20, 18, 25], np.float32)
    inside, outside = verdict(CARS, output, told(value=24)), verdict(CARS, output, told(value=30.5))
    assert (inside.outcomes, inside.error) == ({"inside": 1}, 4)
    assert (outside.outcomes, outside.error) == ({"outside": 1}, 10.5)


def test_each_step_of_a_forecast_counts() -> None:
    output = np.array([[20, 18, 22], [21, 19, 23]], np.float32)
    found = verdict(SERIES, output, told(value=[21, 25]))
    assert (found.outcomes, found.error) == ({"inside": 1, "outside": 1}, 5)
    assert found.document()["mean_absolute_error"] == 2.5


@pytest.mark.parametrize(
    ("task", "members", "field"),
    [
        (IMAGE, {"label": "hat"}, "label"),
        (IMAGE, {"value": 1.0}, "label"),
        (CARS, {"label": "boot"}, "value"),
        (CARS, {"value": [1.0, 2.0]}, "value"),
        (SERIES, {"value": 1.0}, "value"),
        (SERIES, {}, "value"),
    ],
)
def test_what_the_model_could_not_have_said_is_refused(task: Task, members: Any, field: str) -> None:
    output = np.zeros(task.output_shape, np.float32)
    with pytest.raises(InputError) as caught:
        verdict(task, output, told(**members))
    assert caught.value.field == field


@pytest.mark.parametrize("members", [{"row": -1}, {"label": 3}, {"value": "3"}, {"colour": "red"}])
def test_feedback_of_another_form_is_refused(members: Any) -> None:
    with pytest.raises(ValidationError):
        told(**members)


async def test_the_truth_is_counted_and_answered_with_what_was_said(client: Client, runtime: Runtime) -> None:
    (said,) = await predict(client)
    answer = await tell(client, {"request_id": "one", "value": said["value"] + 2})
    assert answer.status == 200
    assert answer.json["said"] == pytest.approx(said["value"])
    assert answer.json["mean_absolute_error"] == pytest.approx(2, abs=1e-5)
    assert (answer.json["model"], answer.json["alias"], answer.json["row"]) == ("cars", "production", 0)
    found = counted(runtime)
    assert found['serving_feedback_absolute_error_total{alias="production",model="cars"}'] == pytest.approx(2, abs=1e-5)
    assert sum(value for name, value in found.items() if "feedback_total" in name) == 1


async def test_each_row_of_a_request_has_its_own_truth_once(client: Client) -> None:
    await predict(client, CAR, CAR)
    assert (await tell(client, {"request_id": "one", "row": 0, "value": 20.0})).status == 200
    assert (await tell(client, {"request_id": "one", "row": 1, "value": 20.0})).status == 200
    assert (await tell(client, {"request_id": "one", "row": 1, "value": 20.0})).status == 409
    beyond = await tell(client, {"request_id": "one", "row": 2, "value": 20.0})
    assert (beyond.status, beyond.json["errors"][0]["field"]) == (422, "row")


async def test_a_refused_truth_may_be_told_again(client: Client) -> None:
    await predict(client)
    assert (await tell(client, {"request_id": "one", "label": "boot"})).status == 422
    assert (await tell(client, {"request_id": "one", "value": 20.0})).status == 200


async def test_an_answer_that_nobody_remembers_is_a_404_that_says_how_many_are(client: Client) -> None:
    answer = await tell(client, {"request_id": "never", "value": 20.0})
    assert answer.status == 404
    assert "10,000 rows" in answer.json["detail"]


async def test_the_oldest_answers_are_forgotten_first(settings: Settings, start_runtime: StartRuntime) -> None:
    client = client_of(await start_runtime(settings.model_copy(update={"feedback_rows": 3})))
    for name in "abcde":
        await predict(client, CAR, CAR, request_id=name)
    # Three rows at least, of two rows each: in generations of two requests.
    statuses = [(await tell(client, {"request_id": name, "value": 20.0})).status for name in "abcde"]
    assert statuses == [404, 404, 200, 200, 200]


async def test_what_is_remembered_keeps_nothing_of_the_engine_that_computed_it(
    settings: Settings, start_runtime: StartRuntime
) -> None:
    runtime = await start_runtime(settings)
    given: list[weakref.ref[Any]] = []

    def look(served: Served, question: Question, decoded: Decoded, outputs: Any) -> None:
        # What holds the memory of ONNX Runtime's session: the last of what an array is a part of.
        while isinstance(outputs.base, np.ndarray):
            outputs = outputs.base
        given.append(weakref.ref(outputs))

    served = runtime.loader.find("cars")
    served.listeners += (look,)
    await predict(client_of(runtime))
    runtime.metrics.flush()
    await until(lambda: given[0]() is None)
    assert runtime.feedback.answers.knows("one")


async def test_an_id_that_is_used_again_means_the_last_answer(client: Client) -> None:
    await predict(client, CAR, CAR)
    await tell(client, {"request_id": "one", "value": 20.0})
    await predict(client, CAR)
    assert (await tell(client, {"request_id": "one", "row": 1, "value": 20.0})).status == 422
    assert (await tell(client, {"request_id": "one", "value": 20.0})).status == 200


async def test_feedback_needs_a_key_where_predictions_do(settings: Settings, start_runtime: StartRuntime) -> None:
    guarded = Settings.load(**{**settings.model_dump(exclude={"api_keys"}), "api_keys": KEY})
    client = client_of(await start_runtime(guarded))
    assert (await tell(client, {"request_id": "one", "value": 20.0})).status == 401
    assert (await tell(client, {"request_id": "one", "value": 20.0}, **{"x-api-key": KEY})).status == 404
    assert (await client("GET", "/feedback")).status == 405


class Worker:
    """One worker's desk, which remembers one answer."""

    def __init__(self, folder: Path, served: Served, request_id: str = "") -> None:
        self.metrics = Metrics()
        self.desk = FeedbackDesk(Settings(workers=2), self.metrics, folder)
        if request_id:
            rows = np.zeros((1, 3), np.float32)
            question = Question(native, request_id, b"", b"")
            self.desk.answers.remember(served, question, Decoded(rows), np.array([[20, 18, 25]], np.float32))

    async def tell(self, request_id: str, value: float | None) -> Any:
        return await self.desk.tell(Feedback(request_id=request_id, value=value))


async def test_any_worker_may_be_told_and_the_one_that_answered_counts(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.mailbox._PATIENCE_S", 60.0)
    served = runtime.loader.find("cars")
    one, other = Worker(tmp_path, served, "one"), Worker(tmp_path, served, "other")
    one.desk.start()
    other.desk.start()
    try:
        found = await asyncio.gather(one.tell("other", 21.0), other.tell("one", 22.0))
        assert [each["mean_absolute_error"] for each in found] == [1, 2]
        assert 'error_total{alias="production",model="cars"} 1.0' in other.metrics.render()[0].decode()
        with pytest.raises(ConflictError):
            await one.tell("other", 21.0)
        with pytest.raises(InputError) as caught:
            await other.tell("one", None)
        assert caught.value.field == "value"
        monkeypatch.setattr("service.mailbox._PATIENCE_S", 0.2)
        with pytest.raises(NoAnswerError):
            await one.tell("nobody's", 21.0)
    finally:
        await one.desk.close()
        await other.desk.close()


async def test_a_question_with_the_time_stamp_of_an_earlier_one_is_found(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = runtime.loader.find("cars")
    one, other = Worker(tmp_path, served, "one"), Worker(tmp_path, served)
    looks = 0

    def same_tick(_: Mailbox) -> int:
        nonlocal looks
        looks += 1
        return 1

    monkeypatch.setattr(Mailbox, "_stamp_now", same_tick)
    monkeypatch.setattr("service.mailbox._TICK_S", 60.0)
    monkeypatch.setattr("service.mailbox._PATIENCE_S", 60.0)
    one.desk.start()
    try:
        await until(lambda: looks > 1)
        assert (await other.tell("one", 22.0))["mean_absolute_error"] == 2
    finally:
        await one.desk.close()
        await other.desk.close()


async def test_only_so_much_feedback_waits_for_other_workers(runtime: Runtime, tmp_path: Path) -> None:
    alone = Worker(tmp_path, runtime.loader.find("cars"))
    waiting = [asyncio.create_task(alone.tell(f"nobody's {i}", 21.0)) for i in range(65)]
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert done == {waiting[-1]}
        with pytest.raises(NotReadyError, match="Too much feedback"):
            await waiting[-1]
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        # There is room again: what is refused is so at once.
        waiting.append(asyncio.create_task(alone.tell("nobody's", 21.0)))
        await asyncio.sleep(0.01)
        assert not waiting[-1].done()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await alone.desk.close()


async def test_feedback_that_cannot_be_passed_on_is_to_be_told_again(
    runtime: Runtime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    alone = Worker(folder, runtime.loader.find("cars"))
    alone.desk.start()
    try:
        with pytest.raises(NotReadyError, match="Tell it again later"):
            await alone.tell("another's", 21.0)
    finally:
        await alone.desk.close()
    assert "another worker cannot be asked about an answer: unable to open database file" in caplog.text


async def test_a_mailbox_that_cannot_be_read_for_a_while_is_looked_at_again(
    runtime: Runtime, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.mailbox._PATIENCE_S", 60.0)
    served = runtime.loader.find("cars")
    one, other = Worker(tmp_path, served, "one"), Worker(tmp_path, served)
    mailbox = tmp_path / "questions.sqlite"
    mailbox.write_bytes(b"no database" * 100)
    one.desk.start()
    try:
        async with asyncio.timeout(10):
            while "question about an answer is not read" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        mailbox.unlink()
        assert (await other.tell("one", 21.0))["mean_absolute_error"] == 1
    finally:
        await one.desk.close()
        await other.desk.close()

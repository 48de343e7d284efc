"""Every setting comes from one place, typed, and a wrong one is named."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.objective import Objective
from service.settings import PRETRAINED, Settings, SettingsError


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("SERVING_")]:
        monkeypatch.delenv(name)


def test_without_an_environment_everything_has_a_default() -> None:
    settings = Settings.load()
    assert settings.pretrained == PRETRAINED
    assert settings.models == ()
    assert settings.engine == "auto"
    assert settings.home == Path.home() / ".keras-serving"


def test_a_refusal_waits_for_no_batch_that_takes_as_long_as_it_may_itself() -> None:
    # 5 ms (tests/reliability/test_overload.py); what runs on the event loop holds it up.
    assert Settings().inline_ms < 5


def test_the_environment_is_read_with_the_prefix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVING_MAX_BATCH_ROWS", "128")
    monkeypatch.setenv("SERVING_HOME", str(tmp_path))
    monkeypatch.setenv("MAX_QUEUE_ROWS", "1")
    settings = Settings.load()
    assert (settings.max_batch_rows, settings.home, settings.max_queue_rows) == (128, tmp_path, 2048)


@pytest.mark.parametrize(
    ("text", "models"), [("cnn", ("cnn",)), ("cnn,dnn", ("cnn", "dnn")), (" cnn , dnn ,", ("cnn", "dnn")), ("", ())]
)
def test_models_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch, text: str, models: tuple[str, ...]) -> None:
    monkeypatch.setenv("SERVING_MODELS", text)
    assert Settings.load().models == models


def test_a_model_can_have_an_objective_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_OBJECTIVE_LATENCY_MS", "25")
    monkeypatch.setenv("SERVING_OBJECTIVES", "cnn=50:0.99, lstm=7.5:0.95")
    settings = Settings.load()
    assert settings.objective("cnn") == Objective(50, 0.99)
    assert settings.objective("lstm") == Objective(7.5, 0.95)
    assert settings.objective("dnn") == Objective(25, 0.999)


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("OBJECTIVE_LATENCY_MS", "33", "one of the histogram's buckets: 0.5, 1, "),
        ("OBJECTIVE_SUCCESS_RATIO", "99.9", "a share from 0.5 to below 1"),
        ("OBJECTIVES", "cnn=50", "must be MODEL=MILLISECONDS:SHARE"),
        ("OBJECTIVES", "cnn=50:0.9,cnn=50:0.9", "each model once"),
        ("OBJECTIVES", "C/N=50:0.9", "must be MODEL=MILLISECONDS:SHARE"),
        ("OBJECTIVES", "cnn=51:0.9", "cnn: must be one of the histogram's buckets"),
        ("OBJECTIVES", "cnn=50:1", "cnn: must be a share"),
        ("OBJECTIVES", "cnn=nan:0.9", "cnn: must be one of"),
    ],
)
def test_an_objective_that_could_not_be_told_from_the_metrics_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, rule: str
) -> None:
    monkeypatch.setenv(f"SERVING_{name}", text)
    with pytest.raises(SettingsError, match=f"SERVING_{name}: .*{rule}.* Received: '{re.escape(text)}'"):
        Settings.load()


@pytest.mark.parametrize("text", ["../up", "CNN", "cnn;dnn", "a/b"])
def test_a_model_that_is_no_name_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SERVING_MODELS", text)
    with pytest.raises(SettingsError, match=r"SERVING_MODELS: .*is no model name"):
        Settings.load()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MAX_BATCH_ROWS", "0"),
        ("MAX_BATCH_ROWS", "many"),
        ("MAX_BODY_BYTES", "1023"),
        ("ENGINE", "torch"),
        ("DEVICE", "tpu"),
        ("THREADS", "-1"),
        ("WORKERS", "65"),
        ("POLL_S", "0"),
        ("POLL_S", "nan"),
        ("INLINE_MS", "-1"),
        ("DRAIN_S", "inf"),
        ("DRAIN_S", "20.1"),
        ("SHADOW_MAX_SHARE", "0"),
        ("SHADOW_MAX_SHARE", "1.1"),
        ("CANARY_TIMEOUT_S", "0"),
        ("LOG_LEVEL", "debug"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(f"SERVING_{name}", text)
    with pytest.raises(SettingsError, match=f"^SERVING_{name}: .*Received: '{text}'"):
        Settings.load()


def test_a_queue_that_could_not_hold_a_request_is_refused() -> None:
    with pytest.raises(SettingsError, match="max_request_rows must not exceed max_queue_rows"):
        Settings.load(max_queue_rows=10, max_request_rows=11)
    assert Settings.load(max_queue_rows=10, max_request_rows=10).max_request_rows == 10


def test_a_request_that_could_not_hold_a_picture_is_refused() -> None:
    with pytest.raises(SettingsError, match="max_picture_pixels must not exceed max_request_pixels"):
        Settings.load(max_picture_pixels=11, max_request_pixels=10)
    assert Settings.load(max_picture_pixels=10, max_request_pixels=10).max_request_pixels == 10


def test_what_the_program_passes_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_WORKERS", "3")
    assert Settings.load(workers=2).workers == 2


@pytest.mark.parametrize("change", [{"workers": 2}, {"home": Path()}])
def test_settings_cannot_be_changed(change: dict[str, Any]) -> None:
    settings = Settings.load()
    for name, value in change.items():
        with pytest.raises(ValidationError):
            setattr(settings, name, value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ADMIN_TOKEN", "fifteen-letters"),
        ("ADMIN_TOKEN", "sixteen letters and spaces"),
        ("API_KEYS", "sixteen-letters-and-more,short"),
        ("API_KEYS", " , "),
    ],
)
def test_a_secret_that_is_easily_guessed_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(f"SERVING_{name}", text)
    with pytest.raises(SettingsError, match=f"^SERVING_{name}: ") as caught:
        Settings.load()
    assert text not in str(caught.value)


def test_secrets_are_read_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_ADMIN_TOKEN", "sixteen-letters-1")
    monkeypatch.setenv("SERVING_API_KEYS", "sixteen-letters-2, sixteen-letters-3,")
    settings = Settings.load()
    assert settings.admin_token is not None
    assert settings.admin_token.get_secret_value() == "sixteen-letters-1"
    assert [key.get_secret_value() for key in settings.api_keys] == ["sixteen-letters-2", "sixteen-letters-3"]
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "sixteen" not in shown


@pytest.mark.parametrize("empty", [None, ""])
def test_a_secret_that_is_not_set_or_empty_is_off(monkeypatch: pytest.MonkeyPatch, empty: str | None) -> None:
    # Empty is what container files make of a variable that is not set where they are read.
    for name in ("SERVING_ADMIN_TOKEN", "SERVING_API_KEYS") if empty is not None else ():
        monkeypatch.setenv(name, empty or "")
    assert (Settings.load().admin_token, Settings.load().api_keys) == (None, ())


def test_a_misspelt_variable_is_named_with_what_was_meant_and_without_its_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVING_MAX_QUEUE_S", "1")
    assert Settings.misspelt() == []
    monkeypatch.setenv("SERVING_ADMIN_TOKE", "a-secret-all-the-same")
    monkeypatch.setenv("SERVING_ELSEWHERE_URI", "x")
    assert Settings.misspelt() == [
        "SERVING_ADMIN_TOKE is no setting and does nothing. Did you mean SERVING_ADMIN_TOKEN?",
        "SERVING_ELSEWHERE_URI is no setting and does nothing.",
    ]

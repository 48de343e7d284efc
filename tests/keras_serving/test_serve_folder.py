"""Where a server's own files lie."""

from pathlib import Path

import click
import pytest

from keras_serving.serve_command import _run_folder


def test_a_run_has_a_folder_of_its_own_beside_the_store(tmp_path: Path) -> None:
    assert _run_folder(tmp_path / "home", 3000) == tmp_path / "home" / "run" / "3000"
    assert (tmp_path / "home" / "run" / "3000").is_dir()


def test_a_home_that_cannot_be_written_and_was_never_seeded_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    with pytest.raises(click.ClickException, match=r"home cannot be written: .*A store that was seeded before can be"):
        _run_folder(tmp_path / "home", 3000)


def test_beside_a_seeded_store_that_cannot_be_written_the_files_lie_elsewhere_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "aliases.json").write_text("{}")
    (tmp_path / "run").write_text("no folder")
    folder = _run_folder(tmp_path, 3000)
    assert folder.is_dir()
    assert folder.parent == tmp_path
    assert f"This run's files: {folder}" in capsys.readouterr().err

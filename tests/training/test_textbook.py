"""The report's commands are the ones that are run, and their tables and plots end up beside them."""

from pathlib import Path

import pytest

from training import textbook

REPORT = """# Report

## One

Words of a person.

```sh
keras-serving compare dnn --output {output}
```

| old | table |
|---|---|

![learning curves](report/one.png)
"""


def test_the_table_of_a_command_replaces_the_old_one_and_words_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "runs" / "one"
    output.mkdir(parents=True)
    (output / "table.md").write_text("Words\n\n| new | table |\n|---|---|\n\nmore\n", encoding="utf-8")
    (output / "curves.png").write_bytes(b"picture")
    ran: list[list[object]] = []
    monkeypatch.setattr("subprocess.run", lambda words, check: ran.append(words))
    report = tmp_path / "report.md"
    report.write_text(REPORT.format(output=output), encoding="utf-8")
    textbook.main(report)
    textbook.main(report)
    text = report.read_text(encoding="utf-8")
    assert text == REPORT.format(output=output).replace("old", "new")
    assert [words[1:3] for words in ran] == [["compare", "dnn"]] * 2
    assert (tmp_path / "report" / "one.png").read_bytes() == b"picture"


def test_the_shipped_report_has_a_plot_of_less_than_80_kb_for_each_of_its_commands() -> None:
    text = textbook.REPORT.read_text(encoding="utf-8")
    assert len(textbook._SECTION.findall(text)) == text.count("![") == 6
    for plot in textbook.REPORT.with_suffix("").glob("*.png"):
        assert f"(textbook/{plot.name})" in text
        assert plot.stat().st_size < 80_000

"""Run the commands that a report holds, and put their tables and plots into it: `python -m training.textbook`."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

REPORT = Path(__file__).parent.parent / "docs" / "textbook.md"
_SECTION = re.compile(r"```sh\n(?P<command>keras-serving compare [^\n]+)\n```\n+(?:\|[^\n]*\n)*\n*")


def main(report: Path = REPORT) -> None:
    """Run each command; what its output folder holds already is not trained again."""
    text = report.read_text(encoding="utf-8")
    for found in _SECTION.finditer(text):
        words = shlex.split(found["command"])
        program = Path(sys.executable).with_name(words[0])
        subprocess.run([program, *words[1:]], check=True)  # noqa: S603 - the report's own commands
    report.write_text(_SECTION.sub(lambda found: _filled(found, report), text), encoding="utf-8")


def _filled(found: re.Match[str], report: Path) -> str:
    """The command, followed by the table of its output folder; its plot is copied beside the report."""
    words = shlex.split(found["command"])
    output = Path(words[words.index("--output") + 1])
    plots = report.with_suffix("")
    plots.mkdir(exist_ok=True)
    shutil.copyfile(output / "curves.png", plots / f"{output.name}.png")
    rows = [line for line in (output / "table.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return f"```sh\n{found['command']}\n```\n\n" + "\n".join(rows) + "\n\n"


if __name__ == "__main__":
    main()

"""The README's first lines, run as they stand."""

import json
import re
import subprocess
from pathlib import Path

from tests.e2e.server import Server

README = Path(__file__).parent.parent.parent / "README.md"


def test_the_first_curl_lines_answer_correctly(server: Server, tmp_path: Path) -> None:
    block = re.search(r"In a second terminal:\n\n```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    outputs = []
    for line in block[1].strip().splitlines():
        command = line.replace("localhost:3000", server.url.removeprefix("http://"))
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True)  # noqa: S602 - the document's own command
        outputs.append(done.stdout)
    picture, car, sequence = (json.loads(output)["predictions"][0] for output in outputs if output)
    assert picture["confidence"] > 0.5
    assert picture["label"] in picture["probabilities"]
    assert 20 < car["value"] < 45
    assert len(sequence["forecast"]) == 24

"""`python -m training.latency`."""

import re

from click.testing import CliRunner

from training.latency import main


def test_recipes_are_timed_in_turn_and_compared_with_the_last() -> None:
    said = CliRunner().invoke(main, ["textbook-dnn", "textbook-cnn"], catch_exceptions=False).output
    found = re.findall(r"^(\S+) +([\d.]+) ms +([\d.]+) x$", said, re.MULTILINE)
    assert [name for name, _, _ in found] == ["textbook-dnn", "textbook-cnn"]
    (_, dnn, ratio), (_, cnn, one) = found
    assert float(one) == 1
    assert 0 < float(dnn) < 1000
    assert abs(float(ratio) - float(dnn) / float(cnn)) < 0.1

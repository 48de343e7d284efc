"""The commands in a block of shell, and whether what each names exists."""

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec

import click

from keras_serving.main import cli
from tests.docs.pages import ROOT

_MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
_FOLDERS = "benchmarks|deploy|docs|loadtests|models|requirements|training"


def commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command, without assignments before it."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;()"):
                while words and re.fullmatch(r"\w+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def faults(text: str) -> list[str]:
    """What a block of shell names that does not exist."""
    found = [fault for words in commands(text) for fault in _faults(words)]
    paths = re.findall(rf"(?<![\w./-])(?:{_FOLDERS})/[\w./-]+\w", text)
    return found + [f"there is no {path}" for path in paths if not (ROOT / path).exists()]


def _faults(words: list[str]) -> Iterator[str]:
    program = words[0].removeprefix(".venv/bin/")
    if program == "keras-serving":
        yield from _of_ours(words[1:])
    elif program == "make":
        for word in words[1:]:
            if "=" not in word and not word.startswith("-") and not _is_target(word):
                yield f"no target {word}"
    elif program.startswith("python") and words[1:2] == ["-m"] and find_spec(words[2]) is None:
        yield f"no module {words[2]}"


def _is_target(word: str) -> bool:
    return re.search(rf"^{re.escape(word)}:", _MAKEFILE, re.MULTILINE) is not None


def _of_ours(words: list[str]) -> Iterator[str]:
    """Faults of the arguments of `keras-serving`: an unknown command or option."""
    command: click.Command = cli
    with click.Context(cli) as context:
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            inner = command.get_command(context, words[0])
            if inner is None:
                yield f"no command {words[0]}"
                return
            command, words = inner, words[1:]
        known = {name for option in command.get_params(context) for name in option.opts}
    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in known and not re.fullmatch(r"-\d+", word):
            yield f"{command.name} has no {word}"

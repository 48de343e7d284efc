"""docs/reference/cli.md."""

from collections.abc import Iterator

import click

from docs.generate.markdown import heading, prose, table
from keras_serving.main import cli

_INTRODUCTION = """
`keras-serving COMMAND --help` says the same. Exit status: 0 done, 1 failed, 2 used wrongly, 130 interrupted; either
failure is one line on standard error that names what is wrong and the remedy. Commands that train or look at data
need what `make install-train` installs.

`SERVING_HOME` is the store that every command works on, `DATA_DIR` the folder of known data sets.
"""


def page() -> str:
    """The page's text."""
    with click.Context(cli, info_name="keras-serving") as context:
        before = "\nBefore the command:\n" + _options(context)
        return heading("Command line", _INTRODUCTION) + before + "".join(_sections(context, cli))


def _sections(context: click.Context, group: click.Group) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name) or click.Command(name)
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _sections(inner, command)
        else:
            yield _section(inner)


def _section(context: click.Context) -> str:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    text = f"\n## {context.command_path}\n\n```\n{context.command_path} {usage}\n```\n\n{_paragraphs(command.help)}\n"
    return text + _options(context)


def _options(context: click.Context) -> str:
    rows = []
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None and not parameter.is_eager:
            rows.append([f"`{_words(record[0])}`", prose(record[1])])
    return "\n" + table(["option", "meaning"], rows) if rows else ""


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(prose(part) for part in (text or "").replace("\b\n", "").split("\n\n"))


def _words(option: str) -> str:
    return (
        option.replace("INTEGER RANGE", "N").replace("INTEGER", "N").replace("FLOAT RANGE", "X").replace("FLOAT", "X")
    )

"""The `keras-serving` command: arguments only; the rooms do the work."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from models.errors import InputError, ServingError, UnknownModelError
from service.settings import SettingsError

# Command -> module and attribute. Imported when it is called: `serve` is up a quarter of a second sooner for it.
_COMMANDS = {
    "serve": ("keras_serving.serve_command", "serve"),
    "train": ("keras_serving.train_command", "train"),
    "retrain": ("keras_serving.retrain_command", "retrain"),
    "analyse": ("keras_serving.analyse_command", "analyse"),
    "compare": ("keras_serving.compare_command", "compare"),
    "predict": ("keras_serving.predict_command", "predict"),
    "captured": ("keras_serving.captured_command", "captured"),
    "models": ("keras_serving.models_commands", "models_group"),
}

_OURS = {"keras_serving", "models", "service", "training"}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            # Click looks for what was meant among the commands that are imported already: none.
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=_COMMANDS, ctx=ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="keras-serving")
@click.option(
    "--store", metavar="URL", help="A store that a fleet shares: s3://BUCKET/PREFIX.  [default: SERVING_STORE]"
)
def cli(store: str | None) -> None:
    """Train Keras models, serve them in about a millisecond, and switch versions without dropping a request."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 used wrongly; either failure says so in one line."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    try:
        result: Any = cli.main(args=arguments, prog_name="keras-serving", standalone_mode=False)
    except click.exceptions.Abort:
        return _say("interrupted", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "keras-serving"
        message = error.format_message()
        stop = "" if message.endswith((".", "?", ")")) else "."
        return _say(f"{message}{stop} See {command} --help.", 2)
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code)
    except (UnknownModelError, SettingsError, InputError) as error:
        return _say(str(error), 2)
    except ServingError as error:
        return _say(str(error), 1)
    except ModuleNotFoundError as error:
        # Serving alone needs none of what training does. One of ours that is missing is a fault, and shows as one.
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS:
            raise
        return _say(f"this needs {missing}, which is not installed. Run make install-train in the repository.", 1)
    except BrokenPipeError:
        # `keras-serving models list | head`: the reader has seen enough.
        sys.stderr.close()
        return 0
    return result if isinstance(result, int) else 0


def _say(message: str, status: int) -> int:
    click.echo(f"keras-serving: {' '.join(message.split())}", err=True)
    return status

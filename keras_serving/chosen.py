"""Settings of a command: the environment's, and what options say."""

import click

from service.settings import Settings


def chosen_settings(**overrides: object) -> Settings:
    """Settings from the environment and from the options of `keras-serving` itself.

    Raises:
        SettingsError: One is wrong.
    """
    context = click.get_current_context(silent=True)
    store = context.find_root().params.get("store") if context else None
    return Settings.load(**({"store": store} if store else {}), **overrides)

"""What can be wrong, by the stage that finds it.

    bytes --decode--> values --task--> rows --engine--> rows --task--> answer
            DecodeError       InputError      EngineError
    bundle on disk --verify--> manifest --engine--> served
                     BundleError        EngineError

Every message says the rule, what was received and the remedy. `service/errors.py` is the one place that maps
these to HTTP status codes.
"""


class ServingError(Exception):
    """Base of every error that this project raises on purpose."""


class ConfigError(ServingError):
    """A choice, or a combination of choices, that cannot be trained. The message is one line and says the remedy."""


class DecodeError(ServingError):
    """Bytes that are not what they claim to be: broken JSON, a truncated picture."""


class InputError(ServingError):
    """A value that can be read but breaks the model's schema.

    Args:
        field: Path of the value, such as ``instances[3].weight``.
        rule: What is required.
        received: What came instead, shortened.
        remedy: What to send.
    """

    def __init__(self, field: str, rule: str, received: str, remedy: str) -> None:
        self.field = field
        self.rule = rule
        self.received = received
        self.remedy = remedy
        super().__init__(f"{field}: {rule}. Received: {received}. {remedy}")


class BundleError(ServingError):
    """A bundle that is incomplete, altered, or of an unknown kind."""


class UnknownModelError(ServingError):
    """A model, version or alias that does not exist; the message lists what does."""


class StoreError(ServingError):
    """The store's volume is full, read-only, or gone."""


class ConflictError(ServingError):
    """A change that the present state forbids, or that another change overtook."""


class OvertakenError(ConflictError):
    """Another change came between reading and writing; to be decided anew on what is there now."""


class EngineError(ServingError):
    """The engine could not be opened, failed on these rows, or answered with a non-finite number."""


def shorten(value: object, limit: int = 60) -> str:
    """``repr(value)`` cut to ``limit`` characters, so that no error echoes a whole payload; null as JSON has it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    # A huge list or string is cut before repr, not after: repr of 10 MB takes longer than the request.
    if isinstance(value, str | bytes) and len(value) > limit:
        value = value[:limit]
    elif isinstance(value, list | tuple) and len(value) > 8:
        return f"a list of {len(value)} values"
    elif isinstance(value, dict) and len(value) > 8:
        return f"an object of {len(value)} members"
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"

"""How log records are written: one line of JSON each, or text for people. No record can forge another one.

Names and headers come from outside and may hold line breaks or a terminal's control sequences. JSON escapes them; the
text form escapes control characters too, and the lines of a traceback are indented behind a bar.
"""

import json
import logging
import re
import time
from typing import Any

# C0 with escape, delete, C1, and the separators that some programs take for ends of lines.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
FIELDS = "fields"
"""Attribute of a record, given as ``extra``, with what JSON shows as members of their own."""


def escape(text: str) -> str:
    """``text`` with control characters written as escapes."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the record's own fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of ``record``."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, logger, message and fields on one line; a traceback below it, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines of ``record``."""
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, FIELDS, {}).items())
        message = escape(f"{record.getMessage()} {fields}".rstrip())
        lines = [f"{_time(record)} [{record.levelname}] [{record.process}:{record.name}] {message}"]
        if record.exc_info:
            lines += [f"  | {escape(line)}" for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(lines)


def _time(record: logging.LogRecord) -> str:
    """UTC, with milliseconds."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def configure_logging(level: str, form: str) -> None:
    """Let our loggers write where BentoML's do, which alone have a handler, and all of them in ``form``.

    Args:
        level: Least severe level that is logged.
        form: ``json`` or ``text``.
    """
    handlers = logging.getLogger("bentoml").handlers
    formatter = JsonFormatter() if form == "json" else TextFormatter()
    for handler in (*handlers, *logging.getLogger().handlers):
        handler.setFormatter(formatter)
    for name in ("service", "models"):
        logger = logging.getLogger(name)
        logger.handlers = handlers
        logger.propagate = False
        logger.setLevel(level)
    # It warns of each malformed form, which the client is told already.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)

"""How the daemon and the tools write their log: one line an event, to stderr."""

from __future__ import annotations

import logging
import os
import sys

import structlog

from stillframe.errors import ConfigError, closest

LEVEL_VARIABLE = "STILLFRAME_LOG"
LEVELS = ("debug", "info", "warning", "error")


def open_log(name: str = "stillframe") -> logging.Logger:
    """A logger of the standard library, with structlog's lines: coloured on a terminal, JSON elsewhere.

    Raises ConfigError for a level that is none.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=_processors(terminal=sys.stderr.isatty())))
    root = logging.getLogger()
    root.setLevel(_level(os.environ.get(LEVEL_VARIABLE, "info")))
    root.handlers = [handler]
    for chatty in ("httpx", "httpcore", "PIL", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It warns of each connection whose first bytes are no request: anybody could fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    return logging.getLogger(name)


def _processors(*, terminal: bool) -> list[structlog.types.Processor]:
    """Level, time, text, traceback."""
    people = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    machines = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *(people if terminal else machines),
    ]


def _level(name: str) -> str:
    if name.lower() not in LEVELS:
        raise ConfigError(f"{LEVEL_VARIABLE} is {name!r}; expected one of {', '.join(LEVELS)}.{closest(name, LEVELS)}")
    return name.upper()

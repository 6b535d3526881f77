"""How the daemon and the tools write their log: one line an event, to stderr."""

from __future__ import annotations

import logging
import os
import sys

import structlog

LEVEL_VARIABLE = "STILLFRAME_LOG"  # debug, info, warning, error


def open_log(name: str = "stillframe") -> logging.Logger:
    """A logger of the standard library, with structlog's lines: coloured on a terminal, JSON elsewhere."""
    terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(os.environ.get(LEVEL_VARIABLE, "info").upper())
    for chatty in ("uvicorn", "httpx", "httpcore", "PIL", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return logging.getLogger(name)

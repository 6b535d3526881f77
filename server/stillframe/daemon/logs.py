"""How the daemon and the tools write their log: one line an event, to stderr.

Knows formats, levels and a file descriptor; nothing of what is logged.

A daemon's lines hold up nothing: a bounded queue, and a thread that writes what is in it as fast as it is read. The
engine's thread logs: were it to wait for a pipe that is not read, a robot would. A line is made where it is logged, so
that the queue holds text and no pictures. The thread writes past Python's own buffers and logging's locks: whoever
blocks in them would have the interpreter wait at its end.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import logging.handlers
import os
import queue
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import TextIO

import structlog

from stillframe.errors import ConfigError, closest

LEVEL_VARIABLE = "STILLFRAME_LOG"
QUEUE_LINES = 2048  # that wait to be written
CLOSE_TIMEOUT_S = 2.0  # that the end of the process waits for them
REPEAT_AFTER_S = 60.0  # after which failures that are alike are told whole again
MAX_FAILURE_KINDS = 256  # of failures that are told apart
MAX_TRACEBACK_CHARS = 16_384  # characters of a traceback
LEVELS = ("debug", "info", "warning", "error")

Kind = tuple[object, ...]


def open_log(name: str = "stillframe", *, background: bool = False) -> logging.Logger:
    """A logger of the standard library, with structlog's lines: coloured on a terminal, JSON elsewhere.

    `background`: a thread of its own writes them, so that nothing ever waits for whoever reads standard error, and
    failures that are alike are told whole once a minute. Raises ConfigError for a level that is none.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    handler: logging.Handler = logging.NullHandler() if sys.stderr is None else logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=_processors(terminal=terminal)))
    root = logging.getLogger()
    root.setLevel(_level(os.environ.get(LEVEL_VARIABLE, "info")))
    root.handlers = [handler]
    if background:
        write_in_background()
    for chatty in ("httpx", "httpcore", "PIL", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It warns of each connection whose first bytes are no request: anybody could fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    return logging.getLogger(name)


def write_in_background() -> None:
    """From now on, lines of the log that `open_log` opened are written by a thread of its own."""
    root = logging.getLogger()
    root.handlers = [
        BackgroundHandler(handler) if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter) else handler
        for handler in root.handlers
    ]


def lines_lost() -> int:
    """How many lines of the log found no room since it was opened: whoever reads them is too slow, or does not."""
    return sum(handler.lost for handler in logging.getLogger().handlers if isinstance(handler, BackgroundHandler))


def _processors(*, terminal: bool) -> list[structlog.types.Processor]:
    """Level, time, text, traceback."""
    people = [structlog.dev.ConsoleRenderer(exception_formatter=_write_traceback)]
    machines = [structlog.processors.ExceptionRenderer(_traceback_text), structlog.processors.JSONRenderer()]
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *(people if terminal else machines),
    ]


def _write_traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """Lay a traceback out for people."""
    out.write("\n" + _traceback_text(exc_info))


def _traceback_text(exc_info: structlog.typing.ExcInfo) -> str:
    """A traceback, of a length that a log can bear: its beginning and its end."""
    text = "".join(traceback.format_exception(*exc_info)).rstrip("\n")
    if len(text) <= MAX_TRACEBACK_CHARS:
        return text
    left_out = f"\n... {len(text) - MAX_TRACEBACK_CHARS} characters ...\n"
    return text[: MAX_TRACEBACK_CHARS // 4] + left_out + text[-3 * MAX_TRACEBACK_CHARS // 4 :]


def _level(name: str) -> str:
    if name.lower() not in LEVELS:
        raise ConfigError(f"{LEVEL_VARIABLE} is {name!r}; expected one of {', '.join(LEVELS)}.{closest(name, LEVELS)}")
    return name.upper()


class BackgroundHandler(logging.handlers.QueueHandler):
    """Takes lines from any thread and never waits. `lost` counts those that found no room, or could not be written."""

    def __init__(self, formats: logging.Handler, clock: Callable[[], float] = time.monotonic):
        """`formats` says how a line looks, and where it goes if standard error has no file descriptor."""
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        super().__init__(self._lines)
        self.lost = 0
        self._told = 0  # of the lost
        self._formats = formats
        self._write = _writer()
        self._failures = FailureDeduplicator(clock)
        self._written = threading.Event()  # the thread is through
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Make the line, and queue it; count it where there is no room."""
        try:
            self._lines.put_nowait(self._formats.format(self._failures.shortened(record)) + "\n")
        except queue.Full:
            self.lost += 1
        except Exception:  # noqa: BLE001 (as logging has it: what cannot be logged is nothing to fail by)
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """A line that cannot be made is lost: to say so on standard error might block."""
        del record
        self.lost += 1

    def close(self) -> None:
        """Have what is queued written, for LAST_WORDS_S and no longer."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=CLOSE_TIMEOUT_S / 2)
        self._written.wait(CLOSE_TIMEOUT_S / 2)
        super().close()

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._out(line)
            self._tell_losses()
        self._written.set()

    def _out(self, line: str) -> None:
        try:
            self._write(line)
        except Exception:  # noqa: BLE001 (a pipe that is closed, a disk that is full: the daemon goes on)
            self.lost += 1

    def _tell_losses(self) -> None:
        """There is room again: say how many lines are missing."""
        lost, self._told = self.lost - self._told, self.lost
        if lost:
            text = "%d lines of the log were lost: whoever reads it was too slow"
            record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (lost,), None)
            with contextlib.suppress(Exception):
                self._write(self._formats.format(record) + "\n")


class FailureDeduplicator:
    """Failures that are alike: one is told whole, those that follow within AGAIN_S in a line."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._kinds: OrderedDict[Kind, tuple[float, int]] = OrderedDict()  # kind -> told whole when; how many since
        self._lock = threading.Lock()

    def shortened(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record, without its traceback where one that is alike was told just now."""
        if not record.exc_info or record.exc_info[1] is None:
            return record
        since = self._count((record.name, record.msg, *_failure_kind(record.exc_info[1])))
        if since == 0:
            return record
        short, error = copy.copy(record), record.exc_info[1]
        short.msg = f"{record.getMessage()}: {type(error).__name__}: {str(error)[:200]} (as before, {since} times)"
        short.args, short.exc_info, short.exc_text = (), None, None
        return short

    def _count(self, kind: Kind) -> int:
        """How many there were since one was told whole; 0: this one is to be."""
        with self._lock:
            told_s, since = self._kinds.pop(kind, (-REPEAT_AFTER_S, -1))
            now_s = self._clock()
            known = since >= 0 and now_s - told_s < REPEAT_AFTER_S
            self._kinds[kind] = (told_s, since + 1) if known else (now_s, 0)
            while len(self._kinds) > MAX_FAILURE_KINDS:
                self._kinds.popitem(last=False)
            return self._kinds[kind][1]


def _failure_kind(error: BaseException) -> Kind:
    """What it is, and where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (type(error), *((trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else ()))


def _writer() -> Callable[[str], object]:
    """What writes a line to standard error, past its buffer where it has a descriptor."""
    stream = sys.stderr
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return (lambda _: None) if stream is None else stream.write
    return lambda line: _write_all(descriptor, line.encode(errors="backslashreplace"))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]

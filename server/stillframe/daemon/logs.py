"""Logging of the daemon and the tools: one line an event, to stderr.

Knows formats, levels and a file descriptor; nothing of what is logged.

A daemon never waits for its log: records go through a bounded queue to a writer thread. The engine's thread logs, and a
full pipe must not delay a robot. Records are formatted where they are logged, so that the queue holds text and no
pictures. The writer bypasses Python's buffers and logging's locks: blocked in them, it would hang the exit.
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
QUEUE_LINES = 2048  # in the queue of the writer thread
CLOSE_TIMEOUT_S = 2.0  # for the writer to empty its queue at exit
REPEAT_AFTER_S = 60.0  # after which the traceback of a repeated failure is logged again
MAX_FAILURE_KINDS = 256  # kinds of failure remembered for that
MAX_TRACEBACK_CHARS = 16_384  # characters of a traceback
SUMMARY = "summary"  # of a record, given as `extra`: facts by name, below its line or a member of its object
LEVELS = ("debug", "info", "warning", "error")

Kind = tuple[object, ...]


def open_log(name: str = "stillframe", *, background: bool = False) -> logging.Logger:
    """A standard library logger with structlog's formats: coloured on a terminal, JSON elsewhere.

    `background`: a thread writes the lines, so that logging never blocks on standard error, and repeated failures
    have a traceback once a minute only. Raises ConfigError for an unknown level.
    """
    terminal = sys.stderr is not None and sys.stderr.isatty()
    handler: logging.Handler = logging.NullHandler() if sys.stderr is None else logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=_processors(terminal=terminal)))
    root = logging.getLogger()
    root.setLevel(_level(os.environ.get(LEVEL_VARIABLE, "info")))
    root.handlers = [handler]
    if background:
        write_in_background()
    for chatty in ("httpx", "httpcore", "httpx2", "httpcore2", "PIL", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It warns of each connection that opens with no valid request: any client could fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    return logging.getLogger(name)


def write_in_background() -> None:
    """From now on, a background thread writes the log that `open_log` opened."""
    root = logging.getLogger()
    root.handlers = [
        BackgroundHandler(handler) if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter) else handler
        for handler in root.handlers
    ]


def lines_lost() -> int:
    """Log lines dropped since the log was opened, because standard error was read too slowly or not at all."""
    return sum(handler.lost for handler in logging.getLogger().handlers if isinstance(handler, BackgroundHandler))


def _processors(*, terminal: bool) -> list[structlog.types.Processor]:
    """Level, time, text, traceback."""
    people = [structlog.dev.ConsoleRenderer(exception_formatter=_write_traceback)]
    machines = [structlog.processors.ExceptionRenderer(_traceback_text), structlog.processors.JSONRenderer()]
    return [
        _SummaryProcessor(terminal=terminal),
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *(people if terminal else machines),
    ]


class _SummaryProcessor:
    """Adds a record's summary: on a terminal a line for each fact, elsewhere a member."""

    def __init__(self, *, terminal: bool):
        self._terminal = terminal

    def __call__(self, _: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        facts = getattr(event["_record"], SUMMARY, None)
        if facts is None:
            return event
        if not self._terminal:
            return {**event, SUMMARY: facts}
        width = max(map(len, facts))
        lines = (f"  {name:{width}}  {fact}" for name, fact in facts.items())
        return {**event, "event": "\n".join([event["event"], *lines])}


def _write_traceback(out: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    """Write a traceback on a terminal."""
    out.write("\n" + _traceback_text(exc_info))


def _traceback_text(exc_info: structlog.typing.ExcInfo) -> str:
    """A traceback; of a very long one its beginning and its end."""
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
    """Queues lines from any thread and never blocks. `lost` counts lines dropped: queue full, or not writable."""

    def __init__(self, formats: logging.Handler, clock: Callable[[], float] = time.monotonic):
        """`formats`: the handler whose format is used."""
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        super().__init__(self._lines)
        self.lost = 0
        self._reported = 0  # of the lost
        self._formats = formats
        self._write = _writer()
        self._failures = FailureDeduplicator(clock)
        self._written = threading.Event()  # set when the thread ends
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format the line and queue it; count it as lost if the queue is full."""
        try:
            self._lines.put_nowait(self._formats.format(self._failures.shortened(record)) + "\n")
        except queue.Full:
            self.lost += 1
        except Exception:  # noqa: BLE001 (as in logging: a record that cannot be formatted must not raise)
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Count a line that cannot be formatted as lost: printing the error might block."""
        del record
        self.lost += 1

    def close(self) -> None:
        """Write what is queued, for CLOSE_TIMEOUT_S at most."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=CLOSE_TIMEOUT_S / 2)
        self._written.wait(CLOSE_TIMEOUT_S / 2)
        super().close()

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._out(line)
            self._report_losses()
        self._written.set()

    def _out(self, line: str) -> None:
        try:
            self._write(line)
        except Exception:  # noqa: BLE001 (a closed pipe or a full disk must not stop the daemon)
            self.lost += 1

    def _report_losses(self) -> None:
        """Log how many lines were lost, once lines can be written again."""
        lost, self._reported = self.lost - self._reported, self.lost
        if lost:
            text = "%d lines of the log were lost: standard error was read too slowly"
            record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (lost,), None)
            with contextlib.suppress(Exception):
                self._write(self._formats.format(record) + "\n")


class FailureDeduplicator:
    """Shortens repeated failures: the first has its traceback, those within REPEAT_AFTER_S one line."""

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._kinds: OrderedDict[Kind, tuple[float, int]] = OrderedDict()  # -> last traceback, how many since
        self._lock = threading.Lock()

    def shortened(self, record: logging.LogRecord) -> logging.LogRecord:
        """The record, without its traceback if one of the same kind was logged just now."""
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
        """How many of this kind came since its last traceback; 0: log this one's."""
        with self._lock:
            logged_s, since = self._kinds.pop(kind, (-REPEAT_AFTER_S, -1))
            now_s = self._clock()
            known = since >= 0 and now_s - logged_s < REPEAT_AFTER_S
            self._kinds[kind] = (logged_s, since + 1) if known else (now_s, 0)
            while len(self._kinds) > MAX_FAILURE_KINDS:
                self._kinds.popitem(last=False)
            return self._kinds[kind][1]


def _failure_kind(error: BaseException) -> Kind:
    """Its type, and the file and line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return (type(error), *((trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else ()))


def _writer() -> Callable[[str], object]:
    """A function that writes a line to standard error, unbuffered if it has a file descriptor."""
    stream = sys.stderr
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return (lambda _: None) if stream is None else stream.write
    return lambda line: _write_all(descriptor, line.encode(errors="backslashreplace"))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]

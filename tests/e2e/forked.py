"""Daemons as forks of one process that has imported torch for all of them: `stillframe serve`, but for those seconds.

Knows no fixture. The process is Python's own fork server, and has no thread. For tests of what a daemon answers; those
of how one starts run the program itself.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from stillframe_client import PolicyClient, PolicyError

SLOW_IMPORTS = ["stillframe.daemon.serve"]
READY_S, STOP_S = 120.0, 60.0
COMMAND = Path("stillframe")  # the program itself, wherever it is installed


class Forked:
    """What is used of a subprocess.Popen, of a fork: it runs a program's file as the main one, with its words."""

    def __init__(
        self, program: Path, *words: str, environment: Mapping[str, str] | None = None, log: Path | None = None
    ):
        """`environment`: what is other than here; `log`: where its standard error goes on, None: where ours goes."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(SLOW_IMPORTS)
        order = {"ORDER": (str(program), words, dict(environment or {}), None if log is None else str(log))}
        self._process = context.Process(target=runpy.run_path, args=(__file__, order, "__main__"), daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """How it ended; None: it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """How it ended. Raises TimeoutExpired."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0.0)
        return self._process.exitcode

    def kill(self) -> None:
        """End it, whatever state it is in."""
        self._process.kill()

    def send_signal(self, number: signal.Signals) -> None:
        """As `kill` of the shell does; nothing where it has ended."""
        if self._process.exitcode is None and self._process.pid is not None:
            os.kill(self._process.pid, number)


@contextmanager
def daemon(arguments: Sequence[str], port: int) -> Iterator[str]:
    """Run `stillframe serve ARGUMENTS` on a port, and yield its URL once it is ready; stop it then."""
    words = ("serve", *arguments, "--host", "127.0.0.1", "--port", str(port))
    process = Forked(COMMAND, *words, environment={"STILLFRAME_LOG_LEVEL": "warning"})
    url = f"http://127.0.0.1:{port}"
    try:
        with PolicyClient(url, timeout_s=READY_S) as client:
            give_up_s, ready = time.monotonic() + READY_S, False
            while not ready:
                assert process.poll() is None, f"it ended with status {process.poll()}; its message is above"
                assert time.monotonic() < give_up_s, f"the daemon was not ready after {READY_S:g} s"
                with suppress(PolicyError):
                    client.wait_ready(1.0)
                    ready = True
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        finally:
            process.kill()


def run(program: str, words: Sequence[str], environment: Mapping[str, str], log: str | None) -> None:
    """Be the program. Its log is written in the end, which a fork does not see to as a program does."""
    if log is not None:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.environ.update(environment)
    sys.argv[:] = [program, *words]
    try:
        if program == str(COMMAND):
            from stillframe.cli import main

            main()
        else:
            runpy.run_path(program, run_name="__main__")
    finally:
        logging.shutdown()


if __name__ == "__main__":
    run(*globals()["ORDER"])

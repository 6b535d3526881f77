"""Starts the streamer as a process of its own, and speaks to it.

Knows no policy. The streamer needs nothing from here to stop the arm: this is how the bridge asks it to.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, List, Optional

from stillframe_client.jaco2 import link
from stillframe_client.jaco2.config import as_document
from stillframe_client.jaco2.core.watchdog import State

if TYPE_CHECKING:
    from pathlib import Path

    from stillframe_client.jaco2.settings import BridgeSettings

START_S = 20.0
END_S = 5.0
MOST_REASONS = 100  # that are kept
PROGRAM = ("-m", "stillframe_client.jaco2.streamer")
SETTINGS, TICKS, ERRORS = "settings.json", "ticks.jsonl", "streamer.txt"


class StreamerFailed(Exception):
    """The streamer did not start, or has ended; the text is what it said."""


class StreamerProcess:
    """A streamer and the newest that it said."""

    def __init__(self, settings: BridgeSettings, folder: Path, *, dry: bool):
        """Start it; `folder` gets its settings, its tick log and what it writes to stderr."""
        self._errors = folder / ERRORS
        (folder / SETTINGS).write_text(json.dumps(as_document(settings), indent=1), encoding="utf-8")
        ours, theirs = link.pair()
        self.link = link.BridgeEnd(ours)
        self.status: Optional[link.Status] = None
        self.reasons: List[str] = []  # that it gave, each once, in order
        command = [sys.executable, *PROGRAM, str(theirs.fileno())]
        files = [str(folder / SETTINGS), str(folder / TICKS), *(["dry"] if dry else [])]
        with theirs, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603 -- this interpreter, our module
                [*command, *files], pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stderr=errors
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> Optional[link.Status]:
        """Take what it said; return the newest status there is. Raises StreamerFailed where it has ended."""
        for said in self.link.statuses():  # a reason may be said once
            self.status = said
            if said.reason and (not self.reasons or self.reasons[-1] != said.reason):
                self.reasons.append(said.reason)
        del self.reasons[:-MOST_REASONS]
        if self.link.is_closed:
            raise StreamerFailed(f"the streamer has ended: {self._last_words()}")
        return self.status

    def wait(self, *states: State, timeout_s: float = START_S, at_rest: bool = False) -> bool:
        """Wait, with heartbeats, for one of the states (none given: any); False: it took too long."""
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            self.link.heartbeat()
            status = self.poll()
            if status is not None and (not states or status.state in states) and (status.at_rest or not at_rest):
                return True
            time.sleep(0.01)
        return False

    def close(self) -> None:
        """Hang up: it stops the arm and ends; what has not ended by then is killed, and the arm's queue runs empty."""
        self.link.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        lines = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"see {self._errors.parent / TICKS}"

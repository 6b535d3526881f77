"""The streamer as the process that it is, with a bridge in the test's own process or in one that can be killed.

The arm is the sim. Every test ends with the log: what was sent last, and whether the arm was told to stop.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from stillframe_client.jaco2 import link
from stillframe_client.jaco2.config import as_document
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.link import BridgeEnd
from stillframe_client.jaco2.settings import BridgeSettings, LimitSettings

WAIT_S = 60  # for a machine that is busy
SPEED_M_S = 0.05
# What a bridge of its own process runs: this file's Drive, which prints each state as it changes.
PEER = f"""
import importlib.util, socket, sys
spec = importlib.util.spec_from_file_location("drive", {__file__!r})
module = sys.modules["drive"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
end = module.BridgeEnd(socket.socket(fileno=int(sys.argv[1])))
module.Drive(end, lambda state: print(state, flush=True)).run()
"""


class Drive:
    """A bridge that arms, moves back and forth, and arms again where a fault was the machine's."""

    def __init__(self, end, on_state):
        self._end, self._on_state = end, on_state
        self._state, self._ticks = None, 0
        self.is_on = True

    def pass_once(self):
        """Ten milliseconds of a bridge."""
        self._end.heartbeat()
        said = self._end.newest()
        if said is not None:
            if said.state is not self._state:
                self._state = said.state
                self._on_state(said.state.value)
            if said.at_rest and said.state in (State.DISARMED, State.FAULT):
                self._end.order("arm" if said.state is State.DISARMED else "clear")
        if self._ticks % 10 == 0:
            way = SPEED_M_S * 0.1 * (1 if self._ticks // 200 % 2 else -1)
            self._end.step([way, 0, 0, 0, 0, 0], 1.0, 0.1, link.now_s() + 0.25)
        self._ticks += 1

    def run(self):
        """Until it is off, or the streamer has ended."""
        while self.is_on and not self._end.is_closed:
            self.pass_once()
            time.sleep(0.01)


class Log:
    """A tick log, read."""

    def __init__(self, file):
        head, *self.ticks = (json.loads(line) for line in file.read_text("utf-8").splitlines())
        self.settings = head["settings"]

    def stops_within(self, begin_s):
        """Ticks from the first at or after this time to the one that calls stop. Fails where there is none."""
        after = [tick for tick in self.ticks if tick["t"] >= begin_s]
        return next(k for k, tick in enumerate(after) if "stop" in tick.get("calls", [])) + 1

    def ends_well(self):
        """Moved, came to rest, sent zeros for 0.3 s, called stop as the last thing, and sent nothing after it."""
        sent = [tick for tick in self.ticks if "sent" in tick]
        moving = [tick for tick in sent if any(tick["sent"][:6])]
        stops = [tick for tick in self.ticks if "stop" in tick.get("calls", [])]
        quiet = [tick for tick in sent if tick["t"] > moving[-1]["t"]]
        assert quiet[-1] is sent[-1]
        assert stops[-1]["t"] - quiet[0]["t"] >= 0.3 - 1e-9
        assert stops[-1]["t"] > sent[-1]["t"]
        return True


class Started:
    """A streamer process, and the bridge that drives it."""

    def __init__(self, folder, *, peer):
        settings = replace(BridgeSettings(), limits=LimitSettings(speed=1.0, linear_m_s=0.2))
        (folder / "settings.json").write_text(json.dumps(as_document(settings)), "utf-8")
        self._file = folder / "ticks.jsonl"
        ours, theirs = link.pair()
        paths = [str(folder / "settings.json"), str(self._file)]
        self.process = self._start(["-m", "stillframe_client.jaco2.streamer", str(theirs.fileno()), *paths], theirs)
        theirs.close()
        self.end = self.drive = self.peer = None
        self._running = threading.Event()
        if peer:
            self.peer = self._start(["-c", PEER, str(ours.fileno())], ours, stdout=subprocess.PIPE, text=True)
            ours.close()
            self._thread = threading.Thread(target=self._listen)
        else:
            self.end = BridgeEnd(ours)
            self.drive = Drive(self.end, self._note)
            self._thread = threading.Thread(target=self.drive.run)
        self._thread.start()

    def _start(self, command, end, **options):
        return subprocess.Popen([sys.executable, *command], pass_fds=(end.fileno(),), **options)

    def _listen(self):
        for line in self.peer.stdout:
            self._note(line.strip())

    def _note(self, state):
        (self._running.set if state == "RUNNING" else self._running.clear)()

    def until_running(self):
        """Wait until the arm moves, and a little more."""
        until_s = time.monotonic() + WAIT_S
        while time.monotonic() < until_s:
            assert self._running.wait(WAIT_S), "the streamer does not run"
            time.sleep(0.4)
            if self._running.is_set():
                return
        raise AssertionError("the streamer does not stay running")

    def hang_up(self):
        """The bridge ends, in order; returns when."""
        self.drive.is_on = False
        self._thread.join(WAIT_S)
        at_s = time.monotonic()
        self.end.close()
        return at_s

    def signal(self, number, process=None):
        """Send a signal, to the streamer unless told otherwise; returns when."""
        at_s = time.monotonic()
        os.kill((process or self.process).pid, number)
        return at_s

    def log(self):
        """Wait for the end; the log."""
        assert self.process.wait(WAIT_S) == 0
        return Log(self._file)

    def close(self):
        """End what has not ended."""
        for process in filter(None, (self.peer, self.process)):
            if process.poll() is None:
                for number in (signal.SIGCONT, signal.SIGKILL):
                    process.send_signal(number)
                process.wait(WAIT_S)
        if self.drive is not None:
            self.drive.is_on = False
        self._thread.join(WAIT_S)
        if self.peer is not None:
            self.peer.stdout.close()
        if self.end is not None:
            self.end.close()


@pytest.fixture
def started(tmp_path):
    """Start streamers: `started(peer=True)` with a bridge of its own process. Each ends with the test."""
    made = []

    def start(*, peer=False):
        made.append(Started(tmp_path, peer=peer))
        return made[-1]

    yield start
    for each in made:
        each.close()

"""A bridge in processes of its own: daemon, proxy, bridge, streamer; and what its tick log says of a fault.

Knows no fault. All processes of a machine share time.monotonic, so a fault here and a tick there are of one clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_kit.matrix import settings
from fault_kit.policy import MovingPolicy
from fault_kit.proxy import Proxy
from fault_kit.switches import Switches

from stillframe.testing import running
from stillframe_client.jaco2.bridge.streamer_process import TICKS
from stillframe_client.jaco2.config import as_document

KIT = Path(__file__).parent
LOOK_S, WAIT_S = 0.02, 60.0
MOVES_S = 0.7  # before a fault
ZERO = [0.0] * 6


@dataclass
class Bridge:
    """One run, its parts, and where it writes."""

    folder: Path
    policy: MovingPolicy
    proxy: Proxy
    switches: Switches
    process: subprocess.Popen[bytes]
    terminal: int  # our end of the process's
    daemon: subprocess.Popen[bytes] | None = None  # None: in this process

    @property
    def ticks(self) -> Path:
        """The tick log; it is there when the run has begun."""
        return next(iter(self.folder.glob(f"runs/*/{TICKS}")), self.folder / "not yet")

    def lines(self) -> list[dict[str, Any]]:
        """The ticks so far; a line that is half written is left out."""
        if not self.ticks.exists():
            return []
        whole = self.ticks.read_text().split("\n")[:-1]
        return [json.loads(line) for line in whole[1:]]

    def streamer_pid(self) -> int:
        """Of its streamer."""
        return int(json.loads(self.ticks.read_text().split("\n", 1)[0])["pid"])

    def until(self, state: str, since_s: float = 0.0, wait_s: float = WAIT_S) -> bool:
        """Wait until a tick since then is of this state; False: it took too long, or the bridge has ended."""
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s:
            if any(line["state"] == state and line["t"] >= since_s for line in self.lines()[-400:]):
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(LOOK_S)
        return False

    def end(self, how: int = signal.SIGINT, wait_s: float = WAIT_S) -> int:
        """End it; return its exit status."""
        if self.process.poll() is None and how:
            self.process.send_signal(how)
        return self.process.wait(wait_s)

    def hang_up(self) -> None:
        """Close its terminal."""
        if self.terminal >= 0:
            os.close(self.terminal)
        self.terminal = -1

    @property
    def said(self) -> str:
        """All that it said."""
        return (self.folder / "said.txt").read_text(errors="replace")


@contextlib.contextmanager
def bridge(folder: Path, mode: str, *, checkpoint: Path | None = None, namespace: bool = False) -> Iterator[Bridge]:
    """A bridge whose arm moves. `checkpoint`: the daemon is a process of its own that serves it."""
    with contextlib.ExitStack() as stack:
        policy, daemon = MovingPolicy(), None
        if checkpoint is None:
            port = int(stack.enter_context(running(policy)).rsplit(":", 1)[1])
        else:
            from stillframe.tools.local_daemon import started

            options = ["--checkpoint", str(checkpoint), "--device", "cpu", "--dtype", "float32", "--threads", "1"]
            serving = stack.enter_context(started(options))
            port, daemon = int(serving.url.rsplit(":", 1)[1]), serving.process
        proxy = Proxy(port, folder / "socket" if namespace else None)
        stack.callback(proxy.close)
        (folder / "switches").mkdir()
        made = as_document(settings(mode, url=f"http://127.0.0.1:{proxy.port}"))
        made["cameras"] = {"front": {"kind": "replay", "resize": 0, "fps": 30.0}}
        made["record"]["folder"] = str(folder / "runs")
        made["arm"]["name"] = "sim"
        (folder / "settings.json").write_text(json.dumps(made))
        process, terminal = _start(folder, namespace=namespace)
        stack.callback(_kill, process)
        run = Bridge(folder, policy, proxy, Switches(folder / "switches"), process, terminal, daemon)
        stack.callback(run.hang_up)
        if not run.until("RUNNING"):
            raise AssertionError(f"the arm did not move: {run.said}")
        time.sleep(MOVES_S)
        yield run
        policy.go_on.set()


def _start(folder: Path, *, namespace: bool) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = pty.openpty()
    path = os.pathsep.join([str(KIT.parent), *filter(None, sys.path)])
    module = "fault_kit.namespace" if namespace else "fault_kit.robot"
    command = [sys.executable, "-m", module, str(folder / "settings.json"), str(folder / "switches")]
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            command, stdin=theirs, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": path}
        )
    os.close(theirs)
    return process, ours


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what is left: its streamer ends by itself, as its bridge is gone."""
    if process.poll() is None:
        process.kill()
    process.wait()


@dataclass(frozen=True)
class Came:
    """What the tick log says of one fault, in milliseconds from it."""

    rest_ms: float  # to the first command of rest that no other follows while it lasts
    stop_ms: float | None  # to the arm's stop; None: none
    last_sent_ms: float  # to the last command of any kind
    zeros_ms: float  # how long rest was commanded before the stop, or while it was held
    states: tuple[str, ...]  # each change
    silent_after: bool  # nothing was sent after the stop


def came(lines: list[dict[str, Any]], fault_s: float, until_s: float | None = None) -> Came:
    """Read a log; `until_s`: when the fault passed."""
    after = [line for line in lines if line["t"] >= fault_s]
    lasting = [line for line in after if until_s is None or line["t"] <= until_s]
    stop = next((line for line in lasting if "stop" in line.get("calls", ())), None)
    before_stop = [line for line in lasting if stop is None or line["t"] < stop["t"]]
    moving = [line["t"] for line in before_stop if line.get("sent", ZERO)[:6] != ZERO]
    resting = [line["t"] for line in before_stop if not moving or line["t"] > moving[-1]]
    sent = [line["t"] for line in lines if "sent" in line]
    rest_s = resting[0] if resting else (moving[-1] if moving else fault_s)
    states = [line["state"] for line in after]
    changes = [state for before, state in zip([None, *states], states, strict=False) if state != before]
    zeros = [line["t"] for line in before_stop if line["t"] >= rest_s and "sent" in line]
    return Came(
        rest_ms=1e3 * (rest_s - fault_s),
        stop_ms=None if stop is None else 1e3 * (stop["t"] - fault_s),
        last_sent_ms=1e3 * (sent[-1] - fault_s),
        zeros_ms=1e3 * (zeros[-1] - zeros[0]) if zeros else 0.0,
        states=tuple(changes),
        silent_after=stop is None or not any(line["t"] > stop["t"] and "sent" in line for line in lines),
    )

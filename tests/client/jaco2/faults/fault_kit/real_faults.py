"""Makes each fault with real processes, and measures what follows in milliseconds. Knows no bound."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fault_kit.matrix import BY_NAME, HOLD, LEFT
from fault_kit.processes import KIT, MOVES_S, Bridge, Came, bridge, came

from stillframe import errors

CHECKPOINT = Path(__file__).resolve().parents[5] / "checkpoints" / "jaco-tiny"
PASSES_S = {"lockstep": 3.0, "realtime": 1.2}  # how long a fault lasts that passes, from when it is noticed
AWAY_S, BACK_S, AFTER_S = 0.5, 6.0, 0.3
LOOK_S, WAIT_S = 0.02, 40.0
Change = Callable[[Bridge], None]


def _fails(kind: type[errors.RequestError], code: str) -> Change:
    return lambda run: setattr(run.policy, "fails", lambda: kind(code, "So it is."))


def _switch(name: str) -> Change:
    return lambda run: run.switches.on(name)


def _signal(number: int) -> Change:
    return lambda run: run.process.send_signal(number)


def _streamer(number: int) -> Change:
    return lambda run: os.kill(run.streamer_pid(), number)


def _kill_daemon(run: Bridge) -> None:
    assert run.daemon is not None
    run.daemon.kill()


def _sends(*action: float) -> Change:
    return lambda run: setattr(run.policy, "actions", np.array([action]))


MAKE: Mapping[str, Change] = {
    "answers late": lambda run: setattr(run.policy, "delay_s", 3.0),
    "503: overloaded": _fails(errors.Overloaded, "overloaded"),
    "503: draining": _fails(errors.NotReady, "draining"),
    "connection closed": lambda run: run.proxy.cut(),
    "network silent": lambda run: setattr(run.proxy, "silent", True),
    "superseded": _fails(errors.Conflict, "superseded"),
    "camera's frame stale": _switch("camera stale"),
    "camera frozen": _switch("camera frozen"),
    "camera gone, and back": _switch("camera gone"),
    "network silent for good": lambda run: setattr(run.proxy, "silent", True),
    "network namespace cut": _switch("network"),
    "daemon killed (kill -9)": _kill_daemon,
    "NaN from the policy": _sends(float("nan"), 0, 0, 0, 0, 0, 1.0),
    "an action of 1 m from the policy": _sends(1.0, 0, 0, 0, 0, 0, 1.0),
    "garbage in place of an answer": lambda run: setattr(run.proxy, "spoil", True),
    "camera unusable": _switch("camera unusable"),
    "bridge killed (kill -9)": _signal(signal.SIGKILL),
    "bridge stopped (SIGSTOP)": _signal(signal.SIGSTOP),
    "SIGINT": _signal(signal.SIGINT),
    "SIGTERM": _signal(signal.SIGTERM),
    "SIGHUP": _signal(signal.SIGHUP),
    "SIGQUIT": _signal(signal.SIGQUIT),
    "any key": lambda run: os.write(run.terminal, b"x") and None,
    "terminal closed": lambda run: run.hang_up(),
    "streamer: SIGTERM": _streamer(signal.SIGTERM),
    "streamer stopped (SIGSTOP), and back": _streamer(signal.SIGSTOP),
    "streamer stopped (SIGSTOP) for good": _streamer(signal.SIGSTOP),
    "streamer killed (kill -9)": _streamer(signal.SIGKILL),
    "arm cannot be commanded": _switch("arm dead"),
    "arm's pose stale": _switch("arm mute"),
    "arm's pose jumps": _switch("arm jumps"),
    "arm's pose not finite": _switch("arm nan"),
    "arm blocked": _switch("arm blocked"),
    "the machine's clock steps": _switch("clock"),
}
# Milliseconds until a fault can be noticed that the virtual world notices at once: a picture's age, equal pictures.
NOTICED_MS = {
    "camera's frame stale": 350.0,
    "camera frozen": 1100.0,
    "camera gone, and back": 50.0,
    "camera unusable": 50,
}
PROCESS = ("daemon killed (kill -9)",)  # with a daemon in a process of its own
NAMESPACE = ("network namespace cut",)


@dataclass(frozen=True)
class Followed:
    """What followed one fault."""

    came: Came
    status: int | None  # the bridge's exit status
    said: str


def mend(run: Bridge) -> None:
    """Let all that can pass be over."""
    run.policy.delay_s, run.policy.fails = 0.0, None
    run.proxy.silent = run.proxy.closed = False
    run.switches.off()


def with_processes(name: str, mode: str, folder: Path) -> Followed:
    """Start all, let the arm move, make the fault, see what follows. HOLD faults: see `passing`."""
    checkpoint = CHECKPOINT if name in PROCESS else None
    with bridge(folder, mode, checkpoint=checkpoint, namespace=name in NAMESPACE) as run:
        follows = BY_NAME[name].follows
        if follows in (HOLD, "nothing"):
            return Followed(_passing(run, name, mode), run.end(), run.said)
        fault_s = time.monotonic()
        MAKE[name](run)
        if name == "streamer stopped (SIGSTOP), and back":
            time.sleep(AWAY_S)
            os.kill(run.streamer_pid(), signal.SIGCONT)
        if name == "bridge stopped (SIGSTOP)":
            _until_stopped(run, fault_s)
            run.process.kill()
        status = run.process.wait(WAIT_S)
        if follows != LEFT:
            _until_stopped(run, fault_s)
        time.sleep(AFTER_S)
        return Followed(came(run.lines(), fault_s), status, run.said)


def passing(names: list[str], mode: str, folder: Path) -> dict[str, Followed]:
    """What follows each of several faults that pass, one after the other in one run."""
    with bridge(folder, mode) as run:
        found = {name: _passing(run, name, mode) for name in names}
        status = run.end()
        return {name: Followed(each, status, run.said) for name, each in found.items()}


def _passing(run: Bridge, name: str, mode: str) -> Came:
    fault_s = time.monotonic()
    MAKE[name](run)
    time.sleep(PASSES_S[mode] + NOTICED_MS.get(name, 0.0) / 1e3)
    passed_s = time.monotonic()
    mend(run)
    run.until("RUNNING", passed_s, BACK_S)
    time.sleep(MOVES_S)
    lines = run.lines()
    return came(lines, fault_s, passed_s)


def _until_stopped(run: Bridge, fault_s: float) -> None:
    """Wait until the log says that the arm was stopped."""
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        if any("stop" in line.get("calls", ()) and line["t"] >= fault_s for line in run.lines()):
            return
        time.sleep(LOOK_S)


def no_namespace() -> str:
    """Why no network namespace can be made here; empty: one can."""
    code = "from fault_kit.namespace import enter, loopback; enter(); loopback(up=True); loopback(up=False)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=KIT.parent, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]

"""A real ROS 1: its master, a driver that behaves like the arm's, and the bridge's streamer, each a process.

ROS comes from Debian's packages, unpacked by `make test-ros1` into the folder that STILLFRAME_ROS1 names; the system's
Python runs it. Without them the tests skip.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stillframe_client.jaco2 import link
from stillframe_client.jaco2.link import BridgeEnd, Status

HERE = Path(__file__).parent
CLIENT = HERE.parents[3] / "client"
SYSTEM_PYTHON = "/usr/bin/python3"
MASTER = (
    "import sys; from rosmaster.main import rosmaster_main; rosmaster_main(['rosmaster', '--core', '-p', sys.argv[1]])"
)
SOON_S = 30.0
NAME = "j2n6s300"


def wait_until(holds: Callable[[], Any], process: subprocess.Popen[bytes] | None = None) -> Any:
    """What it gives once that is true; waits for long but not forever, nor for a process that has ended."""
    until = time.monotonic() + SOON_S
    while not (found := holds()):
        assert time.monotonic() < until, "it did not come about"
        assert process is None or process.poll() is None, "the process has ended"
        time.sleep(0.01)
    return found


@dataclass
class Driver:
    """The mock driver's process, and what it saw."""

    log: Path
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.log.touch()
        self.restart()

    def restart(self) -> None:
        """Begin, or begin again."""
        lines = len(self.seen("up"))
        self.process = self.start()
        wait_until(lambda: len(self.seen("up")) > lines, self.process)

    def seen(self, what: str) -> list[dict[str, Any]]:
        """Its lines with that key."""
        lines = self.log.read_text().splitlines(keepends=True)
        return [line for line in (json.loads(text) for text in lines if text.endswith("\n")) if what in line]

    def services(self) -> list[str]:
        """That were called, in order."""
        return [line["service"] for line in self.seen("service")]


@dataclass
class Ros:
    """One master, and the means to start what belongs to it."""

    environment: dict[str, str]
    folder: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    streamers: list[Streamer] = field(default_factory=list)
    master: subprocess.Popen[bytes] = field(init=False)

    def run(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """The system's Python with ROS on its path."""
        process = subprocess.Popen([SYSTEM_PYTHON, *map(str, arguments)], env=self.environment, **options)
        self.started.append(process)
        return process

    def driver(self) -> Driver:
        """The mock driver."""
        return Driver(
            self.folder / "driver.jsonl", lambda: self.run(HERE / "mock_driver.py", NAME, self.folder / "driver.jsonl")
        )

    def streamer(self, *options: str, **settings: Any) -> Streamer:
        """The bridge's streamer, as the bridge starts it."""
        ours, theirs = link.pair()
        file, log = self.folder / "settings.json", self.folder / "ticks.jsonl"
        arm = {"kind": "rospy", "name": NAME, **settings.pop("arm", {})}
        file.write_text(json.dumps({"arm": arm, "limits": {"speed": 1.0}, **settings}))
        command = ("-m", "stillframe_client.jaco2.streamer", str(theirs.fileno()), file, log, *options)
        process = self.run(*command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
        theirs.close()
        self.streamers.append(Streamer(process, BridgeEnd(ours), log))
        return self.streamers[-1]

    def end(self) -> None:
        """End all that was started and still runs."""
        for streamer in self.streamers:
            streamer.close()
        for process in reversed(self.started):
            if process.poll() is None:
                process.kill()
            process.wait(SOON_S)
            if process.stderr is not None:
                process.stderr.close()


@dataclass
class Streamer:
    """The streamer's process and the bridge's end of its link, which a thread keeps alive."""

    process: subprocess.Popen[bytes]
    end: BridgeEnd
    log: Path
    status: Status | None = None
    _alive: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._step: tuple[list[float], float] | None = None
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def arm(self) -> None:
        """Arm it, and wait until it is."""
        wait_until(lambda: self.status, self.process)
        self.order("arm")
        wait_until(lambda: self.status and self.status.state.value in ("READY", "RUNNING", "HOLD"), self.process)

    def order(self, name: str) -> None:
        """Send an order."""
        with self._lock:
            self.end.order(name)

    def move(self, delta: list[float] | None, gripper: float = 1.0) -> None:
        """Send that step ten times a second from now on; None: no more."""
        with self._lock:
            self._step = None if delta is None else (delta, gripper)

    def close(self) -> None:
        """End the bridge: hang up."""
        self._alive.set()
        with self._lock:
            self.end.close()

    def _beat(self) -> None:
        for count in range(1_000_000):
            if self._alive.wait(0.02):
                return
            with self._lock:
                if self._alive.is_set() or self.end.is_closed:
                    return
                self.end.heartbeat()
                if self._step is not None and count % 5 == 0:
                    self.end.step(*self._step, 0.1, link.now_s() + 0.4)
                self.status = self.end.newest() or self.status


@pytest.fixture(scope="session")
def ros_packages() -> Path:
    """The folder that ROS was unpacked into. Skips where it was not, or where it does not run."""
    named = os.environ.get("STILLFRAME_ROS1", "")
    if not named:
        pytest.skip("needs ROS 1: run `make test-ros1`, which unpacks Debian's packages of it")
    root = Path(named).resolve()
    needed = "import rospy, rosmaster.main, geometry_msgs.msg, genpy.dynamic, numpy"
    try:
        done = subprocess.run(
            [SYSTEM_PYTHON, "-c", needed], env=environment(root), capture_output=True, text=True, check=False
        )
    except OSError as error:
        pytest.skip(f"needs the system's Python: {error}")
    if done.returncode:
        pytest.skip(f"ROS 1 in {root} does not run with {SYSTEM_PYTHON}: {done.stderr.strip().splitlines()[-1]}")
    return root


def environment(root: Path) -> dict[str, str]:
    """Of a process of ROS: its packages, the client, the messages; nothing of the tests' own Python."""
    libraries = sorted({str(file.parent) for file in root.glob("usr/lib/**/*.so*")})
    paths = [root / "usr/lib/python3/dist-packages", CLIENT, HERE / "workspace"]
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "ROS_IP": "127.0.0.1",
        "ROS_PYTHON_LOG_CONFIG_FILE": str(root / "etc/ros/python_logging.conf"),
    }


@pytest.fixture
def ros(ros_packages: Path, tmp_path: Path, new_port: Callable[[], int]) -> Iterator[Ros]:
    """A master of its own on loopback."""
    port = new_port()
    home = {
        "ROS_MASTER_URI": f"http://127.0.0.1:{port}",
        "ROS_HOME": str(tmp_path),
        "ROS_LOG_DIR": str(tmp_path / "log"),
    }
    world = Ros({**environment(ros_packages), **home}, tmp_path)
    try:
        world.master = world.run("-c", MASTER, str(port))
        wait_until(lambda: listens(port), world.master)
        yield world
    finally:
        world.end()


def listens(port: int) -> bool:
    """Whether a connection is taken there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Waits for what it is given to be true."""
    return wait_until

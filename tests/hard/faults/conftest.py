"""Daemons as processes that are made to fail, killed and started again on their port; and what they say of themselves.

Knows `faulty.py`, the goldens' checkpoint, and how to wait within bounds; no test.
"""

from __future__ import annotations

import json
import re
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml

HERE = Path(__file__).parent
WAIT_S = 60.0  # bounds what has to happen; nothing is expected to take this long
WORDS = "put the spoon on the towel"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without it each request reads all authorities that there are


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that another process does."""
    give_up_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up_s, f"not within {WAIT_S:g} s: {what}"
        time.sleep(0.02)


@dataclass
class Daemon:
    """One address and the process that serves there, which may be another one later."""

    folder: Path
    config: Mapping[str, Any]
    port: int
    forked: Callable[..., Any]
    process: Any = None  # what forks offer of a subprocess.Popen

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> Any:
        """The process."""
        assert self.process is not None
        return self.process

    def start(self) -> None:
        """Start it and wait until it takes frames."""
        (self.folder / "daemon.yaml").write_text(yaml.safe_dump({**self.config, "port": self.port}))
        words = (str(self.folder), "serve", str(self.folder / "daemon.yaml"))
        environment = {"STILLFRAME_LOG_LEVEL": "info", "OMP_NUM_THREADS": "1"}
        self.process = self.forked(HERE / "faulty.py", *words, environment=environment, log=self.folder / "log")
        until(lambda: self.ready() == 200, "ready")

    def stop(self) -> None:
        """End the process, whatever state it is in."""
        self.running.kill()
        self.running.wait(WAIT_S)

    def order(self, what: str) -> None:
        """Leave an order for the model; see faulty.py."""
        (self.folder / what).touch()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no frame through the device while the block lasts."""
        self.order("hold")
        try:
            yield
        finally:
            (self.folder / "hold").unlink(missing_ok=True)

    def holds(self) -> None:
        """Wait until a frame is held."""
        until((self.folder / "holding").exists, "a frame on the device")

    def get(self, path: str) -> httpx.Response:
        """Ask for something that needs no body."""
        return httpx.get(self.url + path, timeout=WAIT_S, trust_env=False, verify=NO_TLS)

    def ready(self) -> int:
        """What /readyz answers; 0: nothing listens."""
        assert self.running.poll() is None, "the daemon has ended; its log is in the test's folder"
        try:
            return self.get("/readyz").status_code
        except httpx.TransportError:
            return 0

    def gauge(self, name: str) -> float:
        """One series of /metrics, without labels."""
        found = re.search(rf"^stillframe_{name} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self.running.send_signal(number)

    def complaints(self) -> list[dict[str, Any]]:
        """What is in the log that somebody has to look at, and what is no line of ours at all."""
        lines = (self.folder / "log").read_text().splitlines()
        said = [json.loads(line) if line.startswith("{") else {"level": "none", "event": line} for line in lines]
        return [line for line in said if line["level"] not in {"info", "debug"}]


@pytest.fixture(scope="session")
def waiting() -> Callable[[Callable[[], bool], str], None]:
    """Wait, within bounds, for something that another process does."""
    return until


@pytest.fixture(scope="session")
def new_daemon(
    load: Callable[[str], ModuleType],
    golden_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    new_port: Callable[[], int],
) -> Iterator[Callable[..., Daemon]]:
    """Start daemons on the micro OpenVLA in mode exact: `new_daemon(watchdog_s=1)`."""
    started: list[Daemon] = []
    base = {
        "checkpoint": str(golden_folder),
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
        "frames_per_s": None,
        "reuse": {"mode": "exact", "slack": False, "gap_s": 600},
    }

    def start(**config: Any) -> Daemon:
        forked = load("e2e/forked.py").Forked
        started.append(Daemon(tmp_path_factory.mktemp("daemon"), {**base, **config}, new_port(), forked))
        started[-1].start()
        return started[-1]

    yield start
    for daemon in started:
        daemon.stop()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for clients that wait."""
    with ThreadPoolExecutor(32) as pool:
        yield pool


@dataclass
class Bystander:
    """A robot that asks for one action after the other while something happens to the daemon."""

    act: Callable[[], Any]
    answers: int = 0
    failures: list[BaseException] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until told that it is over, or refused."""
        while not self._over.is_set():
            try:
                self.act()
            except Exception as error:  # noqa: BLE001 (told by the test)
                self.failures.append(error)
                return
            self.answers += 1

    def over(self) -> None:
        """It may stop."""
        self._over.set()


@pytest.fixture
def bystanding() -> Callable[[Callable[[], Any]], Any]:
    """Run a block beside a robot that gets answers before, during and after it: see test_noise.py."""

    @contextmanager
    def beside(act: Callable[[], Any]) -> Iterator[Bystander]:
        robot = Bystander(act)
        thread = threading.Thread(target=robot.run)
        thread.start()
        try:
            until(lambda: robot.answers > 0 or bool(robot.failures), "a first answer")
            yield robot
            served = robot.answers
            until(lambda: robot.answers > served + 1 or bool(robot.failures), "more answers")
        finally:
            robot.over()
            thread.join(WAIT_S)

    return beside

"""A camera over a source that a test feeds, on a clock that a test turns. Knows no device."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.cameras.accept import Expected
from stillframe_client.jaco2.cameras.reader import BackgroundCamera
from stillframe_client.jaco2.settings import CameraSettings

PATIENCE_S = 60.0


class VirtualClock:
    """A time that stands until it is turned; a wait turns it."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.waits_s: list[float] = []

    def __call__(self) -> float:
        """The time."""
        return self.now_s

    def wait(self, wait_s: float) -> None:
        """Let so much time go by."""
        self.waits_s.append(wait_s)
        self.now_s += wait_s


class FedSource:
    """Gives what it is fed: pictures, and errors, which it raises. Blocks while there is nothing."""

    def __init__(self) -> None:
        self.fed: deque[Any] = deque()
        self.changed = threading.Condition()
        self.hungry = False  # a read waits: all that came before is dealt with
        self.failures: deque[Exception] = deque()  # of the next times that it is opened
        self.calls: list[str] = []
        self.threads: set[str] = set()

    def open(self) -> None:
        """Fail as told."""
        self._called("open")
        if self.failures:
            raise self.failures.popleft()

    def read(self) -> Any:
        """Wait for food."""
        self.threads.add(threading.current_thread().name)
        with self.changed:
            self._set_hungry(hungry=not self.fed)
            self.changed.wait_for(lambda: self.fed, PATIENCE_S)
            self._set_hungry(hungry=False)
            given = self.fed.popleft()
        if isinstance(given, Exception):
            raise given
        return given

    def close(self) -> None:
        """Count it."""
        self._called("close")

    def feed(self, *given: Any) -> None:
        """Put these in, and return when the reader has dealt with all of them and asks for more."""
        with self.changed:
            self.fed.extend(given)
            self.hungry = self.hungry and not given
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.hungry, PATIENCE_S)

    def put(self, *given: Any) -> None:
        """Put these in, and return at once."""
        with self.changed:
            self.fed.extend(given)
            self.changed.notify_all()

    def until(self, call: str, times: int) -> None:
        """Wait until it was opened or closed so often."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.calls.count(call) >= times, PATIENCE_S), self.calls

    def _called(self, call: str) -> None:
        self.threads.add(threading.current_thread().name)
        with self.changed:
            self.calls.append(call)
            self.changed.notify_all()

    def _set_hungry(self, *, hungry: bool) -> None:
        self.hungry = hungry
        self.changed.notify_all()


class Rig:
    """A camera with all that a test turns about it. Pictures of 8 x 6, unless `size` is None: then of any one size."""

    def __init__(self, size: tuple[int, int] | None = (8, 6), **settings: Any):
        self.clock, self.source = VirtualClock(), FedSource()
        asked = CameraSettings(**{"width": 16, "height": 16, "resize": 0, "frozen_s": 1.0, "age_s": 0.3, **settings})
        self.camera = BackgroundCamera(
            "front", self.source, asked, Expected(size, asked), clock=self.clock, pause=self.clock.wait
        )

    def started(self, picture: Any) -> Rig:
        """Started with a first picture."""
        self.source.put(picture)
        self.camera.start(PATIENCE_S)
        self.source.feed()
        return self


def pattern(seed: int, height: int = 6, width: int = 8) -> np.ndarray:
    """A picture [height, width, 3] of noise: another one for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """`noise(seed, height, width)`: a picture of noise, another one for each seed."""
    return pattern


@pytest.fixture
def clock() -> VirtualClock:
    """A time that stands until it is turned."""
    return VirtualClock()


@pytest.fixture
def new_rig() -> Iterator[Callable[..., Rig]]:
    """`new_rig(size, **settings)`; each camera is closed with the test."""
    rigs: list[Rig] = []

    def make(*args: Any, **settings: Any) -> Rig:
        rigs.append(Rig(*args, **settings))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.source.put(OSError("the test is over"), OSError("the test is over"))
        rig.camera.close()

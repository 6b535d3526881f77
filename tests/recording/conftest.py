"""Frames of a chosen size on disk, and a recorder that has written by the time it is asked. Knows no test."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from stillframe.domain import ActionChunk, CacheReport, Observation, Step, StepReport
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.recorder import Recorder

WAIT_S = 60.0  # bounds what has to happen
LOG = logging.getLogger("recording-test")
LOG.setLevel(logging.INFO)


@pytest.fixture(autouse=True)
def _nothing_goes_wrong_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A future's callback that raises is only logged: a test during which that happens has failed."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture(scope="session")
def shot() -> Callable[..., RecordedFrame]:
    """A frame of some blocks on disk: `shot(seq, epoch=2, at_s=1e9, blocks=3)`, a block of it its JSON's."""

    def make(seq: int, epoch: int = 0, at_s: float = 1_700_000_000.0, blocks: int = 2) -> RecordedFrame:
        noise = np.random.default_rng(seq).integers(0, 256, ((blocks - 2) * 42 + 21, 32, 3), np.uint8)
        cache = CacheReport("adaptive", None, 0.5, 10, 20, 4096, 1, epoch=epoch, seq=seq)
        step = Step(ActionChunk(np.full((1, 7), float(seq)), "jaco"), StepReport({"queue": 0.25}, 1, cache))
        return RecordedFrame(at_s, Observation({"front": noise}, f"frame {seq}", "jaco"), step)

    return make


@pytest.fixture(scope="session")
def written() -> Callable[[Recorder, int], None]:
    """Wait until so many frames have been written or lost."""

    def wait(recorder: Recorder, frames: int) -> None:
        give_up_s = time.monotonic() + WAIT_S
        while recorder.kept + recorder.dropped < frames and time.monotonic() < give_up_s:
            assert recorder._thread.is_alive()
            os.sched_yield()
        assert recorder.kept + recorder.dropped == frames

    return wait


@pytest.fixture
def new_recorder() -> Iterator[Callable[..., Recorder]]:
    """Make recorders that are closed in the end: `new_recorder(root, max_bytes=...)`."""
    made: list[Recorder] = []

    def make(root: Path, **settings: int) -> Recorder:
        made.append(Recorder(root, log=LOG, **settings))  # type: ignore[arg-type]  # each setting by its name
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()

"""Demonstrations in a folder: a file each, written whole, so that a collection that was stopped goes on there.

Knows files and which demonstrations a collection wants; how one is recorded is recording.py's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from stillframe.errors import StillframeError
from stillframe_lab.libero.process import Scene, SimulatorProcess
from stillframe_lab.train.frame_store import write_npz
from stillframe_lab.train.libero.recording import Demonstration, Leader, Recorder

ATTEMPTS = 12  # at one demonstration, each from a draw of its own
CALMER = 0.6  # the noise with each attempt: else few of the bowl in the drawer would succeed
FIRST_SEED = 100_000  # evaluation's fixtures are placed by the seeds from 0 on
BLOCK = 8  # of one task, before the next task is opened: an early stop leaves some of each
PICTURES, SIZES = "pictures", "sizes"


@dataclass(frozen=True, order=True)
class DemoId:
    """One demonstration of a suite."""

    task: int
    number: int


@dataclass(frozen=True)
class DemoFolder:
    """The demonstrations of one collection: FOLDER/task-3/demo-012.npz."""

    folder: Path

    def file(self, demo: DemoId) -> Path:
        """Where it is, or will be."""
        return self.folder / f"task-{demo.task}" / f"demo-{demo.number:03}.npz"

    def save(self, demo: DemoId, recorded: Demonstration) -> None:
        """Write it, whole."""
        self.file(demo).parent.mkdir(parents=True, exist_ok=True)
        files = [picture for step in recorded.pictures for picture in step]
        joined, sizes = np.frombuffer(b"".join(files), np.uint8), np.array([len(one) for one in files])
        rest = {field.name: getattr(recorded, field.name) for field in fields(recorded) if field.name != PICTURES}
        write_npz(self.file(demo), **{PICTURES: joined, SIZES: sizes.reshape(len(recorded.pictures), -1), **rest})

    def load(self, demo: DemoId) -> Demonstration:
        """Read one that is there."""
        with np.load(self.file(demo)) as arrays:
            sizes, joined = arrays[SIZES], arrays[PICTURES].tobytes()
            rest = {field.name: arrays[field.name] for field in fields(Demonstration) if field.name != PICTURES}
        ends = np.cumsum(sizes).reshape(sizes.shape)
        pictures = [
            [joined[end - size : end] for end, size in zip(*row, strict=True)] for row in zip(ends, sizes, strict=True)
        ]
        return Demonstration(pictures=pictures, **rest)

    def missing(self, wanted: Sequence[DemoId]) -> list[DemoId]:
        """Those that are still to be made."""
        return [demo for demo in wanted if not self.file(demo).is_file()]


def wanted_demos(tasks: Sequence[int], each: int) -> list[DemoId]:
    """So many of each task."""
    return [DemoId(task, number) for task in tasks for number in range(each)]


class Agenda:
    """What is still to be made, a few of a task at a time. Thread-safe."""

    def __init__(self, missing: Sequence[DemoId]):
        blocks: dict[tuple[int, int], list[DemoId]] = {}
        for demo in sorted(missing):
            blocks.setdefault((demo.number // BLOCK, demo.task), []).append(demo)
        self._left = [blocks[key] for key in sorted(blocks)]
        self._lock = threading.Lock()

    def take(self) -> list[DemoId]:
        """The next, all of one task; none: nothing is left."""
        with self._lock:
            return self._left.pop(0) if self._left else []

    def clear(self) -> None:
        """Nothing more is to be made."""
        with self._lock:
            self._left.clear()


@dataclass(frozen=True)
class Collector:
    """Makes a folder's demonstrations."""

    demos: DemoFolder
    recorder: Recorder
    seed: int  # of this collection: another one draws other scenes

    def collect(
        self,
        wanted: Sequence[DemoId],
        workers: int,
        simulator: Callable[[], AbstractContextManager[SimulatorProcess]],
        leader: Callable[[], Leader],
    ) -> None:
        """Make what is missing, in threads with a simulator's process and a leader each."""
        missing = self.demos.missing(wanted)
        agenda = Agenda(missing)

        def work() -> None:
            with simulator() as running:
                leads = leader()
                while block := agenda.take():
                    scene = running.open(self.recorder.suite, block[0].task)
                    for demo in block:
                        self.demos.save(demo, self._recorded(running, scene, demo, leads))

        with ThreadPoolExecutor(workers) as pool:
            threads = [pool.submit(work) for _ in missing[:workers]]
            try:
                for thread in as_completed(threads):
                    thread.result()
            finally:
                agenda.clear()

    def _recorded(self, simulator: SimulatorProcess, scene: Scene, demo: DemoId, leader: Leader) -> Demonstration:
        """The first attempt that succeeds. Raises StillframeError where none does."""
        for attempt in range(ATTEMPTS):
            drawn = (self.seed, demo.task, demo.number, attempt)
            rng = np.random.default_rng(drawn)
            seed = FIRST_SEED + int(rng.integers(2**30))
            recorded = self.recorder.record(simulator, scene, seed, leader, rng, CALMER**attempt)
            if recorded is not None:
                return recorded
        raise StillframeError(f"the expert failed {ATTEMPTS} times at task {demo.task} ({scene.instruction})")

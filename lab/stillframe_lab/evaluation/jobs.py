"""Cached experiment cells: run the missing ones in worker processes, one result file each.

Knows files, origins and processes; no cell's meaning.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from stillframe.errors import ConfigError, RequestError, StillframeError
from stillframe.files.writing import write_whole_bytes

Origin = dict[str, Any]  # all that a result depends on, as JSON
Result = dict[str, Any]


class HasName(Protocol):
    """A cell: plain data with a name that a file may have."""

    @property
    def name(self) -> str:
        """What its file is called."""
        ...


class JobReporter(Protocol):
    """Receives progress."""

    def stage(self, line: str) -> None:
        """A stage begins."""
        ...

    def expect(self, cells: int) -> None:
        """How many cells are missing."""
        ...

    def played(self, cell: str) -> None:
        """A cell is finished."""
        ...


@dataclass(frozen=True)
class Folders:
    """Where results are cached, and where the report goes."""

    work: Path
    out: Path

    def create(self) -> Folders:
        """Create both, before hours are spent. Raises ConfigError."""
        for folder in (self.work, self.out):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"cannot make {folder}: {error.strerror}; choose another") from error
        return self


CellT = TypeVar("CellT", bound=HasName)


@dataclass(frozen=True)
class Job(Generic[CellT]):
    """A cell, what its result depends on, and its file."""

    cell: CellT
    origin: Origin
    file: Path

    @property
    def result(self) -> Result | None:
        """The cached result, if there is one."""
        return load_result(self.file, self.origin)


def run_missing(
    play: Callable[[CellT, Origin, Path], None], jobs: Sequence[Job[CellT]], workers: int, reporter: JobReporter
) -> None:
    """Call `play` in worker processes for each job without a result, in order.

    Each worker has a GL context and a torch of its own. The first failure stops all; finished cells are kept. Workers
    end with this process, however it ends.
    """
    missing = [job for job in jobs if job.result is None]
    reporter.expect(len(missing))
    if not missing:
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent) as pool:
        names = {pool.submit(_in_worker, play, job.cell, job.origin, job.file): job.cell.name for job in missing}
        try:
            for future in as_completed(names):
                future.result()
                reporter.played(names[future])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """End this worker, whatever it plays, once the process that started it is gone: a signal may have ended that."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_worker(play: Callable[[CellT, Origin, Path], None], cell: CellT, origin: Origin, file: Path) -> None:
    """Play a cell; what a policy refuses comes back as an error that can be sent between processes."""
    try:
        play(cell, origin, file)
    except RequestError as error:
        raise StillframeError(f"{cell.name}: {error}") from error


def save_result(file: Path, origin: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Write a result and what it depends on, whole or not at all."""
    write_whole_bytes(file, (json.dumps({"origin": origin, "result": result}) + "\n").encode())


def load_result(file: Path, origin: Mapping[str, Any]) -> Result | None:
    """The result in `file`, if it was made with the same `origin`."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("origin") != origin:
        return None
    result: Result = document["result"]
    return result


def load_or_make(file: Path, origin: Origin, make: Callable[[], Result]) -> Result:
    """The cached result in `file`, if made with the same `origin`; else make it and save it."""
    result = load_result(file, origin)
    if result is None:
        result = make()
        save_result(file, origin, result)
    return result


def checkpoint_digest(checkpoint: Path) -> str:
    """SHA-256 of a checkpoint's tensors, configuration and history configuration."""
    digest = hashlib.sha256()
    for file in sorted(
        [*checkpoint.glob("*.safetensors"), checkpoint / "config.json", *checkpoint.glob("memory.json")]
    ):
        digest.update(file.read_bytes())
    return digest.hexdigest()

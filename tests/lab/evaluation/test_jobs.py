from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from stillframe.errors import StillframeError, Unprocessable
from stillframe_lab.evaluation.jobs import _in_worker, checkpoint_digest, load_or_make


@dataclass(frozen=True)
class Cell:
    """A cell that is a name."""

    name: str


def test_what_a_policy_refuses_comes_back_from_a_worker(tmp_path: Path) -> None:
    """In its words, with the cell's name, and so that another process can read it."""

    def refuse(*_: object) -> None:
        raise Unprocessable("wrong-state", "seven numbers; this policy reads eight", pointer="/state")

    with pytest.raises(StillframeError, match="off--clean: seven numbers; this policy reads eight") as caught:
        _in_worker(refuse, Cell("off--clean"), {}, tmp_path)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 -- our own


def test_the_digest_is_of_tensors_and_configuration(tmp_path: Path) -> None:
    """A changed byte of any changes it, what is remembered by among them; a model card does not."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text(name)
    digests = [checkpoint_digest(tmp_path)]
    (tmp_path / "README.md").write_text("better than ever")
    digests.append(checkpoint_digest(tmp_path))
    for name in ("config.json", "model.safetensors", "memory.json", "memory.safetensors"):
        (tmp_path / name).write_text("other")
        digests.append(checkpoint_digest(tmp_path))

    assert digests[0] == digests[1]
    assert len(set(digests[1:])) == 5


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    """Unless its origin is another one."""
    made = [load_or_make(tmp_path / "a.json", {"seed": seed}, lambda n=n: {"n": n}) for n, seed in enumerate((1, 1, 2))]

    assert [one["n"] for one in made] == [0, 0, 2]


@pytest.mark.process
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Also where a signal ended it, which leaves it no time to stop them."""
    said = tmp_path / "worker"
    program = [sys.executable, str(Path(__file__).with_name("endless_cell.py")), str(said)]
    started = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    wait_for(said.exists)
    worker = int(said.read_text())
    assert lives(worker)
    started.kill()
    started.wait()

    wait_for(lambda: not lives(worker))


def lives(process: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_for(true: Callable[[], bool], wait_s: float = 60) -> None:
    """Until it is; fails where it does not come to be."""
    give_up_s = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)

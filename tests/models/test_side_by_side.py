from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import Tensor

from stillframe.models.prismatic.vision import TowerConfig, VisionBackbone
from stillframe.models.side_by_side import Job, RunJobs, in_turn, side_by_side

CPU = torch.device("cpu")
DINO = TowerConfig(16, 3, 2, 2.0, prefix_tokens=3, layer_scale=True, image_px=28)
SIGLIP = TowerConfig(24, 4, 3, 1.5, prefix_tokens=0, layer_scale=False, image_px=28)
WAIT_S = 60  # for what has to happen; no test waits this long unless it fails
LAST_WORDS = """
import torch
from stillframe.models.side_by_side import side_by_side
run = side_by_side(torch.device("cpu"))
print(sum(run([lambda: torch.ones(()), lambda: torch.ones(())])).item())
"""


@pytest.fixture
def run() -> RunJobs:
    """What runs two jobs on a CPU's two threads."""
    return side_by_side(CPU)


@pytest.mark.parametrize("grad", [True, False], ids=["grad", "inference"])
def test_towers_give_what_they_give_in_turn(run: RunJobs, *, grad: bool) -> None:
    """To the bit: features, and gradients where those are asked for."""
    torch.manual_seed(3)
    backbone, pixels = VisionBackbone(DINO, SIGLIP), torch.randn(2, 6, 28, 28)
    made = []
    for how in (in_turn, run):
        backbone.run = how
        backbone.zero_grad()
        with torch.inference_mode(not grad):
            features = backbone(pixels)
        assert (features.requires_grad, features.is_inference()) == (grad, not grad)
        if grad:
            features.square().sum().backward()
        made.append([features, *(weight.grad for weight in backbone.parameters() if weight.grad is not None)])

    assert len(made[0]) == (1 + len([*backbone.parameters()]) if grad else 1)
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_the_second_job_is_another_threads(run: RunJobs) -> None:
    """Both are under way at once, the first on the calling thread; results are in the jobs' order."""
    met, threads = threading.Barrier(2, timeout=WAIT_S), dict[int, int]()

    def job(number: int) -> Tensor:
        met.wait()
        threads[number] = threading.get_ident()
        return torch.tensor(number)

    assert [int(own) for own in run([lambda: job(1), lambda: job(2)])] == [1, 2]
    assert threads[1] == threading.get_ident() != threads[2]
    assert [int(own) for own in run([partial(torch.tensor, n) for n in range(4)])] == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [0, 1])
def test_a_single_job_starts_no_thread(run: RunJobs, count: int) -> None:
    """Nor does none at all: a model with one tower pays nothing."""
    before, seen = {*threading.enumerate()}, list[int]()

    def job() -> Tensor:
        seen.append(threading.get_ident())
        return torch.zeros(())

    assert len(run([job] * count)) == count
    assert seen == [threading.get_ident()] * count
    assert {*threading.enumerate()} <= before  # one of an earlier test may end meanwhile


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_modes_and_threads_are_the_callers(run: RunJobs, mode: Callable[[], torch.enable_grad]) -> None:
    """Of gradients, and as many of torch's threads as the caller has now, not as it had at first."""
    before = torch.get_num_threads()

    def job() -> Tensor:
        return torch.tensor([torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_num_threads()])

    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with mode():
                mine, beside = run([job, job])
            assert beside.tolist() == mine.tolist()
            assert mine[-1] == threads
    finally:
        torch.set_num_threads(before)


def failing(name: str) -> Job:
    """A job that raises ValueError with its name."""

    def job() -> Tensor:
        raise ValueError(name)

    return job


def test_what_either_job_raises_is_raised(run: RunJobs) -> None:
    """The first's where both do, as in turn; the next call works."""
    fine = lambda: torch.ones(())  # noqa: E731 (a job)
    for jobs, said in (([failing("a"), fine], "a"), ([fine, failing("b")], "b"), ([failing("a"), failing("b")], "a")):
        for how in (in_turn, run):
            with pytest.raises(ValueError, match=f"^{said}$"):
                how(jobs)

        assert [int(own) for own in run([fine, fine])] == [1, 1]


def test_nothing_is_raised_before_both_have_ended(run: RunJobs) -> None:
    """Else what a job still writes would be another frame's by then."""
    failed, ended = threading.Event(), threading.Event()

    def fails() -> Tensor:
        failed.set()
        raise ValueError

    def is_slow() -> Tensor:
        assert failed.wait(WAIT_S)
        time.sleep(0.05)  # in which an error that did not wait would be out
        ended.set()
        return torch.zeros(())

    with pytest.raises(ValueError, match=r"^$"):
        run([fails, is_slow])
    assert ended.is_set()


def test_two_engines_do_not_wait_for_each_other(run: RunJobs) -> None:
    """Each with a thread of its own, or both with one: every call is answered, and with its own results."""
    other = side_by_side(CPU)

    def robot(how: RunJobs, number: int) -> list[int]:
        jobs = [lambda: torch.tensor(number), lambda: torch.tensor(-number)]
        return [int(own) for _ in range(20) for own in how(jobs)]

    with ThreadPoolExecutor(4) as engines:
        answers = [engines.submit(robot, how, number) for number, how in enumerate([run, other, run, other])]
        for number, answer in enumerate(answers):
            assert answer.result(WAIT_S) == [number, -number] * 20


def test_where_neither_threads_nor_streams_help_jobs_run_in_turn() -> None:
    """On device meta, on which nothing is computed."""
    assert side_by_side(torch.device("meta")) is in_turn


@pytest.mark.slow
@pytest.mark.process
def test_the_thread_keeps_no_interpreter() -> None:
    """A process that ran jobs side by side ends by itself, and with nothing on standard error."""
    ended = subprocess.run(
        [sys.executable, "-c", LAST_WORDS], capture_output=True, text=True, timeout=WAIT_S, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "2.0\n", "")

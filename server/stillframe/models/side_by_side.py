"""Several networks over the same pictures: one after the other, or side by side on two threads or streams of a device.

Knows devices, threads and streams; not what is computed, and not which deployment wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Job = Callable[[], Tensor]
RunJobs = Callable[[Sequence[Job]], list[Tensor]]


@runtime_checkable
class HasTowers(Protocol):
    """A model with more vision towers than one, which need not wait for each other."""

    def run_towers(self, run: RunJobs) -> None:
        """From now on its towers run by `run`: `in_turn`, which they do by themselves, or `side_by_side`."""
        ...


def in_turn(jobs: Sequence[Job]) -> list[Tensor]:
    """What each job gives, computed one after the other by the calling thread."""
    return [job() for job in jobs]


def side_by_side(device: torch.device) -> RunJobs:
    """What runs jobs side by side on a device, with the same results; `in_turn` where neither threads nor streams help.

    What the first job raises is raised, else what another does; whichever it is, all have ended by then.
    """
    if device.type == "cuda":
        return OnSideStream(device)
    return OnSecondThread() if device.type == "cpu" else in_turn


class OnSecondThread:
    """The first job on the calling thread, the others meanwhile on a thread of its own.

    That thread starts with the first call, and ends with this object or the interpreter. Not for a process that forks
    behind the first call: a child has no such thread.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tower")

    def __call__(self, jobs: Sequence[Job]) -> list[Tensor]:
        """See `side_by_side`."""
        if len(jobs) < 2:
            return in_turn(jobs)
        first, *others = jobs
        beside: list[Future[Tensor]] = [self._thread.submit(_as_here(job)) for job in others]
        try:
            made = first()
        finally:
            wait(beside)
        return [made, *(own.result() for own in beside)]


class OnSideStream:
    """The first job on a GPU's current stream, the others on one beside it, which waits for that one and is waited for.

    All are launched by the calling thread. Events alone tie the streams, so this may be captured as a CUDA graph.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch gives it none

    def __call__(self, jobs: Sequence[Job]) -> list[Tensor]:
        """See `side_by_side`. What jobs read has to be held by the caller until this returns."""
        if len(jobs) < 2:
            return in_turn(jobs)
        first, *others = jobs
        current = torch.cuda.current_stream(self._device)
        self._side.wait_stream(current)
        try:
            with torch.cuda.stream(self._side):
                beside = in_turn(others)
            made = first()
        finally:
            current.wait_stream(self._side)
        for own in beside:
            own.record_stream(current)  # its memory is the side stream's, and is read on this one
        return [made, *beside]


def _as_here(job: Job) -> Job:
    """The job for another thread: with this one's context variables, gradient mode and number of torch's threads."""
    context, threads = copy_context(), torch.get_num_threads()
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run() -> Tensor:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return context.run(job)

    return run

"""Yielding: work in idle time ends between two blocks of a network as soon as a frame waits for the device.

Knows devices and networks; not what is computed, and not which frame waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn

from stillframe.engine.device import wait_for

ShouldYield = Callable[[], bool]  # whether a frame waits for the device
# The work in idle time that this thread does; also of a thread that computes a part of it (models/side_by_side.py).
_WORK: ContextVar[object] = ContextVar("idle work", default=None)


class Preempted(Exception):
    """A frame came in before the work was through; nothing of it is kept."""


def check_preempted(device: torch.device, should_yield: ShouldYield) -> None:
    """Raise Preempted if a frame waits. A GPU first does what it was asked for, or the frame would wait for it."""
    wait_for(device)()
    if should_yield():
        raise Preempted


@contextmanager
def yielding_between_blocks(device: torch.device, should_yield: ShouldYield) -> Iterator[None]:
    """Raise Preempted before any block that this thread is about to compute, of whichever network, once a frame waits.

    A block is a module that has modules of its own. A thread that runs a part of it in this one's context gives way
    too; other threads' networks run on.
    """
    work = object()

    def check(module: nn.Module, _: Any) -> None:
        if _WORK.get() is work and next(module.children(), None) is not None:
            check_preempted(device, should_yield)

    before = _WORK.set(work)
    handle = nn.modules.module.register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()
        _WORK.reset(before)

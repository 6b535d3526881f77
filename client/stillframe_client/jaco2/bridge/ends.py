"""How an episode ends: the first end of its tasks counts, a fault before what is none.

Knows no policy and no arm, but for what they raise.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from stillframe_client.errors import PolicyError
from stillframe_client.jaco2.bridge.streamer_process import StreamerFailed
from stillframe_client.jaco2.cameras.base import CameraError

AGAIN_S = 0.03  # between attempts to end a task


@dataclass(frozen=True)
class Outcome:
    """How an episode ended."""

    reason: str
    fault: bool  # the arm was stopped, or the policy failed
    answers: int
    seconds: float


class Ended(Exception):
    """The episode is over."""

    def __init__(self, reason: str, *, fault: bool):
        super().__init__(reason)
        self.fault = fault


async def first_end(*tasks: asyncio.Task[None]) -> Ended:
    """Wait for the first to end, end the others, and say why; a fault comes first where several ended."""
    left = set(tasks)
    try:
        done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        while left:  # again and again: a wait that ends just then may swallow what cancels it
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=AGAIN_S)
    ends = [_end_of(task) for task in done]
    return next((end for end in ends if end.fault), ends[0])


def _end_of(task: asyncio.Task[None]) -> Ended:
    try:
        task.result()
    except Ended as end:
        return end
    except PolicyError as error:
        return Ended(f"the policy failed: {error}", fault=True)
    except (CameraError, StreamerFailed) as error:
        return Ended(str(error), fault=True)
    except OSError as error:
        return Ended(f"the run's log cannot be written: {error}", fault=True)
    raise AssertionError("an episode ends by Ended")

"""What the device asks of whoever measures or shares it.

Knows devices; not what they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from stillframe.errors import Internal, Overloaded, RequestError
from stillframe.stopwatch import no_wait


def wait_for(device: torch.device) -> Callable[[], None]:
    """What a stage's time has to wait for: a GPU works on after it is asked, a CPU is done when it answers."""
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else no_wait


RETRY_AFTER_S = 1.0
OF_A_CPU = "DefaultCPUAllocator"  # a CPU's allocator raises a plain RuntimeError that names it


def out_of_memory(error: Exception) -> bool:
    """Whether that is what it says."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and OF_A_CPU in str(error)


def told(error: Exception) -> RequestError:
    """What the client is told: nothing of the cause, which is logged, unless it was meant for the client."""
    if isinstance(error, RequestError):
        return error
    detail = "The policy failed on this frame; quote the request's id to whoever runs this."
    answer: RequestError = Internal("internal", detail)
    if out_of_memory(error):
        detail = "The device had no memory left for this frame. Send the next one: others are served."
        answer = Overloaded("out-of-memory", detail, retry_after_s=RETRY_AFTER_S)
    answer.__cause__ = error
    return answer


def let_go(error: Exception, device: torch.device) -> None:
    """Free what an error's tracebacks hold, pictures and tensors: the answer that has it may be kept for long."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__
    if device.type == "cuda" and out_of_memory(error):
        torch.cuda.empty_cache()  # pieces that are too small stay pieces until they are given back

"""What a device asks of the code that times it or shares it: waiting, memory errors, inference mode.

Knows devices; not what they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from stillframe.domain import GpuMemory
from stillframe.errors import Internal, Overloaded, RequestError
from stillframe.stopwatch import no_wait

RETRY_AFTER_S = 1.0
CPU_ALLOCATOR = "DefaultCPUAllocator"  # a CPU's allocator raises a plain RuntimeError that names it

inference_mode = torch.inference_mode  # a decorator: no gradients


class DeviceLost(BaseException):
    """A GPU fails whatever it is asked: only another process gets it back. No Exception, for no frame is to blame."""


def wait_for(device: torch.device) -> Callable[[], None]:
    """What a stage's time has to wait for: a GPU works on after it is asked, a CPU is done when it answers."""
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else no_wait


def gpu_memory(device: torch.device) -> GpuMemory | None:
    """What a GPU's memory holds; None for a CPU. Waits for nothing that the GPU was asked to do."""
    if device.type != "cuda":
        return None
    stats, (free, total) = torch.cuda.memory_stats(device), torch.cuda.mem_get_info(device)
    return GpuMemory(stats["allocated_bytes.all.current"], stats["reserved_bytes.all.current"], free, total)


def all_finite(hidden: Sequence[Tensor]) -> list[bool]:
    """Whether each frame's hidden rows [rows, width] are finite.

    The last row attends to every key, so what is not finite there shows in it.
    """
    return [bool(fine) for fine in torch.stack([rows.isfinite().all() for rows in hidden]).tolist()]


def out_of_memory(error: Exception) -> bool:
    """Whether the device, or the host, had no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)


def check_device(error: Exception, device: torch.device) -> None:
    """Raise DeviceLost where an error has left a GPU that cannot even be waited for: an illegal access, an assert."""
    if not isinstance(error, torch.AcceleratorError):
        return
    try:
        wait_for(device)()
    except torch.AcceleratorError:
        raise DeviceLost(f"{device} fails whatever it is asked; restart the daemon") from error


def to_request_error(error: Exception) -> RequestError:
    """The answer to the client: nothing of the cause, which is logged, unless it was meant for the client."""
    if isinstance(error, RequestError):
        return error
    detail = "The policy failed on this frame; quote the request's id to the operator."
    answer: RequestError = Internal("internal", detail)
    if out_of_memory(error):
        detail = "The device had no memory left for this frame. Send the next one: others are served."
        answer = Overloaded("out-of-memory", detail, retry_after_s=RETRY_AFTER_S)
    answer.__cause__ = error
    return answer


def clear_tracebacks(error: Exception, device: torch.device) -> None:
    """Free what an error's tracebacks hold, pictures and tensors: the answer that has it may be kept for long."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__
    if device.type == "cuda" and out_of_memory(error):
        torch.cuda.empty_cache()  # pieces that are too small stay pieces until they are given back

"""What the device asks of whoever measures or shares it.

Knows devices; not what they compute.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from stillframe.stopwatch import no_wait


def wait_for(device: torch.device) -> Callable[[], None]:
    """What a stage's time has to wait for: a GPU works on after it is asked, a CPU is done when it answers."""
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else no_wait

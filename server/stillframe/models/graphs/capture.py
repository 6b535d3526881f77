"""Capture on CUDA: the kernels that a function launches, kept as a graph that one call launches again.

Knows streams and memory pools; not what is computed. Only for functions that read and write static tensors and never
wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UPS = 2  # in the first libraries choose kernels and allocate workspaces, the second is as all others are

Compute = Callable[[], None]


class CudaGraphCapture:
    """Captures one function after another; their temporaries share one memory pool, for one runs at a time.

    Capture the largest first: the others then fit into its memory. All on a stream beside the default one, on which
    nothing can be captured.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch gives it none
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Compute) -> Compute:
        """Warm up, capture. Returns what replays it, on the stream that is current then."""
        self._warm(compute)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            compute()
        return graph.replay

    def _warm(self, compute: Compute) -> None:
        """On the stream on which it is captured: workspaces belong to streams."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                compute()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

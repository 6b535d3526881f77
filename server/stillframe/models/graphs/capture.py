"""Recording on CUDA: what a function launches, kept as a graph that one call launches again.

Knows streams and memory pools; not what is computed. Only for functions that read and write tensors that stay, and that
never ask the device for an answer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UPS = 2  # the first lets libraries choose their kernels and take their workspaces, the second is as all others are

Compute = Callable[[], None]


class CudaRecorder:
    """Records one function after another; what they need in passing lies in one pool, for one runs at a time.

    The largest comes first: then the others find room in what it took. All on a stream beside the default one, on
    which nothing can be recorded.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch gives it none
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, compute: Compute) -> Compute:
        """Warm up, record. Returns what computes it again, on the stream that is current then."""
        self._warm(compute)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            compute()
        return graph.replay

    def _warm(self, compute: Compute) -> None:
        """On the stream on which it is recorded: workspaces belong to streams."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                compute()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)

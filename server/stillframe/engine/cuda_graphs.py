"""CUDA graphs: before a GPU serves its first frame, check that everything fits on it, and capture its passes.

Knows a model, its pool and the settings; how passes are captured is models/graphs' business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from logging import Logger

import torch

from stillframe.domain import PassCounts
from stillframe.engine.kv_slots import DEFAULT_SESSIONS, budget_bytes, slot_shape
from stillframe.engine.settings import GraphSettings
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.graphs.capture import CudaGraphCapture
from stillframe.models.graphs.chunk_graphs import DrawsChunks, GraphedChunks
from stillframe.models.graphs.gpu_budget import MemoryDemand, MemoryUsed, graph_bytes
from stillframe.models.graphs.graph_runner import Capture, CudaGraphRunner
from stillframe.models.graphs.shapes import GraphShape, capture_batches, capture_shapes
from stillframe.models.graphs.vision_graphs import GraphedVision, HasVisionEncoder
from stillframe.models.llama.layout import Mask
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.runner import ModelRunner
from stillframe.reuse.kv import KVPool
from stillframe.reuse.settings import ReuseSettings


@dataclass(frozen=True)
class CaptureConfig:
    """What is to be captured."""

    graphs: GraphSettings
    most: int  # frames side by side
    text_tokens: int  # of the longest prompt that a slot holds


def check_gpu_memory(model: PolicyModel, reuse: ReuseSettings, config: CaptureConfig, log: Logger) -> None:
    """Work out what a deployment takes of a GPU, before it is taken. Raises ConfigError for more than is free."""
    if model.device.type != "cuda":
        return
    weights = torch.cuda.memory_allocated(model.device)  # as yet there is nothing else
    needs = needs_of(model, reuse, config, weights)
    log.info("GPU memory asked for: %s", needs)
    refusal = needs.refusal(_free(model.device))
    if refusal is not None:
        raise ConfigError(refusal)


def needs_of(model: PolicyModel, reuse: ReuseSettings, config: CaptureConfig, weights: int) -> MemoryDemand:
    """What a deployment asks for, as far as it can be known beforehand."""
    shape = slot_shape(model, reuse)
    batches = capture_batches(config.graphs.batches, config.most) if config.graphs.enabled else []

    def passes(most: int) -> int:
        forms = graph_shapes_of(model, shape.capacity, replace(config, most=most))
        hook_rows, item = _hook_rows(model, config), model.dtype.itemsize
        beside = model.static_chunks_bytes(most, shape.capacity) if forms and isinstance(model, DrawsChunks) else 0
        own = graph_bytes(model.decoder.config, forms, capacity=shape.capacity, hook_rows=hook_rows, item=item)
        return own + beside

    return MemoryDemand(
        weights=weights,
        slot=shape.nbytes * (shape.capacity + 1) // shape.capacity + shape.beside_bytes,
        slots=budget_bytes(reuse, shape, DEFAULT_SESSIONS) // shape.slot_bytes,
        graphs={batch: passes(batch) for batch in batches},
        item=model.dtype.itemsize,
        quantised=model.decoder.weights != "as-is",
    )


def capture_graphs_on_cuda(model: PolicyModel, pool: KVPool, config: CaptureConfig, log: Logger) -> ModelRunner:
    """`capture_graphs` where the model is on a GPU and the settings want it; eager elsewhere. Logs the memory used.

    Raises ConfigError where memory ran out meanwhile.
    """
    if model.device.type != "cuda" or not config.graphs.enabled:
        return ModelRunner.eager(model)
    before = torch.cuda.memory_reserved(model.device)
    weights = torch.cuda.memory_allocated(model.device) - pool.storage.nbytes
    try:
        with torch.cuda.device(model.device):
            runner = capture_graphs(model, pool, config, CudaGraphCapture(model.device))
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            "the GPU's memory ran out while passes were recorded; "
            "lower reuse.kv_budget_mib, shorten graphs.batches, or set graphs.enabled: false"
        ) from error
    torch.cuda.synchronize(model.device)
    grown, slots = torch.cuda.memory_reserved(model.device) - before, len(pool.storage)
    log.info("GPU memory: %s", MemoryUsed(weights, pool.storage.nbytes // slots, slots, grown, _free(model.device)))
    return runner


def capture_graphs(model: PolicyModel, pool: KVPool, config: CaptureConfig, capture: Capture) -> ModelRunner:
    """Capture this model's passes over `pool`, and its vision encoder. Returns what replays them, and counts.

    Nothing else may run on the device meanwhile.
    """
    counts, decoder, encode, chunks = PassCounts(), model.decoder, None, None
    batches = capture_batches(config.graphs.batches, config.most)
    if isinstance(model, HasVisionEncoder):
        numbers = [batch * len(model.info.cameras) for batch in batches]
        like = decoder.model.embed_tokens.weight
        encode = GraphedVision(model.encode_images, model.image_shape, numbers, capture, counts, like)
    forms = graph_shapes_of(model, pool.shape.capacity, config)
    hook_rows = _hook_rows(model, config)
    graphs = CudaGraphRunner(decoder, pool, forms, capture, hook_rows=hook_rows, counts=counts, mask=model.mask)
    if isinstance(model, DrawsChunks):
        chunks = GraphedChunks(model.static_chunks(max(batches), pool.shape.capacity), batches, capture, counts)
    return ModelRunner(model, DecoderRunner(decoder, graphs, chunks), encode, counts)


def graph_shapes_of(model: PolicyModel, capacity: int, config: CaptureConfig) -> list[GraphShape]:
    """Which passes are captured, over slots of so many positions."""
    graphs = config.graphs
    if not graphs.enabled:
        return []
    drafted = model.mask is Mask.CAUSAL
    return capture_shapes(capacity, model.answer_rows, graphs.batches, graphs.rows, config.most, drafted=drafted)


def _hook_rows(model: PolicyModel, config: CaptureConfig) -> int:
    """Rows from a prompt's end on that hold its text, and what follows it."""
    return config.text_tokens + model.answer_rows - 1


def _free(device: torch.device) -> int:
    """Bytes that can still be taken: the device's, and what torch holds of it for nothing."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)

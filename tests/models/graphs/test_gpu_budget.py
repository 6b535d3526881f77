from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stillframe.models.graphs import gpu_budget
from stillframe.models.graphs.buffers import BufferSizes, SharedBuffers
from stillframe.models.graphs.gpu_budget import (
    LEFT_FREE,
    MIB,
    WORKSPACES,
    MemoryDemand,
    MemoryUsed,
    graph_bytes,
    weights_exceed,
)
from stillframe.models.graphs.shapes import GraphShape, capture_shapes
from stillframe.models.llama.decoder import DecoderConfig

GIB = 1024 * MIB
NEEDS = MemoryDemand(weights=14 * GIB, slot=164 * MIB, slots=17, graphs={1: 200 * MIB, 2: 300 * MIB, 8: 900 * MIB})
LEAST = 17 * 164 * MIB + 900 * MIB + LEFT_FREE


@pytest.mark.parametrize(("room", "fits"), [(LEAST, True), (LEAST - 1, False), (80 * GIB, True), (0, False)])
def test_what_fits_is_not_refused(room: int, fits: bool) -> None:  # noqa: FBT001 (a parameter of the test)
    """To the byte: the pool, the largest batch's graphs, and what stays free."""
    assert (NEEDS.refusal(room) is None) == fits


@pytest.mark.parametrize(
    ("room", "says", "says_not"),
    [
        (LEAST - MIB, ["16 slots (reuse.kv_budget_mib: 2624)", "graphs.batches up to 2"], ["bfloat16", "enabled"]),
        (LEAST - 650 * MIB, ["13 slots", "graphs.batches up to 1"], ["up to 2"]),
        (LEAST - 900 * MIB, ["11 slots", "graphs.enabled: false"], ["batches"]),
        (900 * MIB + LEFT_FREE + 300 * MIB, ["takes a GPU with more memory"], ["slots (", "graphs."]),
        (LEFT_FREE, ["takes a GPU with more memory"], ["it would do"]),
    ],
)
def test_a_refusal_says_what_would_fit(room: int, says: list[str], says_not: list[str]) -> None:
    """Each way is enough by itself, and none is named that is not."""
    refusal = NEEDS.refusal(room)

    assert refusal is not None
    assert all(words in refusal for words in says), refusal
    assert not any(words in refusal for words in says_not), refusal


@pytest.mark.parametrize(("item", "named"), [(4, True), (2, False)])
def test_bfloat16_is_named_where_it_halves_anything(item: int, named: bool) -> None:  # noqa: FBT001 (likewise)
    """Weights, keys and values and graphs in half the bytes."""
    refusal = replace(NEEDS, item=item).refusal(LEAST - 2 * GIB)

    assert refusal is not None
    assert ("dtype: bfloat16" in refusal) == named


@pytest.mark.parametrize("room", range(0, LEAST, 97 * MIB))
def test_what_a_refusal_proposes_is_not_refused(room: int) -> None:
    """Who does what it says is served."""
    refusal = NEEDS.refusal(room)
    assert refusal is not None
    if " slots (reuse" in refusal:
        slots = int(refusal.split("it would do with ")[1].split(" ")[0])

        assert replace(NEEDS, slots=slots).refusal(room) is None
    if "batches up to" in refusal:
        most = int(refusal.split("batches up to ")[1].split(")")[0])
        graphs = {batch: size for batch, size in NEEDS.graphs.items() if batch <= most}

        assert replace(NEEDS, graphs=graphs).refusal(room) is None


@pytest.mark.parametrize(
    ("room", "item", "says"),
    [
        (14, 2, None),
        (13, 2, "more memory"),
        (13, 4, "dtype: bfloat16"),
        (7, 4, "dtype: bfloat16"),
        (6, 4, "more memory"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_they_are_loaded(room: int, item: int, says: str | None) -> None:
    """With both numbers, and bfloat16 where that is enough."""
    refusal = weights_exceed(14 * GIB, room * GIB, item)

    assert (refusal is None) == (says is None)
    assert refusal is None or (says in refusal and f"{room * 1024:,} MiB" in refusal)


def test_quantised_weights_are_named_where_they_are_not_quantised_yet() -> None:
    """By both refusals: of weights alone, and of all that a deployment asks for."""
    said = [
        (weights_exceed(14 * GIB, 6 * GIB, 2), NEEDS.refusal(LEFT_FREE)),
        (weights_exceed(14 * GIB, 6 * GIB, 2, quantised=True), replace(NEEDS, quantised=True).refusal(LEFT_FREE)),
    ]

    assert all("weights: int8" in (each or "") for each in said[0])
    assert not any("weights: int8" in (each or "") for each in said[1])


def test_plans_are_for_people() -> None:
    """MiB, of each part."""
    taken = MemoryUsed(weights=14 * GIB, slot=164 * MIB, slots=17, graphs=812 * MIB, free=60 * GIB)

    assert str(taken) == "weights 14,336 MiB, KV pool 17 slots of 164 MiB = 2,788 MiB, graphs 812 MiB, free 61,440 MiB"
    assert str(NEEDS) == "weights 14,336 MiB, KV pool 17 slots of 164 MiB = 2,788 MiB, graphs about 900 MiB"


def test_graphs_grow_with_the_batch() -> None:
    """A larger batch takes more, a decoder in four bytes about twice as much; nothing captured takes nothing."""
    sizes = DecoderConfig()
    by_batch = [
        graph_bytes(sizes, capture_shapes(328, 7, [1, 2, 8], [64, 320], most), capacity=328, hook_rows=70, item=2)
        for most in (1, 2, 8)
    ]
    shapes = capture_shapes(328, 7, [8], [320], 8)
    fp32, bf16 = (graph_bytes(sizes, shapes, capacity=328, hook_rows=70, item=item) for item in (4, 2))

    assert by_batch == sorted(set(by_batch))
    assert 1.5 < fp32 / bf16 < 2
    assert graph_bytes(sizes, [], capacity=328, hook_rows=70, item=2) == 0


def test_a_budget_that_is_proposed_holds_the_slots_that_are_promised() -> None:
    """In whole MiB, rounded up."""
    needs = replace(NEEDS, slot=164 * MIB + 1)
    refusal = needs.refusal(LEAST - MIB)

    assert refusal is not None
    assert "16 slots (reuse.kv_budget_mib: 2625)" in refusal


def test_buffers_are_counted_as_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what passes need in passing, and workspaces: what all shapes share, but for a few whole numbers."""
    monkeypatch.setattr(gpu_budget, "_temporaries", lambda *_: 0)
    config = DecoderConfig(97, 256, 512, 3, 4, 2)
    for dtype in (torch.float32, torch.bfloat16):
        shapes = capture_shapes(100, 7, [1, 4], [64], most=4)
        made = SharedBuffers(BufferSizes(256, 3, 100, 20, dtype, torch.device("cpu")), shapes).nbytes
        counted = graph_bytes(config, shapes, capacity=100, hook_rows=20, item=dtype.itemsize) - WORKSPACES

        assert counted == pytest.approx(made, rel=0.01)


def test_a_smaller_shape_takes_nothing_of_its_own() -> None:
    """What passes need in passing they share: the largest decides."""
    sizes = DecoderConfig()
    large, small = GraphShape(8, 329, 320, 7), GraphShape(1, 329, 64, 7)
    alone, both = (
        graph_bytes(sizes, shapes, capacity=328, hook_rows=70, item=2) for shapes in ([large], [small, large])
    )

    assert both == alone > graph_bytes(sizes, [small], capacity=328, hook_rows=70, item=2)

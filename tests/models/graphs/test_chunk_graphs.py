from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stillframe.domain import PassCounts
from stillframe.models.graphs.chunk_graphs import DrawsChunks, GraphedChunks
from stillframe.models.openvla.model import OpenVLA
from stillframe.models.pi0.model import Pi0
from stillframe.models.pi0.static_chunks import StaticChunks
from stillframe.models.registry import load_policy
from stillframe.reuse.kv import FrameKV, KVShape

GOLDENS = Path(__file__).parents[2] / "goldens" / "pi0"
CAPACITY, BATCHES, LENGTHS = 20, [1, 2, 4], (9, 20, 7, 12, 9)
CLOSE = {"rtol": 0, "atol": 1e-5}
Given = tuple[list[FrameKV], list[int], Tensor | None, Tensor]


@pytest.fixture(scope="module", params=["pi0", "pi05"])
def model(request: pytest.FixtureRequest) -> Pi0:
    """Ten steps over a micro network."""
    loaded = load_policy(GOLDENS / f"{request.param}-micro", dtype=torch.float32, device=torch.device("cpu"))
    assert isinstance(loaded, Pi0)
    return loaded


def given(model: Pi0, robots: Sequence[int]) -> Given:
    """What each robot's chunk is drawn of."""
    sizes = model.network.sizes
    shape = KVShape(sizes.decoder.num_hidden_layers, 1, sizes.decoder.head_dim, CAPACITY, torch.float32, model.device)
    seeds = [torch.Generator().manual_seed(robot) for robot in robots]
    caches = [FrameKV(shape.allocate().normal_(generator=seed)) for seed in seeds]
    noise = torch.stack([model.noise(robot) for robot in robots])
    states = None if sizes.adaptive else torch.stack([torch.randn(sizes.action_dim, generator=seed) for seed in seeds])
    return caches, [LENGTHS[robot] for robot in robots], states, noise


def captured(model: Pi0, player: Any) -> GraphedChunks:
    """For one, two and four robots."""
    return GraphedChunks(model.static_chunks(max(BATCHES), CAPACITY), BATCHES, player, PassCounts())


@pytest.mark.parametrize("robots", [[0], [1, 2], [2, 3, 0], [0, 1, 2, 3]], ids=len)
@torch.inference_mode()
def test_chunks_are_the_eager_ones(model: Pi0, house: Any, robots: list[int]) -> None:
    """Whatever was drawn before, prefixes of several lengths, the whole capacity too; padded to a captured batch."""
    graphs, inputs = captured(model, house.player), given(model, robots)
    graphs.replay(*given(model, [3, 2, 1, 0]), plain=True)
    found = graphs.replay(*inputs, plain=True)
    kept = found.clone() if found is not None else None
    graphs.replay(*given(model, [4]), plain=True)

    torch.testing.assert_close(found, model.network.draw(*inputs), **CLOSE)
    torch.testing.assert_close(found, kept, rtol=0, atol=0)
    assert (house.player.recorded, house.player.replayed) == (3, 3)
    assert graphs._counts == PassCounts(replays=3)


@torch.inference_mode()
def test_a_broken_frame_breaks_no_other(model: Pi0, house: Any) -> None:
    """NaN in one robot's prefix stays in its chunk; shorter prefixes in the same buffers know nothing of it."""
    graphs, inputs = captured(model, house.player), given(model, [1, 0])
    inputs[0][0]._storage.fill_(torch.nan)
    beside = graphs.replay(*inputs, plain=True)
    after = graphs.replay(*given(model, [2, 0]), plain=True)

    assert beside is not None
    assert beside[0].isnan().any()
    torch.testing.assert_close(beside[1:], model.network.draw(*given(model, [0])), **CLOSE)
    torch.testing.assert_close(after, model.network.draw(*given(model, [2, 0])), **CLOSE)


@torch.inference_mode()
def test_what_was_not_captured_is_drawn_eagerly(model: Pi0, house: Any) -> None:
    """Chunks that are held or looked at, and more robots than the largest batch; they are counted."""
    graphs = captured(model, house.player)

    assert graphs.replay(*given(model, [0]), plain=False) is None
    assert graphs.replay(*given(model, [0, 1, 2, 3, 4]), plain=True) is None
    assert (graphs._counts.eager["chunks"], graphs._counts.replays, house.player.replayed) == (2, 0, 0)


def test_bytes_are_those_of_the_keys_and_values(model: Pi0) -> None:
    """Of every robot's prefix and own rows."""
    buffers = model.static_chunks(3, CAPACITY)

    assert isinstance(buffers, StaticChunks)
    assert model.static_chunks_bytes(3, CAPACITY) == buffers._kv.nbytes
    assert buffers._kv.shape[2:5] == (3, 1, CAPACITY + model.network.state_rows + model.config.horizon)


def test_a_family_that_draws_chunks_says_so(model: Pi0, golden_model: OpenVLA) -> None:
    """And one that decodes tokens does not."""
    assert isinstance(model, DrawsChunks)
    assert not isinstance(golden_model, DrawsChunks)

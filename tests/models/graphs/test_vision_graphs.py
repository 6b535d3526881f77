from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stillframe.domain import PassCounts
from stillframe.models.graphs.vision_graphs import GraphedVision, HasVisionEncoder
from stillframe.models.openvla.model import OpenVLA

PICTURE = (3, 4, 4)


def look(pictures: Tensor) -> Tensor:
    """[n, 3, 4, 4] -> [n, 4, 12]: patches, each told of its picture's mean."""
    patches = pictures.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    return patches + pictures.mean(dim=(1, 2, 3))[:, None, None]


@pytest.fixture
def towers(house: Any) -> GraphedVision:
    """For one, two and four pictures."""
    return GraphedVision(look, PICTURE, [1, 2, 4], house.player, PassCounts(), torch.empty(0))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@torch.inference_mode()
def test_images_are_encoded_as_eagerly(towers: GraphedVision, number: int) -> None:
    """Padded or not, and whatever was seen before; what came out stays."""
    first, second = (torch.randn(number, *PICTURE) for _ in range(2))
    seen = towers(first)
    towers(second)

    assert torch.equal(seen, look(first))
    assert torch.equal(towers(second), look(second))
    assert towers._counts == PassCounts(replays=3)


@pytest.mark.parametrize(("number", "replayed"), [(1, 1), (2, 2), (3, 4), (4, 4)])
@torch.inference_mode()
def test_the_smallest_captured_batch_is_replayed(number: int, replayed: int) -> None:
    """As many pictures as there are, or the next more; captured from large to small, for one memory serves all."""
    seen: list[int] = []

    def counted(pictures: Tensor) -> Tensor:
        seen.append(len(pictures))
        return look(pictures)

    towers = GraphedVision(counted, PICTURE, [1, 4, 2], recorder, PassCounts(), torch.empty(0))
    assert seen == [4, 4, 2, 1]  # for the rows' shape, then to record
    assert len(towers(torch.randn(number, *PICTURE))) == number
    assert seen[4:] == [replayed]


def recorder(compute: Callable[[], None]) -> Callable[[], None]:
    """Warm up once."""
    compute()
    return compute


def test_bytes_are_of_what_goes_in_and_what_comes_out(towers: GraphedVision) -> None:
    """Of the largest number of pictures."""
    assert towers.nbytes == 4 * (4 * 3 * 4 * 4 + 4 * 4 * 12)


@torch.inference_mode()
def test_more_images_than_were_captured_are_encoded_eagerly(towers: GraphedVision) -> None:
    """And counted."""
    pictures = torch.randn(5, *PICTURE)

    assert torch.equal(towers(pictures), look(pictures))
    assert (towers._counts.replays, towers._counts.eager["pictures"]) == (0, 1)


def test_a_family_with_a_vision_encoder_says_so(golden_model: OpenVLA) -> None:
    """What its towers look at, so that they can be captured."""
    assert isinstance(golden_model, HasVisionEncoder)
    assert golden_model.image_shape == (6, *golden_model.info.image_size)

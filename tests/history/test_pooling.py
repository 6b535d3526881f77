from __future__ import annotations

import pytest
import torch

from stillframe.history.pooling import Pooling

NOISE = torch.Generator().manual_seed(3)
KEYS, VALUES = torch.randn(2, 3, 2, 12, 8, generator=NOISE).unbind(0)


def learnt(slots: int) -> Pooling:
    """A pooling with some opinion."""
    pooling = Pooling(3, 2, 8, slots)
    torch.nn.init.normal_(pooling.query, generator=torch.Generator().manual_seed(4))
    return pooling.requires_grad_(requires_grad=False)


def test_untrained_it_is_the_mean() -> None:
    """Of keys and values alike."""
    pooled = Pooling(3, 2, 8, 1).frame(KEYS, VALUES, 12)

    torch.testing.assert_close(pooled.keys[0, :, :, 0], KEYS.mean(2))
    torch.testing.assert_close(pooled.values[0, :, :, 0], VALUES.mean(2))


def test_keys_and_values_are_pooled_by_the_same_weights() -> None:
    """Whatever is learnt: pooled together, a key and its value stay together."""
    keys, values = learnt(2)(KEYS, KEYS + 1)

    torch.testing.assert_close(values, keys + 1)


def test_a_chunk_of_one_token_is_that_token() -> None:
    """So chunks of one token are the frame, verbatim."""
    pooled = learnt(1).frame(KEYS, VALUES, 1)

    assert torch.equal(pooled.keys[:, :, :, 0].permute(1, 2, 0, 3), KEYS)
    assert torch.equal(pooled.values[:, :, :, 0].permute(1, 2, 0, 3), VALUES)


def test_chunks_are_pooled_each_by_itself_in_order() -> None:
    """The second of three chunks of four is what its four tokens make."""
    pooling = learnt(2)
    pooled = pooling.frame(KEYS, VALUES, 4)
    keys, values = pooling(KEYS[:, :, 4:8], VALUES[:, :, 4:8])

    assert len(pooled) == 3
    torch.testing.assert_close(pooled.keys[1], keys)
    torch.testing.assert_close(pooled.values[1], values)


def test_one_layer_alone_is_that_layer_of_all() -> None:
    """As training asks for it."""
    pooling = learnt(2)
    every = pooling(KEYS, VALUES)

    torch.testing.assert_close(pooling(KEYS[1], VALUES[1], layer=1)[0], every[0][1])


def test_a_frame_that_is_no_whole_number_of_chunks_is_refused() -> None:
    """Twelve tokens are not chunks of five."""
    with pytest.raises(ValueError, match="12 tokens are not chunks of 5"):
        learnt(1).frame(KEYS, VALUES, 5)

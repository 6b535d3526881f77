from __future__ import annotations

import pytest
import torch

from stillframe.models.llama.attention_backend import MaskedAttention
from stillframe.models.llama.decoder import Attention
from stillframe.models.llama.rotary import Rotary
from stillframe.models.pi0.gemma import GemmaConfig
from stillframe.models.pi0.shared_key import SharedKeyAttention

SIZES = GemmaConfig(0, 24, 32, 1, 4, 1, 64, head_width=8)
PLACES = torch.arange(5, 12)


@pytest.mark.parametrize("fused", [False, True])
@torch.inference_mode()
def test_it_is_the_decoders_attention(*, fused: bool) -> None:
    """Of the same weights the same rows as grouped-query attention with one key head gives, of one product or three."""
    torch.manual_seed(1)
    general, own = Attention(SIZES), SharedKeyAttention(SIZES)
    own.load_state_dict(general.state_dict())
    rows, rotary = torch.randn(3, len(PLACES), 24), Rotary.at(PLACES, 8, SIZES.rope_theta, torch.float32)
    seen = MaskedAttention(PLACES, torch.rand(len(PLACES), len(PLACES)).lt(0.7) | torch.eye(len(PLACES)).bool())
    expected = general(rows, 0, rotary, seen, None)
    if fused:
        own.fuse()

    torch.testing.assert_close(own(rows, 0, rotary, seen), expected, rtol=0, atol=1e-6)
    assert ("qkv_proj.weight" in own.state_dict(), "q_proj.weight" in own.state_dict()) == (fused, not fused)


def test_every_part_of_it_learns() -> None:
    """Until it is fused a gradient reaches each projection."""
    own, rotary = SharedKeyAttention(SIZES), Rotary.at(PLACES, 8, SIZES.rope_theta, torch.float32)
    own(torch.randn(2, len(PLACES), 24), 0, rotary, MaskedAttention(PLACES, None)).square().sum().backward()

    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in own.parameters())

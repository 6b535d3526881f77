from __future__ import annotations

import torch

from stillframe.models.decoder import Decoder, DecoderConfig
from stillframe.models.greedy import decode_greedily
from stillframe.models.passes import run_rows
from stillframe.reuse.kv import FrameKV, KVShape

CONFIG = DecoderConfig(61, 32, 48, 2, 4, 2)
PROMPT = 9


@torch.inference_mode()
def test_each_token_is_the_likeliest_after_those_before_it() -> None:
    """Greedy tokens are what whole passes over prompt and tokens so far would choose, one by one."""
    torch.manual_seed(3)
    decoder = Decoder(CONFIG).eval()
    rows = torch.randn(PROMPT, CONFIG.hidden_size)
    cache = storage(PROMPT + 5)
    hidden = run_rows(decoder, rows, torch.arange(PROMPT), cache)
    ids = decode_greedily(decoder, hidden[-1], range(PROMPT, PROMPT + 5), cache)
    expected: list[int] = []
    for _ in range(5):
        whole = torch.cat((rows, decoder.embed(torch.tensor(expected, dtype=torch.long))))
        last = run_rows(decoder, whole, torch.arange(len(whole)), storage(len(whole)))[-1]
        expected.append(int(decoder.logits(last).argmax()))

    assert ids.tolist() == expected
    assert len(set(expected)) > 1
    assert cache.length == PROMPT + 4


def storage(capacity: int) -> FrameKV:
    """Empty storage for CONFIG."""
    return FrameKV(KVShape(2, 2, 8, capacity, torch.float32, torch.device("cpu")).allocate())

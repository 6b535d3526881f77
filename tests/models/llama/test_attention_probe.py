from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from stillframe.models.llama.attention_probe import TextAttentionProbe
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import prompt_slice
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.relevance import Relevance

LAYERS = 3
CPU = torch.device("cpu")
ONE = TokenLayout({"front": range(1, 10)}, (3, 3), text=range(10, 14), action=range(14, 21))
TWO = TokenLayout({"front": range(1, 5), "wrist": range(5, 9)}, (2, 2), text=range(9, 12), action=range(12, 19))
# A row each before the cameras, between them and the text, and behind it.
ODD = TokenLayout({"front": range(2, 6), "wrist": range(6, 10)}, (2, 2), text=range(11, 14), action=range(15, 22))
LAYOUTS = {"one": ONE, "two": TWO, "odd": ODD}


class Pair:
    """A decoder and the oracle with the same weights, whose attention maps can be read."""

    def __init__(self, kv_heads: int):
        torch.manual_seed(6)
        self.config = DecoderConfig(61, 32, 48, LAYERS, 4, kv_heads)
        sizes = {name: getattr(self.config, name) for name in self.config.__dataclass_fields__ if name != "rope_theta"}
        rope = {"rope_type": "default", "rope_theta": self.config.rope_theta}
        oracle = LlamaConfig(**sizes, rope_parameters=rope, initializer_range=0.3, attn_implementation="eager")
        self.oracle = LlamaForCausalLM(oracle).eval()
        self.ours = Decoder(self.config).eval()
        self.ours.load_state_dict(self.oracle.state_dict(), strict=True)

    def rows(self, layout: TokenLayout, seed: int = 0) -> Tensor:
        """A prompt."""
        random = torch.Generator().manual_seed(seed)
        return torch.randn(layout.prompt_rows, self.config.hidden_size, generator=random)

    def storage(self, layout: TokenLayout) -> FrameKV:
        """For one frame."""
        shape = KVShape(
            LAYERS, self.config.num_key_value_heads, self.config.head_dim, layout.total_rows, torch.float32, CPU
        )
        return FrameKV(shape.allocate())

    def tapped(
        self, layout: TokenLayout, rows: Tensor, hook: TextAttentionProbe, plan: ReusePlan | None = None
    ) -> Relevance:
        """What the probe finds after a pass, over storage that a pass over the same rows left."""
        whole, kv = ReusePlan.whole(layout.prompt_rows, LAYERS, len(layout.patch_positions), CPU), self.storage(layout)
        DecoderRunner(self.ours).prefill(rows, whole, kv)
        DecoderRunner(self.ours).prefill(rows, plan or whole, kv, hook)
        return hook.relevance(kv)

    def maps(self, layout: TokenLayout, rows: Tensor) -> list[Tensor]:
        """The oracle's attention of the text to the patches, mean over heads: layer -> [text, patch tokens]."""
        maps = self.oracle.model(inputs_embeds=rows[None], use_cache=False, output_attentions=True).attentions
        return [each[0].mean(0)[list(layout.text)][:, list(layout.patch_positions)] for each in maps]


@pytest.fixture(scope="module", params=[4, 2, 1], ids=["all-heads", "grouped", "one-kv-head"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """Every way to share keys."""
    with torch.inference_mode():
        return Pair(request.param)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@torch.inference_mode()
def test_scores_are_the_oracles_attention_maps(pair: Pair, layout: TokenLayout) -> None:
    """Mean over text rows, heads and layers, for every camera's patches in the layout's order; no map is made."""
    rows = pair.rows(layout)
    found = pair.tapped(layout, rows, TextAttentionProbe(pair.ours, layout, [], every_layer=False))
    expected = torch.stack([each.mean(0) for each in pair.maps(layout, rows)]).mean(0)

    assert found.scores.shape == (len(layout.patch_positions),)
    torch.testing.assert_close(found.scores, expected, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_entropies_are_those_of_the_oracles_maps(pair: Pair) -> None:
    """A number a layer, of each text row's shares among the patches."""
    rows = pair.rows(TWO)
    found = pair.tapped(TWO, rows, TextAttentionProbe(pair.ours, TWO, [], every_layer=True))
    shares = [each / each.sum(-1, keepdim=True) for each in pair.maps(TWO, rows)]
    expected = torch.stack([-(each * each.log()).sum(-1).mean() for each in shares])

    torch.testing.assert_close(found.entropies, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("chosen", [[0], [2], [2, 0]])
@pytest.mark.parametrize("every_layer", [True, False])
@torch.inference_mode()
def test_chosen_layers_alone_give_scores(pair: Pair, chosen: list[int], *, every_layer: bool) -> None:
    """The others are looked at only where their entropies are asked for."""
    rows = pair.rows(ONE)
    found = pair.tapped(ONE, rows, TextAttentionProbe(pair.ours, ONE, chosen, every_layer=every_layer))
    maps = pair.maps(ONE, rows)

    assert len(found.entropies) == (LAYERS if every_layer else len(chosen))
    expected = torch.stack([maps[layer].mean(0) for layer in chosen]).mean(0)
    torch.testing.assert_close(found.scores, expected, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_a_thinned_pass_finds_its_text_all_the_same(pair: Pair) -> None:
    """Rows that dropped out move the text among those that are left; reused keys are looked at like new ones."""
    rows = pair.rows(ODD)
    nothing = torch.zeros(8, dtype=torch.bool)
    plan = ReusePlan(ODD.prompt_rows, torch.tensor([0, 6, 2, 3]), (1, 2, 4), torch.tensor([4, 1, 2]), nothing, nothing)
    thinned = pair.tapped(ODD, rows, TextAttentionProbe(pair.ours, ODD, [], every_layer=True), plan)
    dense = pair.tapped(ODD, rows, TextAttentionProbe(pair.ours, ODD, [], every_layer=True))

    torch.testing.assert_close(thinned.scores, dense.scores, rtol=0, atol=1e-6)
    torch.testing.assert_close(thinned.entropies, dense.entropies, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("layout", "rows"), [(ONE, 4), (TWO, 3), (ODD, 4)])
def test_a_probe_needs_the_rows_from_the_text_on(pair: Pair, layout: TokenLayout, rows: int) -> None:
    """Of the prompt's last, what stands between the text and the action included."""
    assert TextAttentionProbe(pair.ours, layout, [], every_layer=False).text_rows == rows


@torch.inference_mode()
def test_probed_rows_are_kept_until_relevance_is_asked_for(pair: Pair) -> None:
    """The pass's own rows may be gone by then: what the probe keeps are copies, of the text's rows alone."""
    rows, hook = pair.rows(TWO), TextAttentionProbe(pair.ours, TWO, [0], every_layer=False)
    kv = pair.storage(TWO)
    whole = ReusePlan.whole(TWO.prompt_rows, LAYERS, 8, CPU)
    DecoderRunner(pair.ours).prefill(rows, whole, kv)
    expected = pair.maps(TWO, rows)[0].mean(0)
    hook(0, rows)
    rows.zero_()

    torch.testing.assert_close(hook.relevance(kv).scores, expected, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_queries_are_turned_by_their_absolute_positions(pair: Pair) -> None:
    """The same rows ask for something else elsewhere: a score that forgot rotation would not."""
    rows = pair.rows(ONE)[:2]
    near = pair.ours.model.queries(1, rows, torch.tensor([0, 1]))
    far = pair.ours.model.queries(1, rows, torch.tensor([7, 8]))

    assert near.shape == (4, 2, 8)
    assert (near - far).abs().max() > 1e-3
    torch.testing.assert_close(near.square().sum(-1).sqrt(), far.square().sum(-1).sqrt(), rtol=0, atol=1e-5)
    assert float(near.abs().max()) < 100 * sqrt(8)


@torch.inference_mode()
def test_where_all_rows_attend_to_all_the_text_and_the_action_look(pair: Pair) -> None:
    """At every key, those behind them included: what the oracle's attention maps under a full mask say."""
    layout = TokenLayout(
        {"front": range(1, 5), "wrist": range(5, 9)}, (2, 2), text=range(10, 13), action=range(13, 17),
        state=range(9, 10), tail=range(17, 18), mask=Mask.BIDIRECTIONAL,
    )  # fmt: skip
    rows, kv = pair.rows(layout), pair.storage(layout)
    hook = TextAttentionProbe(pair.ours, layout, [], every_layer=False)
    whole = ReusePlan.whole(layout.prompt_rows, LAYERS, 8, CPU)
    DecoderRunner(pair.ours).forward([prompt_slice(pair.ours, rows, whole, kv, hook, mask=layout.mask)])
    full = torch.zeros(1, 1, 18, 18)
    maps = pair.oracle.model(inputs_embeds=rows[None], attention_mask=full, use_cache=False, output_attentions=True)
    looked = [each[0].mean(0)[10:17, 1:9].mean(0) for each in maps.attentions]

    torch.testing.assert_close(hook.relevance(kv).scores, torch.stack(looked).mean(0), rtol=0, atol=1e-6)
    assert hook.text_rows == 8

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from stillframe.models.llama.attention_backend import MaskedAttention
from stillframe.models.llama.decoder import Decoder
from stillframe_lab.train.new_checkpoint import fresh_network
from stillframe_lab.train.recipe import Recipe
from stillframe_lab.train.sequences import SharedPrefix

PATCHES = 9
PROMPTS = ((1, 40, 3, 8, 41, 2), (1, 40, 5, 4, 6, 7, 9, 41, 2), (1, 2))


def alone(decoder: Decoder, patches: Tensor, prompt: tuple[int, ...], actions: Tensor) -> Tensor:
    """One instruction as the daemon runs it: [BOS] [patches] [text] [six action tokens] -> hidden rows."""
    text, fed = decoder.embed(torch.tensor(prompt)), decoder.embed(actions[:-1])
    rows = torch.cat((text[:1], patches, text[1:], fed))
    positions = torch.arange(len(rows))
    hidden: Tensor = decoder.model(rows, MaskedAttention(positions, torch.ones(len(rows), len(rows)).bool().tril()))
    return hidden


@torch.inference_mode()
def test_every_branch_sees_what_it_would_see_alone(recipe: Recipe) -> None:
    """Sharing the picture's rows changes no instruction's hidden rows: this is what makes the training valid."""
    torch.manual_seed(0)
    decoder = fresh_network(recipe).language_model
    sequence = SharedPrefix.build(PROMPTS, PATCHES)
    patches, actions = torch.randn(PATCHES, recipe.width), torch.randint(64, 320, (1, len(PROMPTS), 7))
    suffix = decoder.embed(sequence.with_actions(actions)[0])
    rows = torch.cat((decoder.embed(torch.tensor([1])), patches, suffix))
    shared = decoder.model(rows, MaskedAttention(sequence.positions, sequence.mask))

    for branch, prompt in enumerate(PROMPTS):
        expected = alone(decoder, patches, prompt, actions[0, branch])
        ours = shared[sequence.predicting[branch]]
        torch.testing.assert_close(ours, expected[-7:], rtol=0, atol=1e-5)
        torch.testing.assert_close(shared[: 1 + PATCHES], expected[: 1 + PATCHES], rtol=0, atol=1e-5)


def test_the_mask_keeps_branches_apart() -> None:
    """A row sees the prefix and the earlier rows of its own branch, and nobody of another branch."""
    sequence = SharedPrefix.build(PROMPTS, PATCHES)
    ends = [1 + PATCHES]
    for prompt in PROMPTS:
        ends.append(ends[-1] + len(prompt) - 1 + 6)

    assert sequence.mask.shape == (ends[-1], ends[-1])
    assert torch.equal(sequence.mask[: ends[0], : ends[0]], torch.ones(ends[0], ends[0], dtype=torch.bool).tril())
    assert not sequence.mask[: ends[0], ends[0] :].any()
    for start, stop in itertools.pairwise(ends):
        own = sequence.mask[start:stop]
        assert own[:, : ends[0]].all()
        assert torch.equal(own[:, start:stop], torch.ones(stop - start, stop - start, dtype=torch.bool).tril())
        assert not own[:, ends[0] : start].any()
        assert not own[:, stop:].any()


def test_positions_are_those_of_the_instruction_alone() -> None:
    """Every branch begins right behind the patches."""
    sequence = SharedPrefix.build(PROMPTS, PATCHES)
    starts = (sequence.text_end - torch.tensor([len(prompt) - 2 for prompt in PROMPTS])).tolist()

    assert sequence.positions[: 1 + PATCHES].tolist() == list(range(1 + PATCHES))
    assert sequence.positions[starts].tolist() == [1 + PATCHES] * len(PROMPTS)
    assert sequence.positions[sequence.predicting[1]].tolist() == list(range(PATCHES + 8, PATCHES + 15))


def test_action_tokens_land_behind_their_text() -> None:
    """The first six tokens of each branch are fed back; the seventh only ever is predicted."""
    sequence = SharedPrefix.build(PROMPTS, PATCHES)
    actions = torch.arange(2 * 3 * 7).view(2, 3, 7) + 100
    ids = sequence.with_actions(actions)
    expected: list[list[int]] = [[], []]
    for row, picture in zip(expected, actions, strict=True):
        for prompt, tokens in zip(PROMPTS, picture, strict=True):
            row += [*prompt[1:], *tokens[:6].tolist()]

    assert ids.tolist() == expected
    assert sequence.ids.max() < 100

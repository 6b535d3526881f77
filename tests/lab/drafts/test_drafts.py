"""Frames decoded by exact and strict drafts, by hand; sums by halves; the figures and their page; an episode."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stillframe.domain import ActionChunk
from stillframe.errors import ConfigError
from stillframe.models.base import Decoded, PolicyModel, Prefilled, Prepared
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.layout import TokenLayout
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.llama.speculative import speculative_decode
from stillframe.models.llama.weight_packing import PackedLinear, pack_for_inference
from stillframe.models.registry import load_policy
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.reuse.settings import ReuseSettings
from stillframe_client.sim import JacoEnv
from stillframe_lab.drafts.comparison import ComparedFrame, compared
from stillframe_lab.drafts.report import figures, instructions, page, run_drafts
from stillframe_lab.drafts.summation import HalvedSum, halve_sums
from stillframe_lab.evaluation.evaluate import Evaluation

CPU = torch.device("cpu")
WORDS = 6
SAME = ComparedFrame(
    exact_passes=1,
    strict_passes=2,
    right=True,
    bit_equal=False,
    bins=0,
    behind=None,
    rounding=None,
    leads=(1.0, 3.0),
    moved=(0.0, 0.5),
)
OTHER = replace(
    SAME, exact_passes=3, strict_passes=5, right=False, bins=2, behind=0.25, rounding=0.5, leads=(0.0, 0.0), moved=()
)


class Scripted:
    """A decoder whose hidden rows are logits, and whose embedded rows are token ids."""

    batch_invariant = False
    max_head_norm = 1e6  # no lead is decisive

    def logits(self, hidden: Tensor) -> Tensor:
        """As they are."""
        return hidden

    def embed(self, ids: Tensor) -> Tensor:
        """As they are."""
        return ids[:, None].float()


@dataclass(frozen=True)
class Running:
    """As much of a DecoderRunner as is asked for."""

    decoder: Any
    forward: Callable[[Sequence[SequenceSlice]], list[Tensor]]


def logits(**leads: float) -> Tensor:
    """A row [1, WORDS] of logits: `w3=2.0` is what word 3 has, the others have none."""
    row = torch.zeros(1, WORDS)
    for word, value in leads.items():
        row[0, int(word[1:])] = value
    return row


def decoded(early: Sequence[Tensor], late: Sequence[Tensor], ids: Sequence[int]) -> ComparedFrame:
    """Compare a frame whose prefill says `early` of its tokens, and later passes `late` of all but the first."""
    runner = Running(Scripted(), lambda sequences: [torch.cat([*late]) for _ in sequences])
    layout = TokenLayout({}, (0, 0), range(4, 4), range(4, 4 + len(ids)))
    prepared = Prepared({}, torch.empty(0), torch.empty(0), layout, "", no_motion_tokens=np.array(ids))
    kv = FrameKV(KVShape(1, 1, 2, 1, torch.float32, CPU).allocate())
    frame = Prefilled(prepared, torch.cat([*early]), kv, Draft(np.array(ids)))
    (result,) = speculative_decode(runner, [frame])  # type: ignore[arg-type]  # as much of a decoder as is asked
    chunk = ActionChunk(np.zeros((1, 1)), "", result.ids)
    return compared(runner, frame, Decoded(chunk, chunk.actions, result.passes, bit_equal=result.bit_equal))  # type: ignore[arg-type]  # likewise


def test_what_rounds_otherwise_is_found_by_hand() -> None:
    """Exact takes the prefill's 2, 3, 4; later passes say 2, 5, 1, the first of them half a logit before exact's."""
    early = [logits(w2=9.0), logits(w3=9.0), logits(w4=9.0)]
    found = decoded(early, [logits(w5=2.0, w3=1.5), logits(w1=1.0)], [2, 3, 4])

    assert (found.exact_passes, found.strict_passes, found.right, found.bit_equal) == (1, 3, True, False)
    assert (found.bins, found.behind, found.leads) == (3, 0.5, (0.5, 1.0))
    assert found.moved == (9.5, 10)  # word 3 by 7.5 against word 5 by -2; word 4 by 9 against word 1 by -1
    assert found.rounding == pytest.approx(0.5 / (torch.finfo(torch.float32).eps * 1e6 * 2.5))


def test_a_tie_that_goes_to_another_is_a_difference() -> None:
    """Of nought: of two that are equally likely the first is taken."""
    early = [logits(w2=9.0), logits(w3=9.0), logits(w4=9.0)]
    found = decoded(early, [logits(w1=2.0, w3=2.0), logits(w4=9.0)], [2, 3, 4])

    assert (found.bins, found.behind, found.rounding) == (2, 0, 0)


def test_what_rounds_alike_is_no_difference() -> None:
    """Both answer the same, in a pass more where it is strict."""
    early = [logits(w2=9.0), logits(w3=9.0), logits(w4=9.0)]
    found = decoded(early, early[1:], [2, 3, 4])

    assert (found.exact_passes, found.strict_passes, found.bins, found.behind) == (1, 2, 0, None)
    assert found.moved == (0, 0)
    wrong = decoded(early, early[1:], [2, 4, 4])
    assert (wrong.right, wrong.moved) == (False, (0,))
    assert decoded(early, early[1:], [5, 3, 4]).moved == ()


class Unasked(nn.Linear):
    """A linear layer that may be asked for many rows alone."""

    def forward(self, rows: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        assert len(rows) > 2
        return super().forward(rows)


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("width", [4, 7])
def test_few_rows_are_summed_up_by_halves(width: int, *, rounded: bool) -> None:
    """The same product, of whole numbers, in which no order of a sum shows; many rows are the layer's own."""
    layer = Unasked(width, 3, bias=False)
    layer.weight = nn.Parameter(torch.arange(3.0 * width).view(3, width), requires_grad=False)
    halved, rows = HalvedSum(layer, 2, rounded=rounded), torch.arange(5.0 * width).view(5, width)

    assert torch.equal(halved(rows[:2]), rows[:2] @ layer.weight.t())
    assert torch.equal(halved(rows), layer(rows))
    assert halved.weight is layer.weight


@pytest.mark.parametrize(("rounded", "total"), [(False, 258.0), (True, 256.0)])
def test_halves_are_rounded_first_where_asked(total: float, *, rounded: bool) -> None:
    """Of bfloat16's numbers 258 follows 256: 257 and 1 are 258, but of 257 rounding leaves 256, and of that and 1."""
    layer = nn.Linear(4, 1, bias=False, dtype=torch.bfloat16)
    layer.weight = nn.Parameter(torch.ones(1, 4, dtype=torch.bfloat16), requires_grad=False)
    rows = torch.tensor([[256.0, 1.0, 1.0, 0.0]], dtype=torch.bfloat16)

    assert HalvedSum(layer, 1, rounded=rounded)(rows).item() == total


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_product_of_a_decoder_is_halved(dtype: torch.dtype) -> None:
    """Packed ones too, with the numbers that they hold; it is then not taken for batch invariant."""
    decoder = Decoder(DecoderConfig(32, 16, 24, 2, 2, 2)).to(dtype).requires_grad_(requires_grad=False).eval()
    whole = nn.Linear(16, 16, bias=False, dtype=dtype)
    whole.weight = nn.Parameter(torch.eye(16, dtype=dtype), requires_grad=False)
    decoder.model.layers[0].self_attn.o_proj = whole
    decoder.batch_invariant = True
    pack_for_inference(decoder)
    halve_sums(decoder, 6, rounded=False)
    rows, products = torch.arange(32.0).view(2, 16).to(dtype), [*decoder.modules()]

    assert torch.equal(decoder.model.layers[0].self_attn.o_proj(rows), rows)
    own = [module.linear for module in products if isinstance(module, HalvedSum)]
    assert own == [module for module in products if isinstance(module, nn.Linear | PackedLinear)]
    assert len(own) == 1 + 2 * 5  # the head; q, k and v, o, gate and up, down
    assert not decoder.batch_invariant


def test_figures_by_hand() -> None:
    """Passes of all frames and of those whose guesses were right; how far apart those are that differ."""
    found = figures([SAME, SAME, SAME, replace(OTHER, bit_equal=True)])

    assert (found["frames"], found["right"], found["others"]) == (4, 3, 1)
    assert (found["passes"], found["right_passes"]) == ({"exact": 1.5, "strict": 2.75}, {"exact": 1, "strict": 2})
    assert (found["bit_equal"], found["others_called_bit_equal"]) == (1, 1)
    assert (found["behind"], found["behind_rounding"]) == ({"p50": 0.25, "max": 0.25}, {"p50": 0.5, "max": 0.5})
    assert (found["bins"], found["leads"]["p50"]) == ({"p50": 2, "max": 2}, 1)
    assert (found["verified"], found["moved"], found["moved_logits"]) == (6, 3, {"p50": 0.5, "max": 0.5})


MADE = {"policy": "p", "dtype": "bfloat16", "device": "cpu", "task": "pick", "episodes": 2, "seed": 7, "reuse": "off"}
MADE |= {"tokens": 7, "cpu": "a CPU", "cores": 2, "instructions": "AVX2", "torch": "2"}
PLAYED = {"wins": 2, "episodes": 2, "success": 1.0, "success_ci95": [0.3, 1.0]}


def test_the_page_has_every_figure() -> None:
    """A column for each way to take sums, with a dash where there is none."""
    ways = {"halves": [SAME, SAME, SAME, OTHER], "halves, rounded": [OTHER]}
    text = page({"made_with": MADE, "sums": {way: {**PLAYED, **figures(frames)} for way, frames in ways.items()}})

    assert "| sums | halves | halves, rounded |" in text
    assert "| frames with other tokens | 1 of 4 = 25.00 % | 1 of 1 = 100.00 % |" in text
    assert "| passes, exact / strict | 1.50 / 2.75 | 3.00 / 5.00 |" in text
    assert "| passes of these, exact / strict | 1.00 / 2.00 | - / - |" in text
    assert "| rows that moved | 3 of 6 = 50.00 % | - |" in text
    assert "| behind, logits: median / most | 0.2500 / 0.2500 | 0.2500 / 0.2500 |" in text


def test_the_page_that_ships_is_its_results() -> None:
    """README.md is made of results.json."""
    folder = Path(__file__).parents[3] / "docs" / "drafts"

    assert (folder / "README.md").read_text() == page(json.loads((folder / "results.json").read_text()))


def test_the_instructions_begin_with_what_torch_takes_the_processor_for() -> None:
    """And go on with what it multiplies bfloat16 by, where there is such."""
    assert instructions().split(", ")[0] == torch.backends.cpu.get_cpu_capability()


class Reporter:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def stage(self, line: str) -> None:
        """Never called."""
        self.lines.append(line)

    def expect(self, cells: int) -> None:
        """So many episodes."""
        self.lines.append(cells)

    def played(self, cell: str) -> None:
        """One of them."""
        self.lines.append(cell)


TINY = Path(__file__).parents[3] / "checkpoints" / "jaco-tiny"


@pytest.mark.usefixtures("scenes")
def test_an_episode_is_played_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every frame that the arm was answered, and none of the warm-up; what is called equal to the bit is."""
    seen, told = [], Reporter()
    monkeypatch.setattr("stillframe_lab.evaluation.evaluate.JacoEnv", partial(JacoEnv, max_steps=3))

    def load() -> PolicyModel:
        seen.append(load_policy(TINY, dtype=torch.bfloat16, device=CPU))
        seen[-1].decoder.batch_invariant = True
        return seen[-1]

    run_drafts(Evaluation("reach", 1, 1000, hz=5), load, ReuseSettings(), tmp_path / "out", told)
    document = json.loads((tmp_path / "out" / "results.json").read_text())

    assert told.lines == [2, "halves, seed 1000", "halves, rounded, seed 1000"]
    assert [model.decoder.batch_invariant for model in seen] == [False, False]
    for own in document["sums"].values():
        assert own["verified"] >= own["moved"]
        assert own["others_called_bit_equal"] == 0
        assert 1 <= own["passes"]["exact"] <= 7
    assert (tmp_path / "out" / "README.md").read_text() == page(document)


def test_a_policy_without_tokens_is_refused(tmp_path: Path) -> None:
    """There is nothing to compare, and nothing is written."""
    chunked = TINY.with_name("jaco-tiny-oft")
    with pytest.raises(ConfigError, match=r"jaco-tiny-oft decodes no tokens; expected a policy that does"):
        run_drafts(
            Evaluation("pick", 1, 0),
            partial(load_policy, chunked, dtype=torch.float32, device=CPU),
            ReuseSettings(),
            tmp_path / "out",
            Reporter(),
        )
    assert not (tmp_path / "out").exists()

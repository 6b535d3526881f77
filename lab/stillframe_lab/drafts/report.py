"""`stillframe eval --drafts`: play, compare, and write results.json and README.md made of it.

Knows comparisons and their figures; no option of the command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.tools.machine import machine
from stillframe_client.sim.rollout import Episode
from stillframe_lab.drafts.comparison import ComparedFrame, DraftActor
from stillframe_lab.drafts.summation import halve_sums
from stillframe_lab.evaluation.evaluate import Evaluation, evaluate, wilson
from stillframe_lab.evaluation.page import number, success, table, write_json

HEAD = """\
# Exact and strict drafts, side by side

Made by `stillframe eval --drafts`. {policy} in {dtype} on {device}, task {task}, {episodes} episodes from seed {seed}
on, reuse {reuse}; {cpu}, {cores} cores ({instructions}), torch {torch}. Every figure is in
[results.json](results.json).

The arm plays what exact answers. Each frame is decoded a second time by strict drafts, over the same prefill and from
the same guesses.

{sums}
"""
OWN_SUMS = "This machine's decoder is not batch invariant: passes of different shapes round differently by themselves."
HALVED_SUMS = """\
This machine's decoder is batch invariant, so that both would answer the same to the bit. Here the products of passes
over guesses alone are summed up by halves instead, in float32 and rounded once, as kernels do that split sums; the
prefill's are the machine's own."""
READING = """\
## How to read it

- **passes**: of the decoder for an action, its prefill among them. Without guesses it takes {tokens}.
- **other tokens**: frames whose answer by strict drafts differs, in any token. What follows on a token that differs
  may differ for that reason alone.
- **behind**: in the first token that a pass without guesses would have chosen otherwise, by how many logits exact's
  token is behind the likeliest. In **units of rounding**, eps |hidden row| |head's longest row|, strict takes a lead of
  1 in bfloat16 and of 256 in float32 for decisive. **leads**: those of the likeliest over the second, in every frame.
- **bins apart**: the furthest two tokens of one number of the action, of 256 bins.
- Success is of few episodes, and of exact alone.
"""


def run_drafts(
    plan: Evaluation, model: PolicyModel, reuse: ReuseSettings, out: Path, watch: Callable[[Episode], None]
) -> None:
    """Play the episodes, then write results.json and README.md into `out`."""
    halved = model.decoder.batch_invariant
    if halved:
        halve_sums(model.decoder, most_rows=model.answer_rows - 1)
    actor = DraftActor(model, reuse)
    played = evaluate(plan, actor, watch)
    wins = sum(episode.success for episode in played)
    document = {
        "made_with": {
            "policy": model.info.name,
            "dtype": model.info.dtype,
            "device": model.info.device,
            "task": plan.task,
            "episodes": plan.episodes,
            "seed": plan.seed,
            "reuse": reuse.mode,
            "sums": "halved" if halved else "own",
            "tokens": model.answer_rows,
            **machine(),
            "instructions": instructions(),
            "torch": torch.__version__,
        },
        "wins": wins,
        "episodes": len(played),
        "success": wins / len(played),
        "success_ci95": wilson(wins, len(played)),
        **figures(actor.compared),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", document)
    (out / "README.md").write_text(page(document), encoding="utf-8")


def instructions() -> str:
    """What torch takes this processor for, and what it multiplies bfloat16 by."""
    has = {"AMX": torch.cpu._is_amx_tile_supported(), "avx512_bf16": torch.cpu._is_avx512_bf16_supported()}
    return ", ".join([torch.backends.cpu.get_cpu_capability(), *(name for name, there in has.items() if there)])


def figures(frames: Sequence[ComparedFrame]) -> dict[str, Any]:
    """What the comparisons come to. Null where there is nothing to take a figure of."""
    others, right = [frame for frame in frames if frame.bins], [frame for frame in frames if frame.right]
    leads = [lead for frame in frames for lead in frame.leads]
    return {
        "frames": len(frames),
        "passes": _passes(frames),
        "right": len(right),
        "right_passes": _passes(right),
        "bit_equal": sum(frame.bit_equal for frame in frames),
        "others": len(others),
        "others_called_bit_equal": sum(frame.bit_equal for frame in others),
        "behind": _spread([frame.behind for frame in others if frame.behind is not None]),
        "behind_rounding": _spread([frame.rounding for frame in others if frame.rounding is not None]),
        "bins": _spread([frame.bins for frame in others]),
        "leads": {f"p{share}": _percentile(leads, share) for share in (1, 10, 50)},
    }


def page(document: Mapping[str, Any]) -> str:
    """The whole README.md."""
    made, frames = document["made_with"], document["frames"]
    sums = HALVED_SUMS if made["sums"] == "halved" else OWN_SUMS
    rows = [
        ("frames", str(frames)),
        ("passes, exact / strict", _both(document["passes"])),
        ("frames whose guesses were all right", _share(document["right"], frames)),
        ("passes of these, exact / strict", _both(document["right_passes"])),
        ("frames that exact calls equal to the bit", _share(document["bit_equal"], frames)),
        ("frames with other tokens", _share(document["others"], frames)),
        ("of these called equal to the bit", str(document["others_called_bit_equal"])),
        ("behind, logits: median / most", _middle_and_most(document["behind"], 4)),
        ("behind, units of rounding: median / most", _middle_and_most(document["behind_rounding"], 4)),
        (
            "leads, logits: 1 % / 10 % / 50 % are below",
            " / ".join(number(one, 3) for one in document["leads"].values()),
        ),
        ("bins apart: median / most", _middle_and_most(document["bins"], 0)),
        ("success of exact", success(document)),
    ]
    head = HEAD.format(**{**made, "sums": sums})
    return "\n".join((head, f"## Figures\n\n{table(('', 'figure'), rows)}", READING.format(**made)))


def _passes(frames: Sequence[ComparedFrame]) -> dict[str, float | None]:
    counts = {
        "exact": [frame.exact_passes for frame in frames],
        "strict": [frame.strict_passes for frame in frames],
    }
    return {mode: float(np.mean(own)) if own else None for mode, own in counts.items()}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": _percentile(values, 50), "max": _percentile(values, 100)}


def _percentile(values: Sequence[float], share: int) -> float | None:
    return float(np.percentile(values, share)) if values else None


def _both(passes: Mapping[str, float | None]) -> str:
    return f"{number(passes['exact'], 2)} / {number(passes['strict'], 2)}"


def _middle_and_most(spread: Mapping[str, float | None], digits: int) -> str:
    return f"{number(spread['p50'], digits)} / {number(spread['max'], digits)}"


def _share(count: int, frames: int) -> str:
    return f"{count} of {frames} = {100 * count / frames:.2f} %"

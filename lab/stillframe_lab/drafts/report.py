"""`stillframe study drafts`: play, compare, and write results.json and README.md made of it.

Knows comparisons and their figures; no option of the command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.llama.layout import Mask
from stillframe.reuse.settings import ReuseSettings
from stillframe.tools.machine import machine
from stillframe_lab.drafts.comparison import ComparedFrame, DraftActor
from stillframe_lab.drafts.summation import halve_sums
from stillframe_lab.evaluation.evaluate import Evaluation, evaluate, wilson
from stillframe_lab.evaluation.jobs import JobReporter
from stillframe_lab.evaluation.page import number, success, table, write_json

HEAD = """\
# Exact and strict drafts, side by side

Made by `stillframe study drafts`. {policy} in {dtype} on {device}, task {task}, {episodes} episodes a column from seed
{seed} on, reuse {reuse}; {cpu}, {cores} cores ({instructions}), torch {torch}. Every figure is in
[results.json](results.json).

The arm plays what exact answers. Each frame is decoded a second time by strict drafts, over the same prefill and from
the same guesses.
"""
READING = """\
## How to read it

- **own**: the machine's decoder as it is, where it is not batch invariant. Where it is, both would answer the same to
  the bit; there the products of passes over guesses alone are summed up by **halves**, as kernels do that split sums,
  and added in float32; or each half is rounded first (**halves, rounded**), as torch lets GPUs do unless told not to.
- **passes**: of the decoder for an action, its prefill among them. Without guesses it takes {tokens}.
- **moved**: rows behind guesses that were right, whose logits are others in a pass over the guesses alone than in the
  prefill; how far one logit moved from another.
- **other tokens**: frames whose answer by strict drafts differs, in any token. What follows on a token that differs
  may differ for that reason alone.
- **behind**: in the first token that a pass without guesses would have chosen otherwise, by how many logits exact's
  token is behind the likeliest. In **units of rounding**, eps |hidden row| |head's longest row|, strict takes a lead of
  1 in bfloat16 and of 256 in float32 for decisive. **leads**: those of the likeliest over the second, in every frame.
- **bins apart**: the furthest two tokens of one number of the action, of 256 bins.
- Success is of few episodes, and of exact alone.
"""
Sums = Literal["own", "halves", "halves, rounded"]


def run_drafts(
    plan: Evaluation, load: Callable[[], PolicyModel], reuse: ReuseSettings, out: Path, reporter: JobReporter
) -> None:
    """Play the episodes, once for each way to take sums, then write results.json and README.md into `out`.

    Raises ConfigError for a policy that decodes no tokens.
    """
    model = load()
    if not (model.mask is Mask.CAUSAL and model.answer_rows > 1):
        raise ConfigError(f"{model.info.name} decodes no tokens; expected a policy that does, as OpenVLA")
    ways: tuple[Sums, ...] = ("halves", "halves, rounded") if model.decoder.batch_invariant else ("own",)
    out.mkdir(parents=True, exist_ok=True)
    reporter.expect(plan.episodes * len(ways))
    document = {
        "made_with": {
            "policy": model.info.name,
            "dtype": model.info.dtype,
            "device": model.info.device,
            "task": plan.task,
            "episodes": plan.episodes,
            "seed": plan.seed,
            "reuse": reuse.mode,
            "tokens": model.answer_rows,
            **machine(),
            "instructions": instructions(),
            "torch": torch.__version__,
        },
        "sums": {way: _played(plan, model if way == ways[0] else load(), way, reuse, reporter) for way in ways},
    }
    write_json(out / "results.json", document)
    (out / "README.md").write_text(page(document), encoding="utf-8")


def _played(
    plan: Evaluation, model: PolicyModel, way: Sums, reuse: ReuseSettings, reporter: JobReporter
) -> dict[str, Any]:
    """A column's figures."""
    if way != "own":
        halve_sums(model.decoder, most_rows=model.answer_rows - 1, rounded=way == "halves, rounded")
    actor = DraftActor(model, reuse)
    played = evaluate(plan, actor, lambda episode: reporter.played(f"{way}, seed {episode.seed}"))
    wins = sum(episode.success for episode in played)
    result = {"wins": wins, "episodes": len(played), "success": wins / len(played)}
    return {**result, "success_ci95": wilson(wins, len(played)), **figures(actor.compared)}


def instructions() -> str:
    """What torch takes this processor for, and what it multiplies bfloat16 by."""
    has = {"AMX": torch.cpu._is_amx_tile_supported(), "avx512_bf16": torch.cpu._is_avx512_bf16_supported()}
    return ", ".join([torch.backends.cpu.get_cpu_capability(), *(name for name, there in has.items() if there)])


def figures(frames: Sequence[ComparedFrame]) -> dict[str, Any]:
    """What the comparisons come to. Null where there is nothing to take a figure of."""
    others, right = [frame for frame in frames if frame.bins], [frame for frame in frames if frame.right]
    leads, moved = [lead for frame in frames for lead in frame.leads], [far for frame in frames for far in frame.moved]
    return {
        "frames": len(frames),
        "passes": _passes(frames),
        "right": len(right),
        "right_passes": _passes(right),
        "bit_equal": sum(frame.bit_equal for frame in frames),
        "verified": len(moved),
        "moved": sum(value > 0 for value in moved),
        "moved_logits": _spread([value for value in moved if value > 0]),
        "others": len(others),
        "others_called_bit_equal": sum(frame.bit_equal for frame in others),
        "behind": _spread([frame.behind for frame in others if frame.behind is not None]),
        "behind_rounding": _spread([frame.rounding for frame in others if frame.rounding is not None]),
        "bins": _spread([frame.bins for frame in others]),
        "leads": {f"p{share}": _percentile(leads, share) for share in (1, 10, 50)},
    }


def page(document: Mapping[str, Any]) -> str:
    """The whole README.md."""
    made, ways = document["made_with"], document["sums"]
    columns = [_column(figures) for figures in ways.values()]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    figures = table(("sums", *ways), rows)
    return "\n".join((HEAD.format(**made), f"## Figures\n\n{figures}", READING.format(**made)))


def _column(own: Mapping[str, Any]) -> dict[str, str]:
    """One way's figures as text, by what they are."""
    return {
        "frames": str(own["frames"]),
        "passes, exact / strict": _both(own["passes"]),
        "frames whose guesses were all right": _share(own["right"], own["frames"]),
        "passes of these, exact / strict": _both(own["right_passes"]),
        "frames that exact calls equal to the bit": _share(own["bit_equal"], own["frames"]),
        "rows that moved": _share(own["moved"], own["verified"]),
        "moved by, logits: median / most": _middle_and_most(own["moved_logits"], 4),
        "frames with other tokens": _share(own["others"], own["frames"]),
        "of these called equal to the bit": str(own["others_called_bit_equal"]),
        "behind, logits: median / most": _middle_and_most(own["behind"], 4),
        "behind, units of rounding: median / most": _middle_and_most(own["behind_rounding"], 4),
        "leads, logits: 1 % / 10 % / 50 % are below": " / ".join(number(one, 3) for one in own["leads"].values()),
        "bins apart: median / most": _middle_and_most(own["bins"], 0),
        "success of exact": success(own),
    }


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


def _share(count: int, of: int) -> str:
    return f"{count} of {of} = {100 * count / of:.2f} %" if of else "-"

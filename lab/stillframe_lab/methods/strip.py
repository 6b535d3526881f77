"""The strip: frames of one episode, and which patches of them each arm reuses, prunes, or computes as relevant.

Knows a policy in this process and the simulator's; no table. All arms get the frames that `off` has seen.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.tools.charts import PALE, WHITE, tinted
from stillframe_lab.ablation.cell import open_cpu_model
from stillframe_lab.ablation.filmstrip import RELEVANT_RGB, TINT, PatchMarks, Picture, card, patch_marks
from stillframe_lab.ablation.plan import OFF
from stillframe_lab.evaluation.actors import LocalActor
from stillframe_lab.libero.episode import PolicyPlayer
from stillframe_lab.libero.suites import EpisodeId
from stillframe_lab.methods.cell import local_protocol
from stillframe_lab.methods.plan import MethodsPlan, is_count

SHOWN, MARGIN_PX = 5, 170
COLOURS = 256
PRUNED_RGB, DARK = (31, 41, 51), 0.75
FOOT = (
    "pale: reused in the last layer; dark: pruned, or merged into another, before it; orange: computed as relevant to "
    "the task"
)

Observed = Mapping[str, Any]


class RecordingActor(LocalActor):
    """Keeps what it is shown."""

    def __init__(self, model: PolicyModel, reuse: ReuseSettings):
        super().__init__(model, reuse, measure_every=0)
        self.seen: list[Observed] = []

    def __call__(self, observed: Observed) -> NDArray[np.float64]:
        """The action due now."""
        self.seen.append(observed)
        return super().__call__(observed)


def write_strip(file: Path, plan: MethodsPlan) -> None:
    """Play the first task's first initial state by `off`, show every arm its frames, and draw some of them."""
    model = open_cpu_model(plan.checkpoint, plan.checkpoint_config)
    frames = _episode(plan, model)
    arms = {name: reuse for name, reuse in plan.arms.items() if name != OFF and not is_count(name)}
    drawn = strip(model, arms, frames, plan.execute)
    # A quarter of the bytes; by this method the few pixels of a colour of their own keep it.
    drawn.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, optimize=True)


def strip(
    model: PolicyModel, arms: Mapping[str, ReuseSettings], frames: Sequence[Observed], execute: int | None
) -> Image.Image:
    """A column a frame, of which each arm has a row; of the frames some, evenly spread, and not the first.

    That is a keyframe for all. `execute`: actions of each answer that are played; None: all.
    """
    shown = np.unique(np.rint(np.linspace(min(1, len(frames) - 1), len(frames) - 1, SHOWN)).astype(int))
    rows = [[_beside(observed["images"]) for observed in frames]]
    rows += [_arm_row(model, reuse, frames, execute) for reuse in arms.values()]
    columns = [(f"answer {at + 1}", [row[at] for row in rows]) for at in shown]
    return card(["frame", *arms], columns, MARGIN_PX, FOOT)


def _episode(plan: MethodsPlan, model: PolicyModel) -> list[Observed]:
    """What the policy is asked with, answer by answer, with masks where there are some."""
    actor, protocol = RecordingActor(model, plan.arms[OFF]), local_protocol(model.info, plan.bench, plan.execute)
    with plan.bench.simulator(draws=True) as simulator:
        player = PolicyPlayer(actor, protocol, masks=simulator.masks if plan.bench.masks else None)
        scene, rules = simulator.open(plan.bench.suite, plan.tasks[0]), plan.bench.rules(plan.seed)
        rules.play(simulator, scene, EpisodeId(plan.tasks[0], 0), player, simulator.pictures, threading.Event())
    return actor.seen


def _arm_row(
    model: PolicyModel, reuse: ReuseSettings, frames: Sequence[Observed], execute: int | None
) -> list[Picture]:
    """Each frame as an arm treats it, with the pauses of an episode."""
    actor, row = LocalActor(model, reuse, measure_every=0), []
    for observed in frames:
        actor(observed)
        marks = patch_marks(model, actor, observed)
        row.append(_beside({camera: marked(observed["images"][camera], own) for camera, own in marks.items()}))
        actor.rest(execute)
    return row


def marked(picture: Picture, marks: PatchMarks) -> Picture:
    """A picture with what became of its patches over it."""
    shown = tinted(picture, marks.relevant & ~marks.reused, RELEVANT_RGB, TINT)
    return tinted(tinted(shown, marks.reused, WHITE, PALE), marks.pruned, PRUNED_RGB, DARK)


def _beside(pictures: Mapping[str, Picture]) -> Picture:
    """All cameras' pictures, from left to right."""
    return np.hstack([*pictures.values()])

"""The filmstrip: what the policy saw, and which patches were static, task-relevant and recomputed.

Knows pictures and plans; the simulator plays the episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stillframe.daemon.config import load_config
from stillframe.daemon.serve import open_model
from stillframe.domain import Observation
from stillframe.models.base import PolicyModel
from stillframe.tools.charts import INK, PALE, WHITE, tinted
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import play
from stillframe_lab.ablation.plan import ADAPTIVE, AblationPlan, arms
from stillframe_lab.evaluation.actors import LocalActor

SEED, SHOWN = 3_000, 5
MARGIN_PX, HEAD_PX, GAP_PX = 88, 22, 4
STATIC_RGB, RELEVANT_RGB = (47, 127, 134), (232, 160, 32)
TINT = 0.55
ROWS = ("frame", "static", "relevant", "recomputed")

Picture = NDArray[np.uint8]  # [height, width, 3]
Grid = NDArray[np.bool_]  # [rows, columns] of patches


@dataclass(frozen=True)
class PatchMarks:
    """What became of one camera's patches in one answer, as grids."""

    static: Grid
    relevant: Grid  # to the task
    reused: Grid  # in the last layer
    pruned: Grid  # before the last layer


@dataclass(frozen=True)
class StripFrame:
    """One delta frame of one camera, and its plan as grids of patches."""

    step: int
    picture: Picture
    static: Grid
    relevant: Grid
    recomputed: Grid  # in the last layer


def write_strip(file: Path, plan: AblationPlan) -> None:
    """Play one episode of pick in mode adaptive and draw some of its delta frames, evenly spread."""
    options = {"checkpoint": plan.checkpoint, "device": "cpu", "threads": 1}
    shots = _strip_frames(open_model(load_config(None, options)), plan)
    chosen = [shots[round(index)] for index in np.linspace(0, len(shots) - 1, min(SHOWN, len(shots)))]
    strip(chosen).save(file)


def strip(shots: Sequence[StripFrame]) -> Image.Image:
    """A column a shot; below the frame its static, its relevant and its recomputed patches."""
    return card(ROWS, [(f"step {shot.step}", _column(shot)) for shot in shots])


def card(
    rows: Sequence[str], columns: Sequence[tuple[str, Sequence[Picture]]], margin_px: int = MARGIN_PX, foot: str = ""
) -> Image.Image:
    """Pictures of one size in columns, each with its title; before each row its name, below all of them a line."""
    height, width = columns[0][1][0].shape[:2]
    below_px = HEAD_PX if foot else 0
    size = (margin_px + len(columns) * (width + GAP_PX), HEAD_PX + len(rows) * (height + GAP_PX) + below_px)
    made = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(size=13)
    for row, name in enumerate(rows):
        draw.text((6, HEAD_PX + row * (height + GAP_PX) + height // 2 - 8), name, fill=INK, font=font)
    for column, (title, pictures) in enumerate(columns):
        left = margin_px + column * (width + GAP_PX)
        draw.text((left, 3), title, fill=INK, font=font)
        for row, picture in enumerate(pictures):
            made.paste(Image.fromarray(picture), (left, HEAD_PX + row * (height + GAP_PX)))
    draw.text((6, size[1] - below_px + 1), foot, fill=INK, font=font)
    return made


def _column(shot: StripFrame) -> list[Picture]:
    """The four pictures of one shot."""
    picture = shot.picture
    return [
        picture,
        tinted(picture, shot.static, STATIC_RGB, TINT),
        tinted(picture, shot.relevant, RELEVANT_RGB, TINT),
        tinted(picture, ~shot.recomputed, WHITE, PALE),
    ]


def _strip_frames(model: PolicyModel, plan: AblationPlan) -> list[StripFrame]:
    """All delta frames of one episode."""
    actor = LocalActor(model, arms(plan.reuse)[ADAPTIVE], measure_every=0)
    shots, seen = [], []

    def act(observed: Mapping[str, Any]) -> Any:
        action = actor(observed)
        seen.append(observed)
        if actor.trace.frames[-1].keyframe_reason is None:
            shots.append(strip_frame(model, actor, observed, len(seen)))
        actor.rest()
        return action

    with closing(JacoEnv("pick")) as env:
        play(env, act, seed=SEED)
    return shots


def strip_frame(model: PolicyModel, actor: LocalActor, observed: Mapping[str, Any], step: int) -> StripFrame:
    """The last plan for the first camera's patches."""
    first = next(iter(patch_marks(model, actor, observed).values()))
    picture = next(iter(observed["images"].values()))
    return StripFrame(step, picture, first.static, first.relevant, ~first.reused)


def patch_marks(model: PolicyModel, actor: LocalActor, observed: Mapping[str, Any]) -> dict[str, PatchMarks]:
    """Camera -> what became of its patches in the last answer, which is the one to `observed`."""
    layout = model.prepare(Observation(observed["images"], observed["instruction"], state=observed.get("state"))).layout
    plan, left = actor.policy.plan, actor.policy.left
    places, first = np.array(layout.patch_positions), layout.patch_positions.start
    marks = (
        plan.static.cpu().numpy(),
        plan.relevant.cpu().numpy(),
        np.isin(places, plan.order[: plan.counts[-1]].cpu().numpy()),
        np.zeros(len(places), bool) if left is None else ~np.isin(places, left.cpu().numpy()),
    )
    return {
        camera: PatchMarks(*(part[own.start - first : own.stop - first].reshape(layout.patch_grid) for part in marks))
        for camera, own in layout.patches.items()
    }

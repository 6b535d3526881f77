"""Collect labelled scenes with lamps in the simulator: the arm anywhere, a lamp lit or none.

Knows the environment and its expert; no network. Sequences are sampled from these later.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stillframe.models.actions import ActionScale
from stillframe_client.sim import COLOURS, JacoEnv
from stillframe_client.sim.cues import VARIANTS, Flash
from stillframe_client.sim.lamps import GREY, WHITE
from stillframe_lab.train.demonstrations import label
from stillframe_lab.train.frame_store import FrameStore, FrameWriter, Labels, map_images, read_labels
from stillframe_lab.train.history.dataset import Scenes
from stillframe_lab.train.history.sampling import NOTHING
from stillframe_lab.train.recipe import INSTRUCTIONS

LAMPS_VERSION = 1  # raised whenever the look of lamps or what is drawn below changes
LIT_SHARE = 0.5  # of all scenes; the others are acted on
MARKED_SHARE = 0.6  # of the lit lamps, where there are decoys
LATE_SHARE = 0.4  # of the dark scenes, where a second cube follows
SEEN_SHARE = 0.001  # of the picture must say it; a lamp in full view takes 0.002 to 0.008
# Cues are shown to an arm at home; elsewhere too, so that no pose of the arm gives a cue away.
STARTS = ("home", "anywhere", "near")
START_SHARES = {True: (0.5, 0.25, 0.25), False: (0.15, 0.45, 0.40)}  # of lit scenes, of dark ones
REACHES = [index for index, goal in enumerate(INSTRUCTIONS) if goal.task == "reach"]  # in the order of COLOURS


@dataclass(frozen=True)
class SceneLabels(Labels):
    """Labels of each scene. `actions` are three: towards each cube."""

    shown: NDArray[np.int64]  # [scenes] index of the lit lamp's colour; NOTHING if none is lit
    marked: NDArray[np.bool_]  # [scenes] whether the marker beside it is lit
    late: NDArray[np.bool_]  # [scenes] the lamps are white: the first of two cubes has been reached


@dataclass(frozen=True)
class WantedScenes:
    """Which scenes to collect."""

    scenes: int
    seed: tuple[int, ...]
    variant: str  # of the task remember
    image_px: int

    @property
    def origin(self) -> str:
        """The origin written into a store of these scenes."""
        return json.dumps({"lamps": LAMPS_VERSION, **asdict(self)})


def scenes_in(folder: Path, wanted: WantedScenes, scale: ActionScale) -> Scenes:
    """The scenes of `folder`, collected if they are missing. Raises ConfigError for a store of other scenes."""
    if not FrameStore.exists(folder):
        collect_scenes(folder, wanted, scale)
    return stored(folder, wanted.origin, wanted.image_px, played=False)


def stored(folder: Path, origin: str, image_px: int, *, played: bool) -> Scenes:
    """The scenes of a finished store. Raises ConfigError if it has another origin."""
    labels = read_labels(folder, origin, SceneLabels)
    images = map_images(folder, len(labels.actions), image_px)[:, 0]
    points = (labels.points_m, labels.points_px, labels.finger_rad)
    own = np.full(len(images), played)
    return Scenes(images, labels.actions, *points, labels.shown, labels.marked, labels.late, own)


def collect_scenes(folder: Path, wanted: WantedScenes, scale: ActionScale) -> None:
    """Fill `folder`. The same request gives the same store on one machine."""
    rng = np.random.default_rng(wanted.seed)
    env = JacoEnv("remember", cameras=(), image_px=wanted.image_px, variant=wanted.variant)
    writer = FrameWriter(folder, wanted.origin)
    try:
        while len(writer) < wanted.scenes:
            labels = _scene(env, wanted.variant, scale, rng)
            picture = env.render()
            if _is_seen(picture, env, labels):
                writer.append(picture[None], labels)
    finally:
        env.close()
    writer.close()


def _scene(env: JacoEnv, variant: str, scale: ActionScale, rng: np.random.Generator) -> SceneLabels:
    """Set up one scene, lamps included, and label it for a reach of each cube."""
    env.reset(seed=int(rng.integers(2**31)))
    lit = bool(rng.random() < LIT_SHARE)
    _place(env, lit, rng)
    flash = _flash(env, variant, rng) if lit else None
    late = not lit and VARIANTS[variant].cues > 1 and bool(rng.random() < LATE_SHARE)
    env.light(flash, WHITE if late else GREY)
    return labelled(env, scale, late=late)


def labelled(env: JacoEnv, scale: ActionScale, *, late: bool) -> SceneLabels:
    """Label the current scene. `late`: the first of two cubes has been reached."""
    known, flash = label(env, scale), env.lit
    return SceneLabels(
        actions=known.actions[:, REACHES],
        points_m=known.points_m,
        points_px=known.points_px,
        finger_rad=known.finger_rad,
        shown=np.array([COLOURS.index(flash.colour) if flash else NOTHING]),
        marked=np.array([bool(flash and flash.marked)]),
        late=np.array([late]),
    )


def _is_seen(picture: NDArray[np.uint8], env: JacoEnv, labels: SceneLabels) -> bool:
    """Whether the lamps are visible in the picture, not hidden by the arm. Leaves them grey."""
    if labels.shown[0] == NOTHING and not labels.late[0]:
        return True
    env.light(None)
    return float((picture != env.render()).any(-1).mean()) > SEEN_SHARE


def _place(env: JacoEnv, lit: bool, rng: np.random.Generator) -> None:  # noqa: FBT001 (a key of START_SHARES)
    """Put the arm at a random start."""
    start = str(rng.choice(STARTS, p=START_SHARES[lit]))
    if start != "home":
        env.teleport(rng, near=str(rng.choice(COLOURS)) if start == "near" else None)


def _flash(env: JacoEnv, variant: str, rng: np.random.Generator) -> Flash:
    """A random lamp and colour; marked unless a decoy."""
    marked = not VARIANTS[variant].decoys or bool(rng.random() < MARKED_SHARE)
    return Flash(int(rng.integers(len(env.lamps.spots_m))), str(rng.choice(COLOURS)), marked)

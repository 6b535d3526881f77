"""Demonstrations as labelled frames: pictures at the policy's size, the expert's next actions, where things are.

Knows demonstrations and frame stores; no simulator and no network.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stillframe_lab.libero.pictures import lanczos
from stillframe_lab.train.frame_store import FrameStore, FrameWriter, Labels
from stillframe_lab.train.libero.demonstrations import DemoFolder, DemoId
from stillframe_lab.train.libero.recording import Demonstration
from stillframe_lab.train.libero.words import as_answered

HORIZON = 8  # of the labels; a policy that says fewer actions takes the first
KEYPOINTS = 3  # what is moved, where to, the hand
OPEN_M = 0.08  # between the fingers


@dataclass(frozen=True)
class TaskLabels(Labels):
    """Labels of each frame, for the one task of its episode. Its points: what is moved, where to, the hand.

    `finger_rad`: of LIBERO's hand how far it is open, 0 to 1.
    """

    chunks: NDArray[np.float32]  # [frames, HORIZON, 7], normalised to [-1, 1]; gripper 0 or 1
    state: NDArray[np.float64]  # [frames, numbers]
    task: NDArray[np.int64]  # [frames]


def frames_of(folder: Path, demos: DemoFolder, wanted: Sequence[DemoId], suite: str, px: int) -> FrameStore:
    """The frames of these demonstrations, written into `folder` unless they are there."""
    origin = json.dumps({"suite": suite, "px": px, "demos": [[demo.task, demo.number] for demo in wanted]})
    if not FrameStore.exists(folder):
        writer = FrameWriter(folder, origin)
        for demo in wanted:
            _append(writer, demos.load(demo), demo.task, suite, px)
        writer.close()
    return FrameStore.open(folder, origin, TaskLabels, px)


def _append(writer: FrameWriter, demo: Demonstration, task: int, suite: str, px: int) -> None:
    """Every step that has pictures."""
    answers = as_answered(demo.actions, suite)
    answers = np.concatenate([answers, np.repeat(answers[-1:], HORIZON, axis=0)])
    before = Image.open(io.BytesIO(demo.pictures[0][0])).height
    for step, files in zip(demo.kept, demo.pictures, strict=True):
        pictures = [lanczos(np.asarray(Image.open(io.BytesIO(file))), (px, px)) for file in files]
        state = demo.states[step]
        labels = TaskLabels(
            actions=answers[None, step : step + 1],
            points_m=demo.points_m[None, step],
            points_px=demo.points_px[None, step] * np.float32(px / before),
            finger_rad=np.array([(state[6] - state[7]) / OPEN_M], np.float32),
            chunks=answers[None, step : step + HORIZON],
            state=state[None],
            task=np.array([task]),
        )
        writer.append(np.stack(pictures), labels)

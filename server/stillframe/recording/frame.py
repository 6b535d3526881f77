"""One recorded frame and its files: a JSON, and a picture per camera where pictures are kept.

Knows the format; no session and no threads.

    000012.0.png    the first camera's picture; more cameras, more numbers; .jpg where JPEGs are kept
    000012.json     the rest, written last: a frame without it is incomplete
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from stillframe.domain import ActionChunk, Observation, Step, StepReport
from stillframe.errors import StillframeError
from stillframe.recording.pictures import (
    SUFFIXES,
    PictureEntry,
    PictureFormat,
    RecordingError,
    encode_picture,
    picture_file,
    read_picture,
)


@dataclass(frozen=True)
class RecordedFrame:
    """A session's frame: its observation and the answer."""

    submitted_s: float  # Unix time
    observation: Observation  # read back: with the pictures that were kept
    step: Step
    missing: Mapping[str, PictureEntry] = field(default_factory=dict)  # camera -> what is known of a picture not kept

    @property
    def name(self) -> str:
        """The stem of its files; sorts in the order of the frames."""
        return f"{self.step.report.cache.seq:06d}"

    def check_pictures(self) -> None:
        """Raise StillframeError where its pictures were not kept: what it was cannot be seen or played again."""
        if self.missing:
            kept = next(iter(self.missing.values())).kept
            raise StillframeError(
                f"frame {self.name} has no picture of {', '.join(self.missing)}: it was recorded with record_images "
                f"{kept!r}; pictures are needed here: record with --record-images png, or jpeg to save disk"
            )


@dataclass(frozen=True)
class FrameDocument:
    """The JSON of one frame."""

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)

    format: Literal["stillframe-frame/1"]
    submitted_s: float
    instruction: str
    unnorm_key: str | None  # as requested
    pictures: tuple[PictureEntry, ...]  # in the client's order
    actions: list[list[float]]  # [horizon, action_dim], in the robot's units
    tokens: list[int]
    action_unnorm_key: str
    report: StepReport
    center_crop: float | None = None  # share of each picture's area that the model saw; null: all of it
    state: list[float] | None = None  # of the robot, in the policy's order; null: the policy reads none


_DOCUMENT: TypeAdapter[FrameDocument] = TypeAdapter(FrameDocument)


def encode(frame: RecordedFrame, kept: PictureFormat = "png") -> dict[str, bytes]:
    """File name -> content, in the order of writing."""
    pictures = [encode_picture(camera, picture, kept) for camera, picture in frame.observation.images.items()]
    files = {
        f"{frame.name}.{index}.{SUFFIXES[kept]}": content
        for index, (_, content) in enumerate(pictures)
        if content is not None
    }
    document = _DOCUMENT.dump_python(_document(frame, tuple(entry for entry, _ in pictures)), mode="json")
    return files | {f"{frame.name}.json": json.dumps(document, allow_nan=False).encode()}


def read_frame(file: Path) -> RecordedFrame:
    """Read a frame by its JSON. Raises RecordingError for files that are damaged or foreign."""
    try:
        document = _DOCUMENT.validate_json(file.read_bytes())
        actions = np.asarray(document.actions, np.float64)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise RecordingError(f"{file}: not a frame: {place + ': ' if place else ''}{fault['msg']}") from error
    except (OSError, ValueError) as error:
        raise RecordingError(f"{file}: {error}") from error
    images = {
        entry.camera: read_picture(picture_file(file, index, entry.kept), entry)
        for index, entry in enumerate(document.pictures)
        if entry.kept in SUFFIXES
    }
    missing = {entry.camera: entry for entry in document.pictures if entry.camera not in images}
    state = None if document.state is None else np.asarray(document.state, np.float64)
    observation = Observation(images, document.instruction, document.unnorm_key, document.center_crop, state)
    chunk = ActionChunk(actions, document.action_unnorm_key, np.asarray(document.tokens, np.int64))
    return RecordedFrame(document.submitted_s, observation, Step(chunk, document.report), missing)


def _document(frame: RecordedFrame, pictures: tuple[PictureEntry, ...]) -> FrameDocument:
    chunk, observation = frame.step.chunk, frame.observation
    return FrameDocument(
        format="stillframe-frame/1",
        submitted_s=frame.submitted_s,
        instruction=observation.instruction,
        unnorm_key=observation.unnorm_key,
        pictures=pictures,
        actions=chunk.actions.tolist(),
        tokens=chunk.tokens.tolist(),
        action_unnorm_key=chunk.unnorm_key,
        report=frame.step.report,
        center_crop=observation.center_crop,
        state=None if observation.state is None else observation.state.tolist(),
    )

"""One recorded frame and its files: a JSON and a lossless PNG per camera.

Knows the format; no session and no threads.

    000012.0.png    the first camera's picture; more cameras, more numbers
    000012.json     the rest, written last: a frame without it is incomplete
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import ConfigDict, TypeAdapter, ValidationError

from stillframe.domain import ActionChunk, Observation, Step, StepReport
from stillframe.domain import Image as Picture
from stillframe.errors import StillframeError

PNG_LEVEL = 1  # a tenth of the time of the default, for a few percent of size


class RecordingError(StillframeError):
    """A file of a recording that is damaged or foreign; the text names it and says what is wrong."""


@dataclass(frozen=True)
class RecordedFrame:
    """A session's frame: its observation and the answer."""

    submitted_s: float  # Unix time
    observation: Observation
    step: Step

    @property
    def name(self) -> str:
        """The stem of its files; sorts in the order of the frames."""
        return f"{self.step.report.cache.seq:06d}"


@dataclass(frozen=True)
class PictureEntry:
    """One camera's picture, to check its file by."""

    camera: str
    height: int
    width: int
    crc32: int  # of the pixels


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


def encode(frame: RecordedFrame) -> dict[str, bytes]:
    """File name -> content, in the order of writing."""
    images = frame.observation.images
    files = {f"{frame.name}.{index}.png": _png(picture) for index, picture in enumerate(images.values())}
    document = _DOCUMENT.dump_python(_document(frame), mode="json")
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
        entry.camera: _read_png(file.with_suffix(f".{index}.png"), entry)
        for index, entry in enumerate(document.pictures)
    }
    state = None if document.state is None else np.asarray(document.state, np.float64)
    observation = Observation(images, document.instruction, document.unnorm_key, document.center_crop, state)
    chunk = ActionChunk(actions, document.action_unnorm_key, np.asarray(document.tokens, np.int64))
    return RecordedFrame(document.submitted_s, observation, Step(chunk, document.report))


def _document(frame: RecordedFrame) -> FrameDocument:
    chunk, observation = frame.step.chunk, frame.observation
    return FrameDocument(
        format="stillframe-frame/1",
        submitted_s=frame.submitted_s,
        instruction=observation.instruction,
        unnorm_key=observation.unnorm_key,
        pictures=_entries(observation.images),
        actions=chunk.actions.tolist(),
        tokens=chunk.tokens.tolist(),
        action_unnorm_key=chunk.unnorm_key,
        report=frame.step.report,
        center_crop=observation.center_crop,
        state=None if observation.state is None else observation.state.tolist(),
    )


def _entries(images: Mapping[str, Picture]) -> tuple[PictureEntry, ...]:
    return tuple(
        PictureEntry(camera, picture.shape[0], picture.shape[1], _crc32(picture)) for camera, picture in images.items()
    )


def _png(picture: Picture) -> bytes:
    """Picture [height, width, 3] -> PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=PNG_LEVEL)
    return buffer.getvalue()


def _read_png(file: Path, entry: PictureEntry) -> Picture:
    """The picture [height, width, 3] that `entry` describes."""
    try:
        with Image.open(file, formats=["PNG"]) as opened:
            if opened.size != (entry.width, entry.height) or opened.mode != "RGB":
                raise RecordingError(f"{file}: expected RGB, {entry.width} by {entry.height} pixels, as was recorded")
            picture: Picture = np.array(opened)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # all that Pillow raises
        raise RecordingError(f"{file}: not a PNG that can be read: {error}") from error
    if _crc32(picture) != entry.crc32:
        raise RecordingError(f"{file}: its pixels are not those that were recorded")
    return picture


def _crc32(picture: Picture) -> int:
    return zlib.crc32(np.ascontiguousarray(picture).data)

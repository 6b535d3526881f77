"""Writes a frame as the policy gets it, for the operator to look at.

Is it turned, cropped and coloured as in training? Knows no camera.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import PIL.Image

from stillframe_client.jaco2.cameras.base import CameraError

if TYPE_CHECKING:
    from pathlib import Path

    from stillframe_client.jaco2.cameras.base import Frame


def save_first_frame(frame: Frame, file: Path) -> None:
    """Write it as PNG, pixel for pixel; missing folders are made. Raises CameraError where it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(frame.picture).save(file, format="PNG")
    except OSError as error:
        raise CameraError(f"the first frame cannot be written to {file}: {error}") from error

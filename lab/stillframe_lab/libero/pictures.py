"""Pictures and states as the papers give them to their policies, of what the simulator says.

Knows arrays; no process and no policy. Sources: openvla/openvla experiments/robot/libero/libero_utils.py and
experiments/robot/openvla_utils.py; openpi examples/libero/main.py.
"""

from __future__ import annotations

import io
from math import acos, sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]  # [height, width, 3]
Mask = NDArray[np.bool_]  # [height, width]
PixelT = TypeVar("PixelT", bound=np.generic)
Vector = NDArray[np.float64]
JPEG_QUALITY = 95  # of the data set's pictures


def upright(picture: NDArray[PixelT]) -> NDArray[PixelT]:
    """OpenGL's rows upwards -> turned by 180 degrees, as all data sets have them: upright, left and right swapped.

    Of a picture or of a mask.
    """
    return np.ascontiguousarray(picture[::-1, ::-1])


def as_openvla(picture: Picture, size: tuple[int, int]) -> Picture:
    """Through JPEG as the data set's pictures went, then Lanczos to (height, width), as TensorFlow resizes."""
    return lanczos(through_jpeg(picture), size)


def as_openpi(picture: Picture, size: tuple[int, int]) -> Picture:
    """Bilinear, as Pillow resizes. The simulator's pictures are square, so that openpi's padding adds nothing."""
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))


def covered(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another size (height, width): each pixel that shows some of it."""
    shares = Image.fromarray(mask.astype(np.float32)).resize(size[::-1], Image.Resampling.BOX)
    return np.asarray(shares) > 0


def through_jpeg(picture: Picture) -> Picture:
    """Encode and decode. TensorFlow decodes with a coarser transform: single values differ by some levels from its."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(file))


def lanczos(picture: Picture, size: tuple[int, int]) -> Picture:
    """tf.image.resize(..., "lanczos3", antialias=True), rounded to whole levels: Pillow's, of each colour in floats.

    Of whole levels Pillow would round between its two passes, too.
    """
    planes = picture.transpose(2, 0, 1).astype(np.float32)
    resized = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.LANCZOS) for plane in planes]
    rounded: Picture = np.clip(np.rint(np.stack([np.asarray(plane) for plane in resized], axis=-1)), 0, 255).astype(
        np.uint8
    )
    return rounded


def robot_state(position: Vector, quaternion: Vector, fingers: Vector) -> Vector:
    """The state [8] that every data set of LIBERO has: position, axis-angle, both fingers."""
    return np.concatenate([position, axis_angle(quaternion), fingers])


def axis_angle(quaternion: Vector) -> Vector:
    """Axis times angle [3] of x y z w, as robosuite has it: the angle from 0 to 2 pi, not the shorter way round."""
    w = min(1.0, max(-1.0, float(quaternion[3])))
    length = sqrt(1.0 - w * w)
    if length < 1e-8:
        return np.zeros(3)
    return quaternion[:3] * 2.0 * acos(w) / length

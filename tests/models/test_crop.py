from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stillframe.models.crop import cropped
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe_lab.train.new_checkpoint import PREPROCESSOR_JSON

PIPELINE = PixelPipeline.from_config(PREPROCESSOR_JSON)


def noise(height: int, width: int) -> np.ndarray:
    """The same each time."""
    return np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)


def crop_and_resize(image: np.ndarray, share: float, size: tuple[int, int]) -> np.ndarray:
    """What the reference's kernel does, a sample at a time: tensorflow/core/kernels/image/crop_and_resize_op.cc.

    float32 throughout; then clip_by_value and convert_image_dtype(uint8, saturate=True).
    """
    f = np.float32
    unit = image.astype(f) * f(1 / 255)
    height, width = image.shape[:2]
    side = np.sqrt(f(share))
    low = (f(1) - side) / f(2)
    high = low + side
    made = np.empty((*size, 3), np.uint8)
    for y in range(size[0]):
        at_y = low * f(height - 1) + f(y) * ((high - low) * f(height - 1) / f(size[0] - 1))
        above, below = math.floor(at_y), math.ceil(at_y)
        for x in range(size[1]):
            at_x = low * f(width - 1) + f(x) * ((high - low) * f(width - 1) / f(size[1] - 1))
            left, right = math.floor(at_x), math.ceil(at_x)
            top = unit[above, left] + (unit[above, right] - unit[above, left]) * (at_x - f(left))
            bottom = unit[below, left] + (unit[below, right] - unit[below, left]) * (at_x - f(left))
            value = top + (bottom - top) * (at_y - f(above))
            made[y, x] = np.clip(value, 0, 1) * f(255.5)
    return made


@pytest.mark.parametrize("size", [(224, 224), (48, 64), (256, 256), (9, 300)])
@pytest.mark.parametrize("share", [0.9, 0.5])
def test_the_middle_is_the_references_to_the_bit(size: tuple[int, int], share: float) -> None:
    """Whatever the picture's size: one resampling of the middle, no rounding between."""
    image = noise(*size)

    assert_array_equal(cropped(image, share, (56, 40)), crop_and_resize(image, share, (56, 40)))


def test_at_the_models_size_it_is_the_references_to_the_bit() -> None:
    """As LIBERO's evaluation has it: 224 x 224 in and out, 0.9 of the area."""
    image = noise(224, 224)

    assert_array_equal(PIPELINE.views(image, 0.9), crop_and_resize(image, 0.9, (224, 224)))


def test_what_is_cut_off_is_the_rim() -> None:
    """0.9 of the area is 0.9487 of each side: of 224 pixels, those from 5.7 to 217.3 are looked at."""
    image = np.zeros((224, 224, 3), np.uint8)
    image[5:219, 5:219] = 255
    rim = np.full((224, 224, 3), 255, np.uint8)
    rim[5:219, 5:219] = 0

    assert (PIPELINE.views(image, 0.9) == 255).all()
    assert not PIPELINE.views(rim, 0.9).any()


def test_a_plain_picture_stays_as_it_is() -> None:
    """Every value comes back as itself, black and white included."""
    for value in range(256):
        assert (cropped(np.full((16, 12, 3), value, np.uint8), 0.9, (8, 8)) == value).all()


def test_without_a_crop_nothing_changes() -> None:
    """None: the checkpoint's own resize."""
    image = noise(224, 224)

    assert PIPELINE.views(image, None) is image

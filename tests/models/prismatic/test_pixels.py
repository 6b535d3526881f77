from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from stillframe.errors import CheckpointError
from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe_lab.train.new_checkpoint import PREPROCESSOR_JSON

BICUBIC = Image.Resampling.BICUBIC
PIPELINE = PixelPipeline.from_config(PREPROCESSOR_JSON)


def picture(height: int, width: int) -> np.ndarray:
    """Noise, the same each time."""
    return np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    """At the model's size there is no resampling and no copy."""
    image = picture(224, 224)

    assert PIPELINE.views(image) is image


@pytest.mark.parametrize("size", [(480, 640), (256, 256), (224, 223), (64, 80), (1, 1)])
def test_other_sizes_are_resized_by_pil(size: tuple[int, int]) -> None:
    """Any size becomes 224 x 224 by bicubic filtering, whatever its aspect ratio."""
    image = picture(*size)
    view = PIPELINE.views(image)

    assert (view.shape, view.dtype) == ((224, 224, 3), np.uint8)
    assert_array_equal(view, np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)))


def test_a_pipeline_may_be_for_pictures_that_are_not_square() -> None:
    """Height first, as the configuration and numpy have it; PIL is told the width first."""
    pipeline = PixelPipeline.from_config(spoilt(input_sizes=[[3, 60, 100]] * 2))
    image = picture(48, 64)

    assert pipeline.size == (60, 100)
    assert_array_equal(pipeline.views(image), np.asarray(Image.fromarray(image).resize((100, 60), BICUBIC)))
    assert pipeline.normalised(pipeline.views(image)).shape == (6, 60, 100)
    assert pipeline.views(picture(60, 64)).shape == (60, 100, 3)


@given(red=st.integers(0, 255), green=st.integers(0, 255), blue=st.integers(0, 255))
def test_each_tower_gets_its_own_normalisation(red: int, green: int, blue: int) -> None:
    """Channels 0-2 are DINOv2's, 3-5 SigLIP's, each (x / 255 - mean) / std."""
    pipeline = PixelPipeline((1, 1), PIPELINE.means, PIPELINE.stds)
    values = pipeline.normalised(np.array([[[red, green, blue]]], np.uint8)).numpy()
    unit = np.array([red, green, blue]) / 255
    dino = (unit - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]

    assert (values.shape, values.dtype) == ((6, 1, 1), np.float32)
    assert_allclose(values[:, 0, 0], [*dino, *((unit - 0.5) / 0.5)], rtol=0, atol=1e-6)


def test_every_value_is_normalised_as_the_reference_does_it() -> None:
    """All 256 values of a byte, in every channel of each tower, to the bit: (value / 255 - mean) / std in float32."""
    bytes_ = np.arange(256, dtype=np.uint8)
    view = np.stack([bytes_, np.roll(bytes_, 85), bytes_[::-1]], axis=-1).reshape(16, 16, 3)
    unit = view.astype(np.float32) / np.float32(255)
    scales = zip(PIPELINE.means, PIPELINE.stds, strict=True)
    towers = [(unit - np.asarray(mean, np.float32)) / np.asarray(std, np.float32) for mean, std in scales]

    assert_array_equal(PIPELINE.normalised(view).numpy(), np.concatenate(towers, axis=-1).transpose(2, 0, 1))


@pytest.mark.parametrize("cut", [np.s_[::2, ::3], np.s_[::-1], np.s_[:, :, ::-1]])
def test_a_picture_may_lie_in_memory_as_it_likes(cut: tuple[slice, ...]) -> None:
    """A part of a larger picture, a flipped one, BGR turned round, all read-only: the same numbers as of a copy."""
    view = picture(40, 60)[cut]
    view.flags.writeable = False

    assert_array_equal(PIPELINE.normalised(view).numpy(), PIPELINE.normalised(np.ascontiguousarray(view)).numpy())


def test_rows_and_columns_stay_in_place() -> None:
    """The picture's rows are the tensor's rows."""
    image = np.zeros((224, 224, 3), np.uint8)
    image[3, 200, 1] = 255
    channels = PIPELINE.normalised(image)

    assert channels[1].argmax() == channels[4].argmax() == 3 * 224 + 200


def spoilt(**changes: Any) -> dict[str, Any]:
    """A preprocessor_config.json with something else in it; None drops the key."""
    config = {**copy.deepcopy(PREPROCESSOR_JSON), **changes}
    return {key: value for key, value in config.items() if value is not None}


def test_letterbox_is_refused() -> None:
    """Padding to a square is another variant."""
    with pytest.raises(CheckpointError, match="asks for letterbox; only resize-naive is supported"):
        PixelPipeline.from_config(spoilt(tvf_do_letterbox=True))


@pytest.mark.parametrize("interpolations", [[2], ["bilinear"], [3, 2], [2, 3]])
def test_another_filter_is_refused(interpolations: list[object]) -> None:
    """A filter other than bicubic gives other pixels, for one tower as for both."""
    asked = [{"interpolation": interpolation} for interpolation in interpolations]
    with pytest.raises(CheckpointError, match=r"asks for filter .*; only bicubic"):
        PixelPipeline.from_config(spoilt(tvf_resize_params=asked))


@pytest.mark.parametrize(
    "changes",
    [
        {"tvf_do_letterbox": None},
        {"tvf_resize_params": None},
        {"tvf_resize_params": [3]},
        {"tvf_normalize_params": [{"mean": [0.5] * 3}]},
        {"tvf_normalize_params": [{"mean": [0.5] * 4, "std": [0.5] * 4}]},
        {"tvf_normalize_params": [{"mean": 0.5, "std": 0.5}]},
        {"input_sizes": []},
        {"input_sizes": [224]},
    ],
)
def test_missing_or_misshapen_fields(changes: dict[str, Any]) -> None:
    """Whatever else is wrong names the file."""
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: a field is missing or misshapen"):
        PixelPipeline.from_config(spoilt(**changes))

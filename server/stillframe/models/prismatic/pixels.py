"""A camera image as the vision towers take it: resized by PIL, scaled, normalised twice.

Knows preprocessor_config.json; no tower. Source: PrismaticImageProcessor, matched bit for bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor

from stillframe.domain import Image
from stillframe.errors import CheckpointError
from stillframe.models.crop import cropped

FAR = 1e4  # beyond any mean or std of pixels in 0..1 or 0..255, and any std's inverse
BICUBIC = 3  # torchvision's and PIL's number for it


@dataclass(frozen=True)
class PixelPipeline:
    """Resize ignoring aspect ratio, then one normalisation per tower of the same image."""

    size: tuple[int, int]  # height, width
    means: tuple[tuple[float, float, float], ...]
    stds: tuple[tuple[float, float, float], ...]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PixelPipeline:
        """Read preprocessor_config.json; CheckpointError for what we do not do (letterbox, other filters)."""
        try:
            resizes, norms = config["tvf_resize_params"], config["tvf_normalize_params"]
            letterbox, (_, height, width) = config["tvf_do_letterbox"], config["input_sizes"][0]
            filters = {resize["interpolation"] for resize in resizes}
            means, stds = (tuple(_rgb(norm[name]) for norm in norms) for name in ("mean", "std"))
            _check_normalisation(means, stds)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise CheckpointError(f"preprocessor_config.json: a field is missing or misshapen ({error!r})") from error
        if letterbox:
            raise CheckpointError("preprocessor_config.json asks for letterbox; only resize-naive is supported")
        if filters != {BICUBIC}:
            raise CheckpointError(f"preprocessor_config.json asks for filter {filters}; only bicubic (3) is supported")
        return cls(size=(height, width), means=means, stds=stds)

    def views(self, image: Image, center_crop: float | None = None) -> Image:
        """The image at the model's size, uint8 [H, W, 3]: what similarity between frames is measured on.

        Only the central `center_crop` of its area, where that is given.
        """
        if center_crop is not None:
            return cropped(image, center_crop, self.size)
        height, width = self.size
        if image.shape[:2] == self.size:
            return image
        resized = PILImage.fromarray(image).resize((width, height), PILImage.Resampling.BICUBIC)
        return np.asarray(resized)

    def normalised(self, view: Image) -> Tensor:
        """uint8 [H, W, 3] -> float32 [3 * towers, H, W].

        Channel by channel, for numpy is ten times slower over three numbers side by side. The same sums to the bit.
        """
        unit = np.ascontiguousarray(view.transpose(2, 0, 1)).astype(np.float32)
        unit /= np.float32(255)
        towers = unit - _planes(self.means)
        towers /= _planes(self.stds)
        return torch.from_numpy(towers.reshape(-1, *unit.shape[1:]))


def _planes(values: tuple[tuple[float, float, float], ...]) -> NDArray[np.float32]:
    """One number for each channel of each tower: [towers, 3, 1, 1]."""
    return np.asarray(values, np.float32)[..., None, None]


def _check_normalisation(means: tuple[tuple[float, ...], ...], stds: tuple[tuple[float, ...], ...]) -> None:
    """Raise ValueError for what would make pixels that are not finite."""
    if not all(abs(number) <= FAR for number in itertools.chain(*means, *stds)):  # nor is what is no number
        raise ValueError(f"expected means and stds of at most {FAR:g}")
    if not all(std >= 1 / FAR for std in itertools.chain(*stds)):
        raise ValueError(f"expected stds of at least {1 / FAR:g}")


def _rgb(values: Sequence[float]) -> tuple[float, float, float]:
    """Three numbers, one a channel."""
    red, green, blue = map(float, values)
    return red, green, blue

"""A camera image as SigLIP takes it: resized by the longer side, padded with black in the middle, scaled to -1..1.

Knows pictures; no tower. Openpi resizes bytes with Pillow, lerobot floats without antialiasing: of a picture that is
larger than 224 px the two make different pixels, and a checkpoint saw its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image as PILImage
from torch import Tensor
from torch.nn import functional

from stillframe.domain import Image
from stillframe.models.crop import cropped


@dataclass(frozen=True)
class PaddedPixels:
    """Resizing with padding, one or the other way."""

    side_px: int = 224
    antialias: bool = True  # as openpi; else as lerobot

    @property
    def size(self) -> tuple[int, int]:
        """Height, width."""
        return self.side_px, self.side_px

    def look(self, image: Image, center_crop: float | None = None) -> tuple[Image, Tensor]:
        """uint8 [H, W, 3] -> the view, uint8 [side, side, 3], and the pixels, float32 [3, side, side].

        Only the central `center_crop` of its area, where that is given. Without antialiasing pixels are not rounded to
        bytes, and the view, which is, stands for them.
        """
        if center_crop is not None:
            image = cropped(image, center_crop, self.size)
        if image.shape[:2] == self.size or self.antialias:
            view = self._resized(image)
            return view, _scaled(torch.tensor(view).permute(2, 0, 1).float() / 255.0)  # a view may be read-only
        unit = self._interpolated(image)
        return (unit * 255.0).round().byte().permute(1, 2, 0).numpy(), _scaled(unit)

    def _resized(self, image: Image) -> Image:
        """By Pillow, in bytes."""
        if image.shape[:2] == self.size:
            return image
        height, width = self._inner(image)
        made = PILImage.fromarray(image).resize((width, height), PILImage.Resampling.BILINEAR)
        view = np.zeros((*self.size, 3), np.uint8)
        top, left = (self.side_px - height) // 2, (self.side_px - width) // 2
        view[top : top + height, left : left + width] = np.asarray(made)
        return view

    def _interpolated(self, image: Image) -> Tensor:
        """By torch, in floats of 0..1: [3, side, side]."""
        height, width = self._inner(image)
        unit = torch.tensor(image).permute(2, 0, 1)[None].float() / 255.0
        made = functional.interpolate(unit, size=(height, width), mode="bilinear", align_corners=False)[0].clamp(
            0.0, 1.0
        )
        top, left = (self.side_px - height) // 2, (self.side_px - width) // 2
        return functional.pad(made, (left, self.side_px - width - left, top, self.side_px - height - top))

    def _inner(self, image: Image) -> tuple[int, int]:
        """Height and width of the picture within the padding."""
        height, width = image.shape[:2]
        ratio = max(width / self.side_px, height / self.side_px)
        return max(1, int(height / ratio)), max(1, int(width / ratio))


def _scaled(unit: Tensor) -> Tensor:
    """0..1 -> -1..1, contiguous."""
    return (unit * 2.0 - 1.0).contiguous()

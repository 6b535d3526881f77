"""Spoils a clean picture as a camera would: grey-level noise, then JPEG.

Knows no scene; the generator is passed in, so the same seed spoils the same way.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # [height, width, 3], RGB


@dataclass(frozen=True)
class SensorNoise:
    """How bad the camera is; the default is perfect."""

    sigma: float = 0.0  # standard deviation of Gaussian noise, in grey levels of 255
    jpeg_quality: int | None = None  # 1 to 100; None: not compressed

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= 255:
            raise ValueError(f"sigma is {self.sigma}; expected grey levels between 0 and 255")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality is {self.jpeg_quality}; expected 1 to 100, or None for no compression")

    def spoil(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """Return the picture [height, width, 3] as this camera would deliver it; the input is left alone."""
        if self.sigma > 0:
            grey = picture + rng.normal(0.0, self.sigma, picture.shape)
            picture = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
        return picture if self.jpeg_quality is None else _through_jpeg(picture, self.jpeg_quality)


def _through_jpeg(picture: Picture, quality: int) -> Picture:
    try:
        from PIL import Image  # the perfect camera works without Pillow
    except ImportError as missing:
        raise ImportError("jpeg_quality needs Pillow: pip install pillow, or pass jpeg_quality=None") from missing

    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, "JPEG", quality=quality)
    return np.asarray(Image.open(packed))

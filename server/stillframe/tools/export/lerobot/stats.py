"""Statistics as a LeRobot dataset has them: min, max, mean, std, quantiles and count, of numbers and of pictures.

Knows arrays; no file. Pictures' are per channel, of 0 to 1, and come from histograms, so that no picture is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import Image

Stats = dict[str, NDArray[Any]]
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
LEVELS = 256


def number_stats(values: NDArray[Any]) -> Stats:
    """Of [frames, *shape], each number by itself; [frames] counts as [frames, 1]. NaN is left out, unless all is."""
    shaped = np.asarray(values, np.float64).reshape(len(values), *(values.shape[1:] or (1,)))
    empty = np.isnan(shaped).all(axis=0)
    shaped = np.where(empty & np.isnan(shaped), 0.0, shaped)
    quantiles = np.nanquantile(shaped, [*QUANTILES.values()], axis=0)
    return {
        "min": np.nanmin(shaped, axis=0),
        "max": np.nanmax(shaped, axis=0),
        "mean": np.nanmean(shaped, axis=0),
        "std": np.nanstd(shaped, axis=0),
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "count": np.array([len(shaped)]),
    }


class PictureStats:
    """Of one camera's pictures."""

    def __init__(self) -> None:
        self.pictures = 0
        self._counts = np.zeros((3, LEVELS), np.int64)  # of pixels

    def add(self, picture: Image) -> None:
        """Take in a picture [height, width, 3]."""
        self.pictures += 1
        for channel in range(3):
            self._counts[channel] += np.bincount(picture[..., channel].ravel(), minlength=LEVELS)

    def merge(self, other: PictureStats) -> None:
        """Take in what another has."""
        self.pictures += other.pictures
        self._counts += other._counts

    @property
    def stats(self) -> Stats:
        """Of one picture or more: [3, 1, 1] each, but for the count."""
        level, total = np.arange(LEVELS) / (LEVELS - 1), self._counts.sum(axis=1, keepdims=True)
        share = self._counts / total
        mean = share @ level
        present = [np.flatnonzero(own) for own in self._counts]
        made = {
            "min": [level[own[0]] for own in present],
            "max": [level[own[-1]] for own in present],
            "mean": mean,
            "std": np.sqrt(np.maximum(share @ level**2 - mean**2, 0)),
            **{
                name: [level[np.searchsorted(own, part)] for own in np.cumsum(share, axis=1)]
                for name, part in QUANTILES.items()
            },
        }
        shaped: Stats = {name: np.asarray(values).reshape(3, 1, 1) for name, values in made.items()}
        return shaped | {"count": np.array([self.pictures])}

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stillframe.models.base import Prepared, picture_rows
from stillframe.models.llama.layout import TokenLayout

LAYOUT = TokenLayout({"front": range(1, 3), "wrist": range(3, 5)}, (1, 2), range(5, 7), range(7, 8))
VIEWS = {"front": np.zeros((2, 4, 3), np.uint8), "wrist": np.zeros((2, 4, 3), np.uint8)}


def shown(first: int, **known: Tensor) -> Prepared:
    """Two pictures whose pixels are `first` and the number after it."""
    pixels = torch.stack([torch.full((3, 2, 4), float(first + at)) for at in range(2)])
    return Prepared(VIEWS, pixels, torch.tensor([1, 7, 8]), LAYOUT, "toy", np.zeros(1, np.int64), known=known)


def encoded(pictures: list[Tensor]) -> Tensor:
    """Rows [n, 2, 1] that say which picture they are of."""
    return torch.stack([torch.full((2, 1), float(picture.mean())) for picture in pictures])


def test_what_is_known_is_not_encoded() -> None:
    """All that is unknown of all frames is encoded together; each camera gets its own rows."""
    asked: list[int] = []

    def encode(pictures: list[Tensor]) -> Tensor:
        asked.append(len(pictures))
        return encoded(pictures)

    rows = picture_rows([shown(10), shown(20, front=torch.full((2, 1), 5.0)), shown(30)], encode)

    assert asked == [5]
    assert [[float(own.mean()) for own in frame] for frame in rows] == [[10, 11], [5, 21], [30, 31]]


def test_where_all_is_known_nothing_is_encoded() -> None:
    """An encoder is not called for no picture."""
    known = {camera: torch.zeros(2, 1) for camera in VIEWS}

    ((front, wrist),) = picture_rows([shown(10, **known)], lambda _: torch.empty(0))

    assert (front, wrist) == (known["front"], known["wrist"])

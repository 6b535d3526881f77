"""PatchSelector: a small trained network that says what drift each patch token adds where it is reused.

Knows what planning has of patch tokens anyway; no pixel, no decoder. Its files are selector_file.py's.

What the tokens of a plan add is summed up, and the sum was trained to be a bound that drift keeps nine times in ten. So
one network says both which tokens are reused first and how many can be, within a budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.reuse.settings import RelevanceSource

FEATURES = 10  # of a token
LEAST_DISTANCE, LEAST_SCORE = 1e-3, 1e-2  # below these the logarithm says no more; a mean score is 1
LEAST_SPREAD, FURTHEST = 1e-3, 6.0
NEXT_TO_NOTHING = -8.0  # logarithm of the drift that a token adds before anything is learnt
AROUND = 3  # patches a side that count as near


@dataclass(frozen=True)
class SelectorForm:
    """What a selector was trained for, and its size."""

    width: int  # of the decoder's rows
    layers: int  # of the decoder
    cameras: tuple[str, ...]
    relevance: RelevanceSource
    relevance_layers: tuple[int, ...]
    hidden: int = 16


@dataclass(frozen=True)
class PatchEvidence:
    """What planning knows of one frame's patch tokens, all cameras'."""

    distance: Tensor  # [tokens]: relative L2 from the row that each one's keys and values came from
    scores: Tensor  # [tokens]: attention that each got
    ages: Tensor  # int [tokens]: frames since its keys and values were computed, at the last frame
    cameras: Sequence[slice]
    grid: tuple[int, int]  # rows, columns of patches of a camera

    def features(self) -> Tensor:
        """[tokens, FEATURES]: logarithms where sizes spread over orders of magnitude."""
        distance, scores = self.distance.float(), self.scores.float() * len(self.scores)
        moved = torch.stack((distance, self._near(distance), self._most(distance), self._whole(distance)))
        looked = torch.stack((scores, self._near(scores)))
        beside = torch.cat((self.ages.float()[None], self._places()))
        return torch.cat(((moved + LEAST_DISTANCE).log(), (looked + LEAST_SCORE).log(), beside)).T

    def _near(self, values: Tensor) -> Tensor:
        """The mean around each token."""
        pictures = values.view(len(self.cameras), 1, *self.grid)
        return functional.avg_pool2d(pictures, AROUND, 1, AROUND // 2, count_include_pad=False).flatten()

    def _most(self, values: Tensor) -> Tensor:
        """The largest around each token."""
        pictures = values.view(len(self.cameras), 1, *self.grid)
        return functional.max_pool2d(pictures, AROUND, 1, AROUND // 2).flatten()

    def _whole(self, values: Tensor) -> Tensor:
        """The mean of each token's camera."""
        return torch.cat([values[camera].mean().expand(camera.stop - camera.start) for camera in self.cameras])

    def _places(self) -> Tensor:
        """[3, tokens]: camera, row and column."""
        sides = (torch.arange(count, device=self.distance.device) for count in (len(self.cameras), *self.grid))
        return torch.cartesian_prod(*sides).T.float()


class PatchSelector(nn.Module):
    """A perceptron over each token's features."""

    def __init__(self, form: SelectorForm):
        super().__init__()
        self.form = form
        self.centre, self.spread = nn.Buffer(torch.zeros(FEATURES)), nn.Buffer(torch.ones(FEATURES))
        self.inward = nn.Linear(FEATURES, form.hidden)
        self.across = nn.Linear(form.hidden, form.hidden)
        self.outward = nn.Linear(form.hidden, 1)
        nn.init.constant_(self.outward.bias, NEXT_TO_NOTHING)

    def fit_scale(self, features: Tensor) -> None:
        """Standardize by the features [..., FEATURES] of the training frames."""
        every = features.reshape(-1, FEATURES)
        self.centre.copy_(every.mean(0))
        self.spread.copy_(every.std(0).clamp(min=LEAST_SPREAD))

    def forward(self, features: Tensor) -> Tensor:
        """[..., tokens, FEATURES] -> [..., tokens]: drift that each adds, above 0, in normalised units."""
        scaled = ((features - self.centre) / self.spread).clamp(-FURTHEST, FURTHEST)
        hidden = functional.silu(self.across(functional.silu(self.inward(scaled))))
        added: Tensor = self.outward(hidden)[..., 0].exp()
        return added


def within_drift(added: Tensor, eligible: Tensor, budget: float) -> Tensor:
    """Indices [n] of the eligible tokens that add least, as many as add no more than `budget` together."""
    order = added.masked_fill(~eligible, torch.inf).argsort(stable=True)
    return order[: int((added.masked_fill(~eligible, torch.inf)[order].cumsum(0) <= budget).sum())]

"""Batches from labelled scenes: some are acted on, others are only in histories; normalised as in the daemon.

Knows arrays and sampling; no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.models.prismatic.pixels import PixelPipeline
from stillframe.models.prismatic.vision import TOWERS
from stillframe_lab.train.auxiliary import Keypoints
from stillframe_lab.train.history.policy_objective import MemoryBatch
from stillframe_lab.train.history.recipe import MemoryRecipe
from stillframe_lab.train.history.sampling import NOTHING, Ids, LampMeaning, sample_memories
from stillframe_lab.train.new_checkpoint import preprocessor_json

PATCH_PX = next(iter(TOWERS.values())).patch_px


@dataclass(frozen=True)
class Scenes:
    """Labelled scenes: the arm anywhere, a lamp lit or none."""

    images: NDArray[np.uint8]  # [scenes, px, px, 3]
    actions: NDArray[np.float32]  # [scenes, colours, 7] towards each cube, normalised to [-1, 1]
    points_m: NDArray[np.float32]  # [scenes, 5, 3]
    points_px: NDArray[np.float32]  # [scenes, 5, 2]
    finger_rad: NDArray[np.float32]  # [scenes]
    shown: Ids  # [scenes] colour of the lit lamp, NOTHING if none is
    marked: NDArray[np.bool_]  # [scenes] whether the marker beside it is lit
    late: NDArray[np.bool_]  # [scenes] the lamps are white: the first cube has been reached
    played: NDArray[np.bool_]  # [scenes] where the policy itself has brought the arm, see mistakes.py

    @property
    def meaning(self) -> LampMeaning:
        """What their lamps say."""
        lit = self.shown != NOTHING
        return LampMeaning(np.where(self.marked, self.shown, NOTHING), lit & ~self.marked)

    @classmethod
    def joined(cls, parts: Sequence[Scenes]) -> Scenes:
        """Concatenate scenes."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def of(self, indices: Ids) -> Scenes:
        """The scenes at these indices."""
        return Scenes(*(getattr(self, name)[indices] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class _Dark:
    """Indices of scenes without a lit lamp, which are acted on."""

    made: Ids
    played: Ids

    @classmethod
    def of(cls, scenes: Scenes, which: NDArray[np.bool_]) -> _Dark:
        return cls(np.flatnonzero(which & ~scenes.played), np.flatnonzero(which & scenes.played))

    def drawn(self, count: int, share: float, rng: np.random.Generator) -> Ids:
        """Draw so many, a share of them played by the policy, if there are any."""
        played = round(count * share) if len(self.played) else 0
        parts = ((self.made, count - played), (self.played, played))
        return np.concatenate([rng.choice(of, many) if many else of[:0] for of, many in parts])


class SceneDataset:
    """Draws batches of scenes."""

    def __init__(self, scenes: Scenes, recipe: MemoryRecipe):
        pixels = PixelPipeline.from_config(preprocessor_json(recipe.policy.image_px))
        mean, std = (torch.tensor(values)[:, :, None, None] for values in (pixels.means, pixels.stds))
        self._gain, self._bias = 1 / (255 * std), -mean / std  # [towers, 3, 1, 1] each
        self._scenes, self._recipe = scenes, recipe
        meaning = scenes.meaning
        dark = scenes.shown == NOTHING
        self._early, self._late = _Dark.of(scenes, dark & ~scenes.late), _Dark.of(scenes, dark & scenes.late)
        self._decoys = np.flatnonzero(meaning.decoy)
        self._cues = [np.flatnonzero(meaning.colour == colour) for colour in range(NOTHING)]

    def draw(self, rng: np.random.Generator) -> MemoryBatch:
        """As many pictures with a lamp lit as are acted on, each colour as often; of those acted on none has.

        Where two cues are asked for, half of those acted on are after the first.
        """
        count = self._recipe.policy.batch_images
        ordered = bool(rng.random() < self._recipe.ordered_share)
        late = count // 2 if ordered else 0
        share = self._recipe.mistake_share
        dark = self._early.drawn(count - late, share, rng), self._late.drawn(late, share, rng)
        decoys = rng.choice(self._decoys, count // 4) if len(self._decoys) else np.zeros(0, np.int64)
        each = (count - len(decoys)) // NOTHING
        cues = [rng.choice(of, each) for of in self._cues]
        picks = np.concatenate((*dark, *cues, decoys))
        scenes = self._scenes.of(picks)
        meaning = scenes.meaning
        drawn = sample_memories(meaning, scenes.late[:count], self._recipe, rng, ordered=ordered)
        actions = scenes.actions[np.arange(count)[:, None], drawn.target.numpy()]
        grid = self._recipe.policy.image_px // PATCH_PX
        points_m, points_px, finger_rad = map(torch.from_numpy, (scenes.points_m, scenes.points_px, scenes.finger_rad))
        shows = np.where(meaning.decoy, NOTHING + 1, meaning.colour)
        return MemoryBatch(
            self.normalised(scenes.images, rng),
            torch.from_numpy(actions),
            Keypoints.of(points_m, points_px, finger_rad, grid),
            torch.from_numpy(shows),
            torch.from_numpy(scenes.actions),
            drawn,
        )

    def normalised(self, images: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
        """uint8 [pictures, H, W, 3] -> float32 [pictures, 6, H, W], half of them with a camera's noise."""
        grey = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        sigma = rng.uniform(0, self._recipe.policy.noise_sigma_max, len(images)) * (rng.random(len(images)) < 0.5)
        noise = torch.from_numpy(rng.standard_normal(grey.shape, dtype=np.float32))
        noisy = (grey + noise * torch.from_numpy(sigma).float()[:, None, None, None]).round().clamp(0, 255)
        return torch.cat([noisy.mul(gain).add_(bias) for gain, bias in zip(self._gain, self._bias, strict=True)], dim=1)

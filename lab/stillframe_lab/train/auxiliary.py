"""Auxiliary heads: they train the network to locate objects; not part of the checkpoint.

Knows keypoints in patch units and hidden rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from stillframe.models.prismatic.vision import TOWERS

TOWER = next(iter(TOWERS.values()))
PATCH_PX, GRID = TOWER.patch_px, TOWER.grid
CUBES = 3
KEYPOINTS = CUBES + 2  # of the simulated Jaco2: red, green, blue cube, laser spot, tool
TRAITS = 4  # per keypoint: u, v (patches), height (decimetres), finger angle (rad; the tool's only)
NEAR_PATCHES = 0.5 + 3 / PATCH_PX  # a patch is "on" a keypoint within half a patch and three pixels
POSITIVE_WEIGHT = 8.0
OFFSET_BINS = 64
OFFSET_SIGMA_BINS = 1.5
OFFSET_SCALE_M, OFFSET_REACH = 0.02, 4.0  # asinh(offset / scale) spans +-reach


@dataclass(frozen=True)
class Keypoints:
    """Where the objects and the tool are, per picture; the tool is the last."""

    uv: Tensor  # [batch, keypoints, 2], patch units from the top left corner
    traits: Tensor  # [batch, keypoints, TRAITS]
    offsets_m: Tensor  # [batch, keypoints - 1, 3], object minus tool
    near: Tensor  # [batch, keypoints, patches], True where the patch is on the keypoint

    @classmethod
    def of(cls, points_m: Tensor, points_px: Tensor, finger_rad: Tensor, grid: int = GRID) -> Keypoints:
        """Compute from labels: metres [batch, keypoints, 3], pixels [batch, keypoints, 2], radians [batch].

        `grid`: patches along a side of the picture.
        """
        uv = points_px / PATCH_PX
        finger = torch.zeros_like(uv[..., :1])
        finger[:, -1, 0] = finger_rad
        traits = torch.cat((uv, 10 * points_m[..., 2:], finger), dim=-1)
        centres = torch.arange(grid) + 0.5
        patch_v, patch_u = torch.meshgrid(centres, centres, indexing="ij")
        patch_uv = torch.stack((patch_u.flatten(), patch_v.flatten()), dim=-1)
        near = ((uv[:, :, None] - patch_uv).abs() < NEAR_PATCHES).all(-1)
        return cls(uv, traits, points_m[:, :-1] - points_m[:, -1:], near)

    def to(self, device: torch.device) -> Keypoints:
        """Move to another device."""
        moved = (self.uv, self.traits, self.offsets_m, self.near)
        return Keypoints(*(tensor.to(device) for tensor in moved))

    @property
    def patch_of_object(self) -> Tensor:
        """[batch, keypoints - 1]: index of the patch that holds each object's centre."""
        grid = isqrt(self.near.shape[-1])
        column, row = self.uv[:, :-1].floor().clamp(0, grid - 1).long().unbind(-1)
        return row * grid + column


class KeypointHead(nn.Module):
    """Predicts for each patch which keypoints are on it, and their traits."""

    def __init__(self, width: int, keypoints: int = KEYPOINTS):
        super().__init__()
        self.present = nn.Linear(width, keypoints)
        self.traits = nn.Linear(width, keypoints * TRAITS)

    def forward(self, patches: Tensor, keypoints: Keypoints) -> Tensor:
        """Patch rows [batch, patches, width] -> a scalar loss."""
        near = keypoints.near.transpose(1, 2).float()  # [batch, patches, keypoints]
        weight = torch.tensor(POSITIVE_WEIGHT, device=patches.device)
        present = functional.binary_cross_entropy_with_logits(self.present(patches).float(), near, pos_weight=weight)
        predicted = self.traits(patches).float().unflatten(-1, (-1, TRAITS))
        wrong = (predicted - keypoints.traits[:, None]).abs()
        wrong[..., :-1, -1] = 0.0  # only the tool has fingers
        traits = (wrong.sum(-1) * near).sum() / near.sum().clamp(min=1)
        loss: Tensor = present + 0.3 * traits
        return loss


class PointerHead(nn.Module):
    """Predicts from an instruction's last text row the patch of the named object and its offset from the tool."""

    def __init__(self, width: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.offset = nn.Linear(width, 3 * OFFSET_BINS)

    def forward(self, text: Tensor, patches: Tensor, keypoints: Keypoints, object_of: Tensor) -> tuple[Tensor, Tensor]:
        """Text rows [batch, branches, width], the object that each branch names -> loss, share of hits.

        `object_of` [branches], or [batch, branches] where that differs from picture to picture.
        """
        scores = (self.query(text) @ self.key(patches).transpose(1, 2)).float() * text.shape[-1] ** -0.5
        object_of = object_of.expand(len(text), -1)
        wanted = keypoints.patch_of_object.gather(1, object_of)
        pointing = functional.cross_entropy(scores.flatten(0, 1), wanted.flatten())
        offsets_m = keypoints.offsets_m.gather(1, object_of[..., None].expand(-1, -1, 3))
        measuring = self._offset_loss(text, offsets_m)
        hits = (scores.argmax(-1) == wanted).float().mean()
        return 0.3 * pointing + 0.5 * measuring, hits

    def _offset_loss(self, text: Tensor, offsets_m: Tensor) -> Tensor:
        """Cross-entropy against soft bins of asinh(offset)."""
        logits = self.offset(text).float().unflatten(-1, (3, OFFSET_BINS))
        place = torch.asinh(offsets_m / OFFSET_SCALE_M).clamp(-OFFSET_REACH, OFFSET_REACH)
        place = (place / OFFSET_REACH + 1) * (OFFSET_BINS - 1) / 2
        return soft_cross_entropy(logits, place, OFFSET_SIGMA_BINS).mean()


def soft_cross_entropy(logits: Tensor, centre: Tensor, sigma_bins: float) -> Tensor:
    """Cross-entropy of [..., bins] against a Gaussian around `centre` [...], in bins -> [...]."""
    bins = torch.arange(logits.shape[-1], device=logits.device)
    target = torch.softmax(-((bins - centre[..., None]) ** 2) / (2 * sigma_bins**2), dim=-1)
    return -(target * functional.log_softmax(logits, dim=-1)).sum(-1)

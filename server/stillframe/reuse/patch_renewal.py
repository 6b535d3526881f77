"""PatchRenewal: which patches of a picture the vision towers compute anew, and what becomes of the others' rows.

Knows pixels and rows of one picture's patches; no tower, no session. A patch that shows what it did is not the same to
a tower that attends globally: its row moves with what happens elsewhere in the picture. So a sample of such patches,
every time another, is computed with those that changed, and the others' rows move as those of the sample near them did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]  # [patches, px * px * 3]

SAMPLE_STEP = 4  # along a side: a patch of the sample to so many that lie beside it; all have had their turn after 16
ROWS_STEP = 16  # counts of computed patches are multiples: kernels are made for each count that comes
MOST_CHANGED = 0.5  # share of patches; from there on a whole pass costs as much


@dataclass(frozen=True)
class Renewal:
    """What is computed of one picture."""

    at: NDArray[np.intp]  # [n] patches, rising; none where nothing changed
    sampled: NDArray[np.bool_]  # [n]: shows what it did


class PatchRenewal:
    """The rule for pictures of `grid` x `grid` patches."""

    def __init__(self, grid: int, limit: float, device: torch.device):
        """`limit`: most that a pixel may differ from what its patch was computed from, grey levels."""
        place = np.arange(grid * grid)
        row, column = place // grid, place % grid
        self._phase = row % SAMPLE_STEP * SAMPLE_STEP + column % SAMPLE_STEP
        apart = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
        self._nearness = torch.from_numpy(1.0 / (1.0 + apart)).float().to(device)  # [patches, patches]
        self._limit = limit

    def choose(self, seen: Pixels, reference: Pixels, turn: int) -> Renewal | None:
        """What to compute of a picture, `turn` pictures after the last whole pass; None: all of it.

        `reference`: what each patch was computed from.
        """
        changed = self.changed(seen, reference)
        count = int(changed.sum())
        if count > MOST_CHANGED * len(changed):
            return None
        at = np.flatnonzero(changed)
        if count:
            unchanged = np.flatnonzero(~changed)
            due = np.argsort((self._phase[unchanged] - turn) % SAMPLE_STEP**2, kind="stable")
            at = np.sort(np.concatenate((at, unchanged[due[: ROWS_STEP + -count % ROWS_STEP]])))
        return Renewal(at, ~changed[at])

    def changed(self, seen: Pixels, reference: Pixels) -> NDArray[np.bool_]:
        """Which patches [patches] show something else."""
        difference = np.maximum(seen, reference) - np.minimum(seen, reference)
        changed: NDArray[np.bool_] = difference.max(axis=1) > self._limit
        return changed

    def motion(self, rows: Tensor, computed: Tensor, renewal: Renewal) -> float:
        """How far the sample's rows moved, relative L2, the mean of all; 0 where there is none. Waits for a GPU."""
        sampled = torch.from_numpy(renewal.sampled).to(rows.device)
        before = rows[torch.from_numpy(renewal.at[renewal.sampled]).to(rows.device)]
        moved = torch.linalg.vector_norm(computed[sampled] - before, dim=-1, dtype=torch.float32)
        sizes = torch.linalg.vector_norm(before, dim=-1, dtype=torch.float32).clamp_min(torch.finfo(torch.float32).tiny)
        return float((moved / sizes).mean()) if len(moved) else 0.0

    def renewed(self, rows: Tensor, computed: Tensor, renewal: Renewal) -> Tensor:
        """All rows [patches, width] of a picture: those that were computed [n, width], the others moved.

        By the mean of how far each patch of the sample moved, the nearer the heavier: inverse squares of distances.
        """
        at = torch.from_numpy(renewal.at).to(rows.device)
        sampled = torch.from_numpy(renewal.sampled).to(rows.device)
        if renewal.sampled.any():
            sample = at[sampled]
            nearness = self._nearness[:, sample]
            weights = (nearness / nearness.sum(dim=1, keepdim=True)).to(rows.dtype)
            rows = rows + weights @ (computed[sampled] - rows[sample])
        return rows.index_copy(0, at, computed)


def pixels_of(view: NDArray[np.uint8], grid: int) -> Pixels:
    """Cut a view [H, W, 3] into patches; a copy."""
    height, width = view.shape[0] // grid, view.shape[1] // grid
    cut = view.reshape(grid, height, grid, width, 3).swapaxes(1, 2)
    return np.array(cut).reshape(grid * grid, -1)

"""Layer schedules: which share of the reusable tokens each decoder layer drops; never falling with depth.

Knows layers and shares; no token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Shares = tuple[float, ...]  # per layer, 0 to 1, never falling


class Schedule(Protocol):
    """Spreads the dropped rows over the layers."""

    needs_entropies: bool

    def __call__(self, layers: int, entropies: Tensor | None) -> Shares:
        """Shares for `layers` layers; `entropies` [layers] are those of the last pass."""
        ...


@dataclass(frozen=True)
class Fixed:
    """A fixed, calibrated schedule; the last share applies to all further layers."""

    shares: Sequence[float] = ()
    needs_entropies = False

    def __call__(self, layers: int, entropies: Tensor | None) -> Shares:  # noqa: ARG002 (the seam's shape)
        """The given shares; none: everything from the first layer on."""
        given = [*self.shares] or [1.0]
        return tuple(given[min(layer, len(given) - 1)] for layer in range(layers))


@dataclass(frozen=True)
class CumulativeEntropy:
    """The paper's: alpha_l = min(k * sum of R_j for j <= l, 1), R_j = (E_(j-1) - E_j) / E_(j-1). VLA-Cache, 3.3.

    A layer may drop rows only if it is among `layers` (none: every layer but the first).
    """

    k: float
    layers: Sequence[int] = ()
    needs_entropies = True

    def __call__(self, layers: int, entropies: Tensor | None) -> Shares:
        """Shares from the last pass's entropies; without any, nothing is dropped."""
        if entropies is None:
            return (0.0,) * layers
        values = entropies.tolist()
        total, share, shares = 0.0, 0.0, [0.0]
        for layer in range(1, layers):
            total += (values[layer - 1] - values[layer]) / max(values[layer - 1], 1e-9)
            if not self.layers or layer in self.layers:
                share = max(share, min(self.k * total, 1.0))
            shares.append(share)
        return tuple(shares)

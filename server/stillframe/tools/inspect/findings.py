"""Findings: what there is to say of a checkpoint's folder, and its form as JSON.

Knows names, sizes and text; opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from stillframe.domain import WeightScheme

FIRST = 5  # names that are listed of many


@dataclass(frozen=True)
class TensorTotals:
    """Some stored tensors together: how many, their numbers, their bytes on disk, and how many are of each dtype."""

    tensors: int
    parameters: int
    bytes: int
    dtypes: Mapping[str, int]


@dataclass(frozen=True)
class PartSize:
    """One part of the network."""

    name: str
    layers: int
    width: int
    heads: int  # 0: it has no attention
    totals: TensorTotals


@dataclass(frozen=True)
class Names:
    """Some tensors by name."""

    count: int
    first: Sequence[str]

    @classmethod
    def of(cls, names: Sequence[str]) -> Names:
        """Count them, keep the first few."""
        return cls(len(names), list(names[:FIRST]))


NONE = Names(0, ())


@dataclass(frozen=True)
class Findings:
    """All that was found; what comes after a refusal is not known, and empty."""

    checkpoint: str
    source: str | None = None  # the hub's repository and commit, where it is a snapshot of one
    family: str | None = None  # None: refused before it was known
    refusal: str | None = None  # why `serve` would not serve it; None: it would, as far as names and shapes tell
    stored: TensorTotals | None = None
    groups: Mapping[str, TensorTotals] = field(default_factory=dict)  # by how names begin
    parts: Sequence[PartSize] = ()
    memory: Mapping[WeightScheme, int] = field(default_factory=dict)  # by the setting `weights`, the others in bfloat16
    unused: Names = NONE
    missing: Names = NONE
    unknown: Names = NONE
    statistics_in: str | None = None
    statistics: Mapping[str, Any] = field(default_factory=dict)  # unnorm_key -> q01, q99, mask
    contract: Mapping[str, Any] = field(default_factory=dict)
    state: Mapping[str, Any] | None = None
    tokenizer: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def document(self) -> dict[str, Any]:
        """As JSON writes it."""
        return {"served": self.refusal is None, **asdict(self)}

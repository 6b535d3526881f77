"""A state's numbers by name, unit and range, from the statistics; for every contract that tells them.

Knows statistics; no route.
"""

from __future__ import annotations

from typing import Any

from stillframe.domain import StateInfo


def state_fields(state: StateInfo) -> list[dict[str, Any]]:
    """Return {"name", "unit", "ranges"} of each number, in the policy's order. `unit` None: it is not known.

    `ranges`: unnorm_key -> [low, high], which become -1 and 1; None where it is not scaled.
    """
    described = enumerate(zip(state.names, state.units, strict=True))
    return [{"name": name, "unit": unit or None, "ranges": _ranges(state, at)} for at, (name, unit) in described]


def _ranges(state: StateInfo, at: int) -> dict[str, list[float] | None]:
    return {
        key: [float(entry["low"][at]), float(entry["high"][at])] if entry["mask"][at] else None
        for key, entry in state.norm_stats.items()
    }

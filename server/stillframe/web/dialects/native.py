"""The native wire: pictures by camera, and a reply with all metadata.

Knows no other client's words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stillframe.domain import PolicyInfo
from stillframe.web.dialects.base import NativeFrame, Reply, finite
from stillframe.web.http.parsing import Fields


@dataclass(frozen=True)
class Native:
    """Rows of numbers in JSON, an array in msgpack."""

    binary: bool = False
    name: str = "native"

    def translate(self, fields: Fields, info: PolicyInfo) -> NativeFrame:  # noqa: ARG002 (a dialect's shape)
        """Return the fields unchanged."""
        return NativeFrame(fields)

    def write(self, answer: Reply) -> dict[str, Any]:
        """The whole chunk, [horizon, action_dim], and the report. float64 in JSON, float32 in msgpack."""
        actions = finite(answer.chunk).actions
        document = {
            "actions": actions.astype("<f4") if self.binary else np.asarray(actions, np.float64).tolist(),
            "steps": _steps(answer),
            "unnorm_key": answer.chunk.unnorm_key,
            "model": answer.model,
            "timing_ms": dict(answer.timing_ms),
            **answer.report,
            **answer.echo,
        }
        flags = {"late": answer.late, "replayed": answer.replayed}
        return document | {name: True for name, raised in flags.items() if raised}


def _steps(answer: Reply) -> dict[str, int]:
    """For which control steps the actions are: `first` is the frame's own, counted as its seq; 0 without a session.

    A robot that sends fewer frames than it plays actions has to number them by control step for that to hold.
    """
    place = answer.report.get("session")
    return {"first": place["seq"] if place else 0, "count": len(answer.chunk.actions)}


JSON_NATIVE = Native()
BINARY_NATIVE = Native(binary=True)

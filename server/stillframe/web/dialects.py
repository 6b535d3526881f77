"""Writes an action the way its client reads: OpenVLA's bare array, the same double-encoded, or a readable object.

Knows no HTTP and no pictures. Source of the first two: openvla/openvla vla-scripts/deploy.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillframe.domain import ActionChunk
from stillframe.errors import Internal
from stillframe_client.wire import encode_array


@dataclass(frozen=True)
class Dialect:
    """How the client spoke, which is how it is answered."""

    bare: bool  # raw pictures: the reply is the json_numpy array alone, as OpenVLA's clients expect
    double_encoded: bool  # JSON text inside a JSON string, both ways


def write_action(
    chunk: ActionChunk, dialect: Dialect, *, model: str, timing_ms: Mapping[str, float], report: Mapping[str, Any]
) -> bytes:
    """Write the reply's body.

    Bare: the action due now as a float64 (action_dim,) array; clients of this dialect know no chunks. Readable: the
    whole chunk, and the members of `report`. Raises Internal (non-finite-action) rather than let NaN or infinity reach
    a robot.
    """
    if not np.isfinite(chunk.actions).all():
        raise Internal("non-finite-action", "The policy returned NaN or infinity; stop the robot and look at the log.")
    document = _bare(chunk) if dialect.bare else {**_readable(chunk, model, timing_ms), **report}
    return _compact(json.dumps(document) if dialect.double_encoded else document)


def _bare(chunk: ActionChunk) -> dict[str, Any]:
    return encode_array(np.asarray(chunk.actions[0], "<f8"))


def _readable(chunk: ActionChunk, model: str, timing_ms: Mapping[str, float]) -> dict[str, Any]:
    return {
        "actions": chunk.actions.tolist(),
        "unnorm_key": chunk.unnorm_key,
        "model": model,
        "timing_ms": dict(timing_ms),
    }


def _compact(value: Any) -> bytes:
    """Write JSON as Starlette's JSONResponse does, so that the bytes are those of OpenVLA's own server."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

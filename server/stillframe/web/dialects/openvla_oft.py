"""OpenVLA-OFT's clients: a flat observation in, a list of actions out.

Knows no HTTP. Source: moojink/openvla-oft vla-scripts/deploy.py, experiments/robot/openvla_utils.py. Which picture is
which wrist's is said by their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stillframe.domain import PolicyInfo
from stillframe.web.dialects.base import NativeFrame, Reply, finite
from stillframe.web.dialects.cameras import assign_cameras
from stillframe.web.http.parsing import Fields
from stillframe_client.wire import encode_array

FULL_IMAGE = "full_image"  # the key that identifies this dialect


@dataclass(frozen=True)
class OpenVLAOFT:
    """`full_image`, any key with "wrist" in it, `state`, `instruction`."""

    name: str = "openvla-oft"

    def translate(self, fields: Fields, info: PolicyInfo) -> NativeFrame:
        """Assign pictures to the policy's cameras, wrists in order; surplus pictures are ignored."""
        pictures = {key: value for key, value in fields.items() if key == FULL_IMAGE or "wrist" in key}
        rest = {key: value for key, value in fields.items() if key not in pictures}
        return assign_cameras(pictures, rest, info, ordered=True)

    def write(self, answer: Reply) -> list[Any]:
        """One json_numpy vector for each action of the chunk, float64 (action_dim,)."""
        return [encode_array(np.asarray(action, "<f8")) for action in finite(answer.chunk).actions]


OPENVLA_OFT = OpenVLAOFT()

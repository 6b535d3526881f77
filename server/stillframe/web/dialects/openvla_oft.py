"""OpenVLA-OFT's clients: a flat observation in, a list of actions out.

Knows no HTTP. Source: moojink/openvla-oft vla-scripts/deploy.py, experiments/robot/openvla_utils.py. Which picture is
which wrist's is said by their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stillframe.domain import PolicyInfo
from stillframe.web.dialects.base import Answer, Fields, Said, finite
from stillframe.web.dialects.cameras import placed
from stillframe_client.wire import encode_array

FULL_IMAGE = "full_image"  # the key that gives this dialect away


@dataclass(frozen=True)
class OpenVLAOFT:
    """`full_image`, any key with "wrist" in it, `state`, `instruction`."""

    name: str = "openvla-oft"

    def translate(self, fields: Fields, info: PolicyInfo) -> Said:
        """Give each of the policy's cameras its picture, wrists in their order; what it has no camera for is left."""
        pictures = {key: value for key, value in fields.items() if key == FULL_IMAGE or "wrist" in key}
        rest = {key: value for key, value in fields.items() if key not in pictures}
        return placed(pictures, rest, info, ordered=True)

    def write(self, answer: Answer) -> list[Any]:
        """One json_numpy vector for each action of the chunk, float64 (action_dim,)."""
        return [encode_array(np.asarray(action, "<f8")) for action in finite(answer.chunk).actions]


OPENVLA_OFT = OpenVLAOFT()

"""OpenVLA's clients, plain and double-encoded. Source: openvla/openvla vla-scripts/deploy.py.

Knows no HTTP. Their words for a frame are those of the native wire; their answer is the action due now, an array alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillframe.domain import PolicyInfo
from stillframe.web.dialects.base import Answer, Dialect, Fields, Said, finite
from stillframe_client.wire import encode_array


@dataclass(frozen=True)
class OpenVLA:
    """Raw pictures as json_numpy objects."""

    name: str = "openvla"

    def translate(self, fields: Fields, info: PolicyInfo) -> Said:  # noqa: ARG002 (a dialect's shape)
        """As it is: `image`, `instruction`, `unnorm_key`."""
        return Said(fields)

    def write(self, answer: Answer) -> Any:
        """The first action, float64 (action_dim,): these clients know no chunks."""
        return encode_array(np.asarray(finite(answer.chunk).actions[0], "<f8"))


@dataclass(frozen=True)
class DoubleEncoded:
    """Another dialect as JSON text inside a JSON string, both ways."""

    inner: Dialect

    @property
    def name(self) -> str:
        """One name, whatever is inside."""
        return "double-encoded"

    def translate(self, fields: Fields, info: PolicyInfo) -> Said:
        """What is inside."""
        return self.inner.translate(fields, info)

    def write(self, answer: Answer) -> str:
        """The answer as a string."""
        return json.dumps(self.inner.write(answer), allow_nan=False)


OPENVLA = OpenVLA()

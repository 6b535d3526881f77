"""OpenVLA's clients, plain and double-encoded. Source: openvla/openvla vla-scripts/deploy.py.

Knows no HTTP. Their frame fields are native; the reply is the next action, a bare array.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillframe.domain import PolicyInfo
from stillframe.web.dialects.base import Dialect, NativeFrame, Reply, finite
from stillframe.web.http.parsing import Fields
from stillframe_client.wire import encode_array

PROPRIO = "proprio"  # auto_eval's word


@dataclass(frozen=True)
class OpenVLA:
    """Raw pictures as json_numpy objects."""

    name: str = "openvla"

    def translate(self, fields: Fields, info: PolicyInfo) -> NativeFrame:  # noqa: ARG002 (a dialect's shape)
        """Return the fields unchanged: `image`, `instruction`, `unnorm_key`; auto_eval's `proprio` is the state."""
        if PROPRIO not in fields or "state" in fields:
            return NativeFrame(fields)
        rest = {key: value for key, value in fields.items() if key != PROPRIO}
        return NativeFrame({**rest, "state": fields[PROPRIO]}, {"/state": f"/{PROPRIO}"})

    def write(self, answer: Reply) -> Any:
        """The first action, float64 (action_dim,): these clients know no chunks."""
        return encode_array(np.asarray(finite(answer.chunk).actions[0], "<f8"))


@dataclass(frozen=True)
class DoubleEncoded:
    """Another dialect as JSON text inside a JSON string, both ways."""

    inner: Dialect

    @property
    def name(self) -> str:
        """One name for every inner dialect."""
        return "double-encoded"

    def translate(self, fields: Fields, info: PolicyInfo) -> NativeFrame:
        """Translate the inner frame."""
        return self.inner.translate(fields, info)

    def write(self, answer: Reply) -> str:
        """The answer as a string."""
        return json.dumps(self.inner.write(answer), allow_nan=False)


OPENVLA = OpenVLA()

"""Asks a Prometheus for what a panel shows over a span of time.

Knows Prometheus' HTTP API; not what is asked or how it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
import numpy as np
from numpy.typing import NDArray

from stillframe.errors import StillframeError


@dataclass(frozen=True)
class Series:
    """One line of a panel. A time without a value is absent."""

    labels: Mapping[str, str]
    times_s: NDArray[np.float64]  # [n], of the clock, rising
    values: NDArray[np.float64]  # [n], in the query's unit; NaN where the query divides nought by nought


@dataclass(frozen=True)
class Span:
    """From when to when, and how far apart the values are."""

    begin_s: float
    end_s: float
    step_s: float


def ask_range(prometheus: httpx.Client, query: str, span: Span) -> list[Series]:
    """Every series of a query's answer. Raises StillframeError for a query that Prometheus refuses."""
    parameters: dict[str, str | float] = {"query": query, "start": span.begin_s, "end": span.end_s, "step": span.step_s}
    reply = prometheus.get("/api/v1/query_range", params=parameters).json()
    if reply["status"] != "success":
        raise StillframeError(f"Prometheus refuses {query!r}: {reply['error']}")
    return [_series(said["metric"], said["values"]) for said in reply["data"]["result"]]


def _series(labels: Mapping[str, str], values: list[tuple[float, str]]) -> Series:
    both = np.array([(at_s, float(value)) for at_s, value in values], np.float64).reshape(-1, 2)
    return Series(labels, both[:, 0], both[:, 1])

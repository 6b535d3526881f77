"""Readings of a daemon, made by hand. Knows the records; no daemon."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console, RenderableType

from stillframe.tools.top.snapshot import Contract, Reading, SessionRow, Snapshot, Totals

CONTRACT = {
    "name": "arm-policy",
    "family": "openvla",
    "device": "cpu",
    "dtype": "float32",
    "weights": "int8",
    "weight_bytes": 3 * 2**20,
    "draft": "exact",
    "default_unnorm_key": "jaco",
    "observation": {"cameras": ["front", "wrist"], "image_size": [224, 320], "state": None},
    "action": {"fields": [{"name": "dx"}, {"name": "gripper"}], "chunk_horizon": 8},
}


def session_row(
    id_: str = "arm",
    *,
    owner: str = "anonymous",
    idle_s: float = 0.0,
    in_flight: int = 0,
    cache: dict[str, Any] | None = None,
    **latest: Any,
) -> SessionRow:
    """A session with one frame; `cache` and `latest`: what its newest frame says differently."""
    newest = {
        "seq": 41,
        "age_s": 0.25,
        "cache": {"reason": None, "kv_bytes": 2**20} | (cache or {}),
        "passes": 3,
        "history": None,
        "median_ms": {"queue": 1.25, "prefill": 140.4},
        "drift": 0.0125,
    }
    return SessionRow.model_validate(
        {
            "id": id_,
            "owner": owner,
            "state": "busy" if in_flight else "idle",
            "in_flight": in_flight,
            "idle_s": idle_s,
            "recent": {"reuse_ratio": 0.81, "total_ms": 141.6, "frames_per_s": 4.5},
            "latest": newest | latest,
        }
    )


def made_totals(at_s: float = 10.0, **differently: Any) -> Totals:
    """The totals of a daemon that answered 100 frames."""
    base: dict[str, Any] = {
        "frames": {"answered": 90.0, "late": 10.0, "refused": 0.0},
        "rejected": {},
        "sessions_refused": 0.0,
        "rate_limited": 0.0,
        "queued": 2.0,
        "streams": 1.0,
        "history_bytes": 0.0,
    }
    return Totals(at_s, **(base | differently))


def made_reading(
    *rows: SessionRow, totals: Totals | None = None, loaded: bool = True, before: Totals | None = None, **snapshot: Any
) -> Reading:
    """A reading of a daemon with these sessions."""
    base = {
        "state": "ready",
        "version": "9.8.7",
        "settings": {"reuse": {"mode": "adaptive", "drift_budget": 0.02}},
        "not_listed": 0,
        "sessions_limit": 16,
        "kv_in_use_bytes": 2**20,
        "kv_budget_bytes": 4 * 2**20,
    }
    told = Snapshot.model_validate(base | snapshot | {"sessions": [row.model_dump() for row in rows]})
    contract = Contract.model_validate(CONTRACT) if loaded else None
    return Reading("http://robots:8000/seven", told, totals or made_totals(), contract, before)


@pytest.fixture
def row() -> Callable[..., SessionRow]:
    """Make a session: `row("arm", drift=0.5)`."""
    return session_row


@pytest.fixture
def totals() -> Callable[..., Totals]:
    """Make totals."""
    return made_totals


@pytest.fixture
def reading() -> Callable[..., Reading]:
    """Make a reading of sessions."""
    return made_reading


@pytest.fixture
def drawn() -> Callable[..., list[str]]:
    """What a renderable is on a terminal of some width, line by line; with `styles` its colours as well."""

    def draw(*parts: RenderableType, width: int = 160, styles: bool = False) -> list[str]:
        console = Console(record=True, width=width, height=50, force_terminal=True, file=io.StringIO())
        for part in parts:
            console.print(part)
        return [line.rstrip() for line in console.export_text(styles=styles).splitlines()]

    return draw

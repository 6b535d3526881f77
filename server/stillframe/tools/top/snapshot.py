"""What a daemon says of itself and its sessions, as records that are checked when they are read.

Knows the members that are shown, of /live/sessions, /v1/models and /metrics; no connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

Labelled = Mapping[str, float]  # a label's value -> the series


class History(BaseModel):
    """Chunks of older frames that a session keeps."""

    held: int
    kept: int
    dropped: int


class Cache(BaseModel):
    """What a frame reused."""

    reason: str | None  # why the frame was computed whole; None: it was not
    kv_bytes: int


class Latest(BaseModel):
    """A session's newest frame."""

    seq: int
    age_s: float
    cache: Cache
    passes: int
    history: History | None
    median_ms: dict[str, float]  # stage -> of the last frames
    drift: float | None


class Recent(BaseModel):
    """A session's last frames."""

    reuse_ratio: float | None
    total_ms: float | None
    frames_per_s: float


class SessionRow(BaseModel):
    """One session."""

    id: str
    owner: str
    state: str
    in_flight: int
    idle_s: float
    recent: Recent | None
    latest: Latest | None


class Snapshot(BaseModel):
    """The reply of /live/sessions."""

    state: str
    version: str
    settings: dict[str, Any]
    sessions: list[SessionRow]
    not_listed: int
    sessions_limit: int | None
    kv_in_use_bytes: int
    kv_budget_bytes: int


class ActionField(BaseModel):
    """One number of an action."""

    name: str


class Action(BaseModel):
    """What an action is."""

    fields: list[ActionField]
    chunk_horizon: int


class State(BaseModel):
    """What a policy reads of a robot's state."""

    fields: list[ActionField]


class Observation(BaseModel):
    """What a frame has to hold."""

    cameras: list[str]
    image_size: tuple[int, int]  # height, width
    state: State | None


class Contract(BaseModel):
    """One model of /v1/models."""

    name: str
    family: str
    device: str
    dtype: str
    weights: str
    weight_bytes: int
    draft: str
    default_unnorm_key: str | None
    observation: Observation
    action: Action


class Models(BaseModel):
    """The reply of /v1/models."""

    models: list[Contract]


@dataclass(frozen=True)
class Totals:
    """Of all callers and sessions, from /metrics: counts since the daemon started, and how things stand."""

    at_s: float  # monotonic, when it was read
    frames: Labelled  # how they ended -> how many
    rejected: Labelled  # a problem's code -> how many frames
    sessions_refused: float
    rate_limited: float  # requests beyond what one caller may ask
    queued: float  # frames
    streams: float  # WebSockets
    history_bytes: float

    @property
    def answered(self) -> float:
        """Frames that were answered, in time or late."""
        return self.frames.get("answered", 0.0) + self.frames.get("late", 0.0)

    def answered_per_s(self, before: Totals | None) -> float | None:
        """Answers a second since an earlier reading; None: there is none, or the daemon began anew since."""
        if before is None or self.at_s <= before.at_s or self.answered < before.answered:
            return None
        return (self.answered - before.answered) / (self.at_s - before.at_s)


@dataclass(frozen=True)
class Reading:
    """All that is shown at once."""

    url: str
    snapshot: Snapshot
    totals: Totals
    contract: Contract | None = None  # None: no policy is loaded yet
    before: Totals | None = None  # of the reading before this one
    trouble: str | None = None  # why the daemon could not be read since; None: it could

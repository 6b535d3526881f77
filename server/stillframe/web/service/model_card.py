"""What a served policy expects and what its numbers mean: the reply of /v1/models.

Knows no HTTP and no model: a PolicyInfo becomes a document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel

from stillframe.domain import DraftMode, PolicyInfo, StateInfo, WeightScheme
from stillframe.web.dialects.action_ranges import GRIPPER, action_range, gripper_meaning, gripper_range
from stillframe.web.dialects.state_ranges import state_fields

# The action's names and units are those of OpenVLA: a step of the hand in the frame of the robot's base.
_UNITS = MappingProxyType({"dx": "m", "dy": "m", "dz": "m", "droll": "rad", "dpitch": "rad", "dyaw": "rad"})


class ActionField(BaseModel):
    """One number of an action."""

    name: str
    unit: str  # "m", "rad", or "1" for a number without one
    meaning: str
    ranges: dict[str, tuple[float, float]]  # unnorm_key -> lowest and highest number that an answer holds


class RtcContract(BaseModel):
    """Whether chunks can be held to the one before, as a frame's `rtc` asks (real-time chunking)."""

    process: Literal["flow", "diffusion"] | None  # whose steps are guided; null: they cannot be held
    why: str | None  # they cannot; null: they can


class ActionContract(BaseModel):
    """What an action is."""

    fields: list[ActionField]
    frame: str
    gripper: str
    dtype: str
    chunk_horizon: int  # actions in an answer
    execute: int  # of these, so many are to be played before the next are asked for: what the deployment advises
    rtc: RtcContract


class StateField(BaseModel):
    """One number of a robot's state."""

    name: str
    unit: str | None  # "m", "rad", "1" for a number without one; null: the checkpoint does not say
    # unnorm_key -> what becomes -1 and 1 (beyond it is clipped); null: it is not scaled
    ranges: dict[str, tuple[float, float] | None]


class StateContract(BaseModel):
    """What a frame has to say of the robot itself: these numbers, in this order or by these names."""

    fields: list[StateField]
    dtype: str


class ObservationContract(BaseModel):
    """What a frame has to hold."""

    cameras: list[str]
    image_size: tuple[int, int]  # height, width as the model sees them
    image: str
    camera_keys: dict[str, str]  # camera -> the key under which its picture comes in, where the deployment fixes that
    camera_slots: dict[str, str]  # camera -> the checkpoint's own name for it, where that is another; as good
    center_crop: float | None  # share of each picture's area, at its middle, that is looked at; null: all of it
    state: StateContract | None  # null: the policy reads none, and one that is sent is left aside


class NormStats(BaseModel):
    """The range of each action number in one data set; only where mask is true was it scaled."""

    q01: list[float]
    q99: list[float]
    mask: list[bool]


class HistoryContract(BaseModel):
    """Whether answers look at older frames of their session, why, and what is kept of them."""

    enabled: bool
    why: str
    trained: bool  # whether the checkpoint was trained with older frames
    warning: str | None  # in every reply as well
    gate: str | None  # who says what a chunk is worth; null, as all that follows: not enabled
    chunk_tokens: int | None  # image tokens that become one chunk
    slots: int | None  # keys and values that it takes in each layer and head
    window_frames: int | None  # the last frames, which stay whatever they are worth
    budget_bytes: int | None  # of one session; null: without end as well


class ModelCard(BaseModel):
    """One served policy."""

    name: str
    source: str | None  # "org/name@commit" of the hub's repository that it was fetched from; null: a folder
    family: str
    parameters: int
    dtype: str  # of rows, and of weights that are not quantised
    weights: WeightScheme  # how the decoder's layers are held
    weight_bytes: int  # of all weights on the device
    device: str
    observation: ObservationContract
    action: ActionContract
    norm_stats: dict[str, NormStats]
    default_unnorm_key: str | None
    default_instruction: str | None  # what a frame without one says to do; null: such a frame is refused
    openpi_metadata: dict[str, Any]  # what the deployment adds to openpi's first message
    profile: str  # whose clients this port is for
    history: HistoryContract
    # Measured at load, on this machine. True: frames side by side are answered, to the bit, as each would be alone.
    # False: up to rounding, which can show only where two tokens are as good as equal.
    batch_invariant: bool
    # How guesses of an action's tokens are verified: decoding.draft. exact: greedy tokens, each the likeliest of a pass
    # in which those before it are right; to the bit where the decoder is batch invariant, else up to rounding, and
    # cache.bit_equal says of each answer. strict: to the bit everywhere, in more passes where it is not. relaxed: a
    # guess stands if it is near. off: a pass a token, or no token is decoded.
    draft: DraftMode


class ModelList(BaseModel):
    """The served policies: one, for now."""

    models: list[ModelCard]


def model_card(info: PolicyInfo) -> ModelCard:
    """Return the card of `info`."""
    return ModelCard(
        name=info.name,
        source=info.source,
        family=info.family,
        parameters=info.parameters,
        dtype=info.dtype,
        weights=info.weights,
        weight_bytes=info.weight_bytes,
        device=info.device,
        observation=_observation(info),
        action=_action(info),
        norm_stats={key: _norm_stats(entry) for key, entry in info.norm_stats.items()},
        default_unnorm_key=info.default_unnorm_key,
        default_instruction=info.default_instruction,
        openpi_metadata=dict(info.openpi_metadata),
        profile=info.profile,
        history=HistoryContract(**asdict(info.history)),
        batch_invariant=info.batch_invariant,
        draft=info.draft,
    )


def _observation(info: PolicyInfo) -> ObservationContract:
    accepted = "uint8 RGB, channels last, of any size; the daemon resizes"
    return ObservationContract(
        cameras=list(info.cameras),
        image_size=info.image_size,
        image=accepted,
        camera_keys=dict(info.camera_keys),
        camera_slots=dict(info.camera_slots),
        center_crop=info.center_crop,
        state=None if info.state is None else _state(info.state),
    )


def _state(state: StateInfo) -> StateContract:
    return StateContract(fields=[StateField(**field) for field in state_fields(state)], dtype="float64")


def _action(info: PolicyInfo) -> ActionContract:
    return ActionContract(
        fields=[_field(at, name, info) for at, name in enumerate(info.action_names)],
        frame="robot base",
        gripper=gripper_meaning(info),
        dtype="float64",
        chunk_horizon=info.chunk_horizon,
        execute=info.replan_after,
        rtc=RtcContract(**asdict(info.rtc)),
    )


def _field(at: int, name: str, info: PolicyInfo) -> ActionField:
    if name == GRIPPER:
        ranges = {key: gripper_range(entry, at) for key, entry in info.norm_stats.items()}
        return ActionField(name=name, unit="1", meaning=gripper_meaning(info), ranges=ranges)
    unit = _UNITS.get(name, "1")
    kind = {"m": "step of the hand's position", "rad": "step of the hand's rotation"}.get(
        unit, "as the data set has it"
    )
    ranges = {key: action_range(entry, at, (-1.0, 1.0)) for key, entry in info.norm_stats.items()}
    return ActionField(name=name, unit=unit, meaning=kind, ranges=ranges)


def _norm_stats(entry: Mapping[str, Any]) -> NormStats:
    mask = entry.get("mask") or [True] * len(entry["q01"])
    return NormStats(q01=list(entry["q01"]), q99=list(entry["q99"]), mask=[bool(part) for part in mask])

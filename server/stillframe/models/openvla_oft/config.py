"""OFTConfig: what a fine-tuned checkpoint is, from config.json, its parts' shapes and its data sets.

Knows our own keys of config.json, which published checkpoints lack: num_actions_chunk, action_head, use_proprio,
action_proprio_normalization, cameras, action_names, state_names, state_units.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from stillframe.errors import CheckpointError, closest
from stillframe.files.kinds import shown
from stillframe.models.openvla_oft.parts import ACTION_HEAD, STATE_PROJECTOR
from stillframe.models.openvla_oft.platforms import BOUNDS, PLATFORMS, Platform, platform_of
from stillframe.models.parts import Part
from stillframe.models.prismatic.checks import ACTION_NAMES
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.scales import ENDS

LOG = logging.getLogger(__name__)
HeadKind = Literal["l1", "discrete"]
NORMALISATIONS = {"bounds_q99": ENDS, "bounds": BOUNDS}
MOST_ACTIONS, MOST_CAMERAS = 1024, 3
SETTINGS = (
    *("num_actions_chunk", "action_head", "use_proprio", "action_proprio_normalization", "cameras"),
    *("action_names", "state_names", "state_units"),
)  # keys that a deployment may say otherwise
DIFFUSION = "noise_predictor."


@dataclass(frozen=True)
class OFTConfig:
    """One checkpoint's sizes and meanings, beside those of its backbone."""

    backbone: PrismaticConfig
    head: HeadKind
    chunk: int  # actions in one answer
    ends: tuple[str, str]  # statistics that are -1 and 1 of the normalised range
    action_names: tuple[str, ...]
    state_names: tuple[str, ...]  # none: it reads no state
    state_units: tuple[str, ...]

    @property
    def action_rows(self) -> int:
        """A row for each number of each action."""
        return self.chunk * len(self.action_names)

    @classmethod
    def of(
        cls, config: Mapping[str, Any], head: Part | None, projector: Part | None, data_sets: Collection[str]
    ) -> OFTConfig:
        """Raises CheckpointError for a part that is missing or of another width, and for what nothing says."""
        backbone = PrismaticConfig.from_json(config)
        kind = _kind(config, head, projector)
        row = backbone.decoder.hidden_size
        action_dim = len(_names(config, "action_names", ACTION_NAMES))
        if head is not None and kind == "l1":
            action_dim = _action_dim(head, row)
        state_dim = _state_dim(config, projector, row)
        platform = platform_of(data_sets, action_dim, state_dim)
        names = platform.action_names if platform else ACTION_NAMES
        states = platform.state_names if platform else tuple(f"state_{at}" for at in range(state_dim or 0))
        units = platform.state_units if platform else ("",) * len(states)
        read = cls(
            backbone=replace(backbone, cameras=_cameras(config, backbone, platform)),
            head=kind,
            chunk=_chunk(config, platform, data_sets),
            ends=_ends(config, platform),
            action_names=_names(config, "action_names", names, action_dim),
            state_names=_names(config, "state_names", states, state_dim) if state_dim else (),
            state_units=_names(config, "state_units", units, state_dim) if state_dim else (),
        )
        _check_room(read)
        return read


def _kind(config: Mapping[str, Any], head: Part | None, projector: Part | None) -> HeadKind:
    """Which head says the actions. A discrete one has no file, so it has to be named."""
    kind = config.get("action_head", "l1")
    if kind not in get_args(HeadKind):
        served = " or ".join(map(repr, get_args(HeadKind)))
        raise CheckpointError(
            f"config.json: action_head is {shown(repr(kind))}; served are {served}."
            f"{closest(str(kind), get_args(HeadKind))}"
        )
    if kind == "l1" and head is None:
        beside = f", though {projector.where} is there" if projector else ""
        raise CheckpointError(
            f"an OpenVLA-OFT checkpoint without its action head{beside}: put {ACTION_HEAD}--N_checkpoint.pt beside the "
            'weights; if its actions are tokens of the decoder, config.json has to say "action_head": "discrete"'
        )
    return "discrete" if kind == "discrete" else "l1"


def _action_dim(head: Part, row: int) -> int:
    """How many numbers an action has, by the head's own shapes, which have to fit the decoder's rows."""
    if any(name.startswith(DIFFUSION) for name in head.tensors):
        raise CheckpointError(f"{head.where} is a diffusion head, which takes 50 passes an answer; it is not served")
    inputs, (action_dim, _) = head.shape("model.fc1.weight")[1], head.shape("model.fc2.weight")
    if inputs != action_dim * row:
        raise CheckpointError(
            f"{head.where} reads {inputs} numbers an action, for {action_dim} hidden rows of {inputs / action_dim:g}; "
            f"the decoder's have {row}: head and weights are not of the same checkpoint"
        )
    return action_dim


def _state_dim(config: Mapping[str, Any], projector: Part | None, row: int) -> int | None:
    """How many numbers of the robot's state are read; None: it is not."""
    wanted = config.get("use_proprio", projector is not None)
    if not isinstance(wanted, bool):
        raise CheckpointError(f"config.json: use_proprio is {shown(repr(wanted))}; expected true or false")
    if not wanted:
        return None
    if projector is None:
        raise CheckpointError(
            f"config.json: use_proprio is true, and there is no projector of the state; put "
            f"{STATE_PROJECTOR}--N_checkpoint.pt beside the weights"
        )
    width, state_dim = projector.shape("fc1.weight")
    if width != row:
        raise CheckpointError(
            f"{projector.where} makes rows of {width} numbers; the decoder's have {row}: projector and weights are not "
            "of the same checkpoint"
        )
    return state_dim


def _chunk(config: Mapping[str, Any], platform: Platform | None, data_sets: Collection[str]) -> int:
    """How many actions an answer holds: no tensor shows it."""
    chunk = config.get("num_actions_chunk")
    if chunk is None and platform is None:
        known = ", ".join(known.name for known in PLATFORMS)
        raise CheckpointError(
            "config.json has no num_actions_chunk, and neither the data sets' names nor the heads' sizes are those of "
            f'{known}; add "num_actions_chunk": how many actions an answer holds, as it was trained'
        )
    if chunk is None and platform is not None:
        named = platform.named(data_sets)
        level, by = (logging.INFO, "data set's name") if named else (logging.WARNING, "heads' sizes")
        text = "config.json has no num_actions_chunk: %d actions an answer and cameras %s, as %s's, by its %s"
        LOG.log(level, text, platform.chunk, ", ".join(platform.cameras), platform.name, by)
        return platform.chunk
    if type(chunk) is not int or not 1 <= chunk <= MOST_ACTIONS:
        raise CheckpointError(
            f"config.json: num_actions_chunk is {shown(repr(chunk))}; expected a whole number from 1 to {MOST_ACTIONS}"
        )
    return chunk


def _cameras(config: Mapping[str, Any], backbone: PrismaticConfig, platform: Platform | None) -> tuple[str, ...]:
    """As config.json says, else the robot's."""
    cameras = backbone.cameras if "cameras" in config or platform is None else platform.cameras
    if len(cameras) > MOST_CAMERAS:
        raise CheckpointError(f"config.json: cameras are {shown(cameras)}; expected at most {MOST_CAMERAS}")
    return cameras


def _ends(config: Mapping[str, Any], platform: Platform | None) -> tuple[str, str]:
    """By which statistics numbers are scaled."""
    said = config.get("action_proprio_normalization")
    if said is None:
        return platform.ends if platform else ENDS
    if not isinstance(said, str) or said not in NORMALISATIONS:
        raise CheckpointError(
            f"config.json: action_proprio_normalization is {shown(repr(said))}; served are {', '.join(NORMALISATIONS)}"
        )
    return NORMALISATIONS[said]


def _names(
    config: Mapping[str, Any], key: str, otherwise: tuple[str, ...], count: int | None = None
) -> tuple[str, ...]:
    """A list of words, one a number; where config.json has none `otherwise`, numbered where that does not fit."""
    words = config.get(key, otherwise)
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"config.json: {key} is {shown(repr(words))}; expected a list of words")
    if count is not None and len(words) != count:
        if key in config:
            raise CheckpointError(f"config.json: {key} has {len(words)} words; expected {count}, one for each number")
        return tuple(f"{key.partition('_')[0]}_{at}" for at in range(count))
    return tuple(words)


def _check_room(config: OFTConfig) -> None:
    """Pictures, state, action and some text have to fit into the decoder's positions."""
    positions, backbone = config.backbone.decoder.max_position_embeddings, config.backbone
    taken = len(backbone.cameras) * backbone.towers[0].grid ** 2 + bool(config.state_names) + config.action_rows + 1
    if positions <= taken:
        raise CheckpointError(
            f"config.json: text_config.max_position_embeddings is {positions}; the pictures and "
            f"{config.chunk} actions alone take {taken}"
        )

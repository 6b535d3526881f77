"""Pi0Config: what a folder is, from its config.json, its statistics, its tensors' shapes and the robot that it names.

Knows both layouts' keys, and our own, which published checkpoints lack: cameras, action_names, state_names,
state_units, discrete_state_input, extra_delta_transform, adapt_to_pi, num_inference_steps.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.pi0.aloha import SIZE as ALOHA_SIZE
from stillframe.models.pi0.cameras import KEY as CAMERAS
from stillframe.models.pi0.cameras import camera_slots
from stillframe.models.pi0.flow import Flow
from stillframe.models.pi0.folder import Origin, Pi0Folder
from stillframe.models.pi0.gemma import GemmaConfig
from stillframe.models.pi0.platforms import Platform, platform_of
from stillframe.models.pi0.prompt import PromptForm
from stillframe.models.pi0.sizes import Pi0Sizes
from stillframe.models.pi0.statistics import (
    POSTPROCESSOR,
    PREPROCESSOR,
    Statistics,
    lerobot_statistics,
    lerobot_step,
    openpi_statistics,
)

LOG = logging.getLogger(__name__)
DISCRETE, DELTA, STEPS = "discrete_state_input", "extra_delta_transform", "num_inference_steps"
ADAPTED, ADAPTED_BY_LEROBOT = "adapt_to_pi", "adapt_to_pi_aloha"
SETTINGS = (CAMERAS, "action_names", "state_names", "state_units", DISCRETE, DELTA, ADAPTED, STEPS)
MOST_ACTIONS, MOST_STEPS, MOST_TOKENS = 1024, 100, 1024
HORIZONS: Mapping[Origin, str] = {"openpi": "action_horizon", "lerobot": "chunk_size"}
TOKENS = {False: 48, True: 200}  # of a prompt; pi0.5's are longer
GRIPPER = "gripper"


@dataclass(frozen=True)
class Pi0Config:
    """One checkpoint's sizes and meanings."""

    sizes: Pi0Sizes
    origin: Origin
    horizon: int  # actions in one answer
    flow: Flow
    form: PromptForm
    statistics: Statistics
    camera_slots: Mapping[str, str]  # camera -> the slot that it fills, in the order of their patches
    action_names: tuple[str, ...]
    state_names: tuple[str, ...]  # none: it reads no state
    state_units: tuple[str, ...]
    relative: tuple[bool, ...]  # of each number of an action, whether the state's is added to it
    gripper: str
    adapted: bool  # whether its numbers are an ALOHA's, which the network knows otherwise

    @property
    def family(self) -> str:
        """Ours."""
        return "pi05" if self.sizes.adaptive else "pi0"

    @property
    def cameras(self) -> tuple[str, ...]:
        """By the robot's names, in the order of their patches."""
        return tuple(self.camera_slots)

    @classmethod
    def of(cls, folder: Pi0Folder) -> Pi0Config:
        """Raises CheckpointError for a part that is missing or does not fit, and for what nothing says."""
        config, sizes = folder.json("config.json"), Pi0Sizes.of(folder)
        lerobot = folder.origin == "lerobot"
        stats = lerobot_statistics(folder) if lerobot else openpi_statistics(folder, _kind(sizes))
        platform = platform_of(tuple(stats.data_sets)) if not lerobot else None
        names = _action_names(config, stats, platform, sizes)
        form = _form(config, sizes, platform, lerobot=lerobot)
        relative = _relative(folder, config, names, platform, sizes, lerobot=lerobot)
        reads = not sizes.adaptive or form.with_state or any(relative)
        states, units = _states(config, stats, platform) if reads else ((), ())
        _check_state(states, sizes, relative)
        adapted = _adapted(config, platform, (len(names), len(states)), lerobot=lerobot)
        return cls(
            sizes, folder.origin, _whole(config, HORIZONS[folder.origin], MOST_ACTIONS), _flow(config, lerobot=lerobot),
            form, stats, camera_slots(config, platform, lerobot=lerobot), names, states, units, relative,
            platform.gripper if platform else "as the data set has it", adapted,
        )  # fmt: skip


def decoder_sizes(folder: Pi0Folder) -> GemmaConfig:
    """Of the prefix's decoder, by the shapes of its tensors."""
    return Pi0Sizes.of(folder).decoder


def _kind(sizes: Pi0Sizes) -> Any:
    """Openpi normalises pi0.5 by quantiles, and pi0 by mean and deviation."""
    return "quantiles" if sizes.adaptive else "mean_std"


def _form(config: Mapping[str, Any], sizes: Pi0Sizes, platform: Platform | None, *, lerobot: bool) -> PromptForm:
    default = sizes.adaptive and (lerobot or platform is None or platform.state_in_prompt)
    with_state = _flag(config, DISCRETE, default=default)
    if with_state and not sizes.adaptive:
        raise CheckpointError(f"config.json: {DISCRETE} is true; a pi0 reads the state as a row, only pi0.5 in words")
    if sizes.adaptive and DISCRETE not in config and not lerobot:
        text = "config.json has no %s: the state is %s the prompt, as openpi trains pi0.5%s"
        LOG.warning(text, DISCRETE, "in" if with_state else "not in", f" on {platform.name}" if platform else "")
    tokens = "tokenizer_max_length"
    most = _whole(config, tokens, MOST_TOKENS) if lerobot and tokens in config else TOKENS[sizes.adaptive]
    return PromptForm(most, with_state, cleaned=not lerobot or sizes.adaptive)


def _flow(config: Mapping[str, Any], *, lerobot: bool) -> Flow:
    steps = _whole(config, STEPS, MOST_STEPS) if STEPS in config else Flow.steps
    low, high = (config.get(key, default) for key, default in (("min_period", 4e-3), ("max_period", 4.0)))
    if not all(type(period) in (int, float) and 0 < period < 1e6 for period in (low, high)):
        raise CheckpointError(
            f"config.json: min_period and max_period are {shown(repr((low, high)))}; expected numbers"
        )
    return Flow(steps, accumulated=not lerobot, min_period=float(low), max_period=float(high))


def _relative(
    folder: Pi0Folder, config: Mapping[str, Any], names: tuple[str, ...], platform: Platform | None, sizes: Pi0Sizes,
    *, lerobot: bool,
) -> tuple[bool, ...]:  # fmt: skip
    """The gripper's number never is."""
    if lerobot:
        return _lerobot_relative(folder, config, names)
    default = platform is not None and platform.deltas and not (sizes.adaptive and platform.name == "LIBERO")
    wanted = _flag(config, DELTA, default=default)
    if DELTA not in config and platform is not None:
        LOG.info("config.json has no %s: %s, as openpi trains on %s", DELTA, str(wanted).lower(), platform.name)
    return tuple(wanted and GRIPPER not in name for name in names)


def _adapted(config: Mapping[str, Any], platform: Platform | None, dims: tuple[int, int], *, lerobot: bool) -> bool:
    """Raises CheckpointError for another robot's numbers. `dims`: of an action, and of a state if one is read."""
    by_origin = config.get(ADAPTED_BY_LEROBOT) is True if lerobot else platform is not None and platform.adapted
    wanted = _flag(config, ADAPTED, default=by_origin)
    if wanted and not {*dims} <= {ALOHA_SIZE, 0}:
        raise CheckpointError(
            f"config.json: {ADAPTED} is true with an action of {dims[0]} and a state of {dims[1]} numbers; expected "
            f"{ALOHA_SIZE} of each, an ALOHA's"
        )
    if wanted and ADAPTED not in config:
        LOG.info("config.json has no %s: true, as %s has it", ADAPTED, platform.name if platform else "lerobot")
    return wanted


def _lerobot_relative(folder: Pi0Folder, config: Mapping[str, Any], names: tuple[str, ...]) -> tuple[bool, ...]:
    """By the two processors' steps: numbers whose name has an excluded word are absolute; without names none has."""
    after = lerobot_step(folder, POSTPROCESSOR, "absolute_actions_processor").get("config", {})
    before = lerobot_step(folder, PREPROCESSOR, "relative_actions_processor").get("config", {})
    wanted = _flag(config, DELTA, default=after.get("enabled") is True)
    known = before.get("action_names") or config.get("action_feature_names") or config.get("action_names")
    excluded = [str(word) for word in before.get("exclude_joints") or []]
    named = [str(name) for name in known] if isinstance(known, list) and len(known) == len(names) else [""] * len(names)
    return tuple(wanted and not any(word in name for word in excluded) for name in named)


def _action_names(
    config: Mapping[str, Any], stats: Statistics, platform: Platform | None, sizes: Pi0Sizes
) -> tuple[str, ...]:
    """One a number of the robot's; what the statistics have beyond is padding."""
    default = platform.action_names if platform else tuple(f"action_{at}" for at in range(stats.action_dim))
    names = _words(config, "action_names", default)
    most = min(stats.action_dim, sizes.action_dim)
    if not names or len(names) > most:
        raise CheckpointError(
            f"there are {len(names)} action_names ({shown(', '.join(names))}); the statistics have {stats.action_dim} "
            f"numbers and the network {sizes.action_dim}: expected 1 to {most}"
        )
    if len(names) == len(default) and "action_names" not in config and platform is None and stats.action_dim > 16:
        text = "statistics are of %d numbers, the padding probably among them: say action_names"
        LOG.warning(text, stats.action_dim)
    return names


def _states(
    config: Mapping[str, Any], stats: Statistics, platform: Platform | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and units of the state's numbers."""
    dim = stats.state_dim
    if dim is None:
        raise CheckpointError(
            "this policy reads the robot's state, and its statistics have none, or of several lengths; put the "
            "statistics beside the weights that training wrote"
        )
    fits = platform is not None and len(platform.state_names) <= dim
    default = platform.state_names if platform and fits else tuple(f"state_{at}" for at in range(dim))
    names = _words(config, "state_names", default)
    known_units = platform.state_units if platform and names == platform.state_names else ("",) * len(names)
    units = _words(config, "state_units", known_units)
    if not names or len(names) > dim or len(units) != len(names):
        raise CheckpointError(
            f"there are {len(names)} state_names and {len(units)} state_units; the statistics have {dim} numbers: "
            f"expected 1 to {dim}, and a unit for each"
        )
    return names, units


def _check_state(states: tuple[str, ...], sizes: Pi0Sizes, relative: tuple[bool, ...]) -> None:
    if len(states) > sizes.action_dim:
        raise CheckpointError(f"a state of {len(states)} numbers does not fit the network's {sizes.action_dim}")
    last = max((at for at, added in enumerate(relative) if added), default=-1)
    if last >= len(states):
        raise CheckpointError(
            f"to number {last} of an action the state's is added, and a state has {len(states)} numbers; check "
            f"{DELTA} and state_names"
        )


def _words(config: Mapping[str, Any], key: str, default: tuple[str, ...]) -> tuple[str, ...]:
    words = config.get(key, default)
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"config.json: {key} is {shown(repr(words))}; expected a list of words")
    return tuple(words)


def _flag(config: Mapping[str, Any], key: str, *, default: bool) -> bool:
    flag = config.get(key, default)
    if not isinstance(flag, bool):
        raise CheckpointError(f"config.json: {key} is {shown(repr(flag))}; expected true or false")
    return flag


def _whole(config: Mapping[str, Any], key: str, most: int) -> int:
    size = config.get(key)
    if type(size) is not int or not 1 <= size <= most:
        raise CheckpointError(f"config.json: {key} is {shown(repr(size))}; expected a whole number from 1 to {most}")
    return size

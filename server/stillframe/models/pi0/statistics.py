"""Statistics of states and actions: openpi's norm_stats.json, lerobot's processors; and what they do to numbers.

Knows numbers and files; no network. Nothing is clipped: pi0 was trained on what lies beyond its quantiles as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import CheckpointError, unknown_unnorm_key
from stillframe.files.json import read_object
from stillframe.files.kinds import shown
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.scales import numbers
from stillframe.models.tensor_files import opened

Floats = NDArray[np.float64]
Kind = Literal["mean_std", "quantiles"]
NORM_STATS, ASSETS = "norm_stats.json", "assets"
PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
ONLY_KEY = "lerobot"  # of lerobot's statistics, which no data set is named in
SPREAD = 2.326  # standard deviations that 98 of 100 numbers of a normal distribution lie within
OPENPI_SLACK = (1e-6, 1e-6)
NAMES = {"mean_std": ("mean", "std"), "quantiles": ("q01", "q99")}


@dataclass(frozen=True)
class Scale:
    """What makes numbers of one kind normal, and back."""

    kind: Kind
    first: Floats  # mean, or q01
    second: Floats  # std, or q99
    low: Floats  # of what was seen: the ends of the contract
    high: Floats
    slack: float  # that the reference adds to std or range
    slack_back: float  # on the way back

    def normalise(self, values: Floats) -> Floats:
        """[..., dim] in the robot's units."""
        if self.kind == "mean_std":
            return (values - self.first) / (self.second + self.slack)
        return (values - self.first) / (self._range + self.slack) * 2 - 1

    def unnormalise(self, values: Floats) -> Floats:
        """[..., dim] -> the robot's units."""
        if self.kind == "mean_std":
            return values * (self.second + self.slack_back) + self.first
        return (values + 1) / 2 * (self._range + self.slack_back) + self.first

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which numbers vary at all."""
        return np.asarray(self.high > self.low, np.bool_)

    def of_first(self, count: int) -> Scale:
        """The same of the first numbers: behind them is padding."""
        return replace(self, **{name: getattr(self, name)[:count] for name in ("first", "second", "low", "high")})

    def within(self, values: Floats) -> Floats:
        """[..., dim] in the robot's units -> -1 at `low`, 1 at `high`; what never varies passes through."""
        span = np.where(self.mask, self.high - self.low, 1.0)
        return np.where(self.mask, 2 * (values - self.low) / span - 1, values)

    @property
    def _range(self) -> Floats:
        """Where nothing varies and no slack is added, 1: lerobot's guard."""
        span = self.second - self.first
        return span if self.slack else np.where(span == 0, 1e-8, span)

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class DataSet:
    """One data set's scales."""

    state: Scale | None
    action: Scale


class Statistics:
    """The data sets that a checkpoint knows, by unnorm_key."""

    def __init__(self, data_sets: Mapping[str, DataSet]):
        self.data_sets = dict(data_sets)
        lengths = {key: len(one.action) for key, one in self.data_sets.items()}
        if len(set(lengths.values())) != 1:
            raise CheckpointError(
                f"statistics differ in the length of an action: {shown(lengths)}; expected one length"
            )

    @property
    def default_key(self) -> str | None:
        """The only key, or None when there is a choice to make."""
        return next(iter(self.data_sets)) if len(self.data_sets) == 1 else None

    def resolve(self, unnorm_key: str | None) -> str:
        """The key to use, or Unprocessable with the choices."""
        key = self.default_key if unnorm_key is None else unnorm_key
        if key in self.data_sets:
            return key
        raise unknown_unnorm_key(key, self.data_sets)

    @property
    def action_dim(self) -> int:
        """How many numbers of an action are scaled."""
        return len(next(iter(self.data_sets.values())).action)

    @property
    def state_dim(self) -> int | None:
        """How many numbers of a state are; None: a data set has none."""
        states = [one.state for one in self.data_sets.values()]
        lengths = {len(state) for state in states if state is not None}
        return lengths.pop() if len(lengths) == 1 and all(state is not None for state in states) else None


def openpi_statistics(folder: CheckpointFolder, kind: Kind) -> Statistics:
    """assets/ID/norm_stats.json, the ID of one or two names; CheckpointError where there is none."""
    files = [*_assets(folder.path)]
    if not files:
        raise CheckpointError(
            f"{shown(folder.path)} has no {ASSETS}/ID/{NORM_STATS}; put the assets beside the weights that openpi's "
            "checkpoint has: without statistics its actions have no units"
        )
    root = folder.path / ASSETS
    return Statistics({file.parent.relative_to(root).as_posix(): _openpi(file, kind) for file in files})


def lerobot_statistics(folder: CheckpointFolder) -> Statistics:
    """What the two processors' files name. CheckpointError for what they lack."""
    state = _lerobot(folder, PREPROCESSOR, "normalizer_processor", "STATE", "observation.state", needed=False)
    action = _lerobot(folder, POSTPROCESSOR, "unnormalizer_processor", "ACTION", "action", needed=True)
    if action is None:
        raise CheckpointError(f"{shown(folder.path)} has no statistics of actions")
    return Statistics({ONLY_KEY: DataSet(state, action)})


def lerobot_step(folder: CheckpointFolder, name: str, step: str) -> Mapping[str, Any]:
    """A processor's step of that kind, as its JSON file has it; empty where it has none."""
    steps = folder.json(name).get("steps")
    if not isinstance(steps, list) or not all(isinstance(one, dict) for one in steps):
        raise CheckpointError(f"{name}: steps is {shown(repr(steps))}; expected a list of steps")
    return next((one for one in steps if one.get("registry_name") == step), {})


def _assets(path: Path) -> Iterator[Path]:
    for depth in ("*", "*/*"):
        yield from sorted((path / ASSETS).glob(f"{depth}/{NORM_STATS}"))


def _openpi(file: Path, kind: Kind) -> DataSet:
    stats = read_object(file).get("norm_stats")
    if not isinstance(stats, Mapping) or not isinstance(stats.get("actions"), Mapping):
        raise CheckpointError(f"{shown(file)} lacks norm_stats.actions; expected statistics of state and actions")
    state = stats.get("state")
    where = shown(file)
    return DataSet(
        _scale(where, "state", state, kind, OPENPI_SLACK) if isinstance(state, Mapping) else None,
        _scale(where, "actions", stats["actions"], kind, OPENPI_SLACK),
    )


def _lerobot(
    folder: CheckpointFolder, name: str, step_name: str, feature: str, prefix: str, *, needed: bool
) -> Scale | None:
    step = lerobot_step(folder, name, step_name)
    config, file = step.get("config", {}), step.get("state_file")
    mapped = config.get("norm_map", {}).get(feature) if isinstance(config, Mapping) else None
    if not isinstance(file, str) or Path(file).name != file:
        raise CheckpointError(f"{name}: {step_name} names no state_file; expected the file of its statistics")
    kinds: Mapping[Any, Kind] = {"MEAN_STD": "mean_std", "QUANTILES": "quantiles"}
    if mapped not in kinds:
        raise CheckpointError(
            f"{name}: {feature} is normalised by {shown(repr(mapped))}; served are {', '.join(kinds)}"
        )
    with opened(folder.file(file)) as tensors:
        names = [each for each in tensors.keys() if each.startswith(f"{prefix}.")]  # noqa: SIM118 (no mapping)
        found = {
            each.removeprefix(f"{prefix}."): tensors.get_tensor(each).double().flatten().tolist() for each in names
        }
    if not found and not needed:
        return None
    kind = kinds[mapped]
    return _scale(shown(file), prefix, found, kind, (1e-8, 0.0) if kind == "mean_std" else (0.0, 0.0))


def _scale(where: str, part: str, found: Mapping[str, Any], kind: Kind, slack: tuple[float, float]) -> Scale:
    names = NAMES[kind]
    first, second = (numbers(where, name, found.get(name), part=part, names=(names[0], names[1])) for name in names)
    low, high = _ends(where, part, found, first, second, kind)
    if not len(first) == len(second) == len(low) == len(high):
        lengths = f"{len(first)}, {len(second)}, {len(low)} and {len(high)}"
        raise CheckpointError(f"{where}: {part}: its statistics have {lengths} numbers; expected as many of each")
    faults = np.flatnonzero(second < 0) if kind == "mean_std" else np.flatnonzero(second < first)
    for at in faults:
        raise CheckpointError(
            f"{where}: number {at} of {part} has {names[0]} {first[at]} and {names[1]} {second[at]}; expected a std of "
            "0 or more, and quantiles in order: actions would be mirrored"
        )
    return Scale(kind, first, second, low, high, *slack)


def _ends(
    where: str, part: str, found: Mapping[str, Any], first: Floats, second: Floats, kind: Kind
) -> tuple[Floats, Floats]:
    """The quantiles; where there are none, what they are of a normal distribution."""
    if kind == "quantiles" or found.get("q01") is None or found.get("q99") is None:
        return (first, second) if kind == "quantiles" else (first - SPREAD * second, first + SPREAD * second)
    low, high = (numbers(where, name, found.get(name), part=part) for name in ("q01", "q99"))
    return low, high

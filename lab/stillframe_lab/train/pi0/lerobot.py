"""A pi0 or pi0.5 of openpi's layout, written in lerobot's.

Knows both layouts' files; no training. The tensors are the same, and so is the tokenizer, which lerobot fetches by its
hub name and does not save: it is put beside the weights. Chunks differ by as much as the two packages differ in the
flow's times and in how they resize. Source: lerobot policies/pi0, policies/pi05 and their processors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillframe.errors import ConfigError
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.pi0.cameras import PICTURE
from stillframe.models.pi0.config import DELTA, GRIPPER, Pi0Config
from stillframe.models.pi0.folder import WRAPPER, Pi0Folder
from stillframe.models.pi0.statistics import POSTPROCESSOR, PREPROCESSOR, Scale
from stillframe.models.pi0.tokenizer import find_tokenizer
from stillframe.models.tensor_files import opened
from stillframe_lab.train.new_checkpoint import save_tensors

STATE, ACTION = "observation.state", "action"
Json = dict[str, Any]


def save_lerobot(source: Path, out: Path) -> None:
    """Write `source` into the folder `out`.

    Raises CheckpointError for a folder that is no pi0, ConfigError for one that lerobot's layout cannot hold.
    """
    folder = Pi0Folder(source)
    config = Pi0Config.of(folder)
    if folder.origin != "openpi":
        raise ConfigError(f"{source} is in lerobot's layout already; expected openpi's")
    if len(config.statistics.data_sets) != 1:
        keys = ", ".join(config.statistics.data_sets)
        raise ConfigError(
            f"{source} has statistics of {keys}; lerobot's layout holds one data set's: leave one in assets"
        )
    out.mkdir(parents=True, exist_ok=True)
    statistics = _statistics(config)
    for name, document in {"config.json": _config(config), **_processors(config)}.items():
        (out / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        for step in document.get("steps", []):
            if "state_file" in step:
                save_tensors(out / step["state_file"], statistics)
    tokenizer = find_tokenizer(folder)
    (out / f"tokenizer{tokenizer.suffix}").write_bytes(tokenizer.read_bytes())
    save_tensors(out / "model.safetensors", _tensors(source))


def _config(config: Pi0Config) -> Json:
    sizes, adaptive = config.sizes, config.sizes.adaptive
    features = _features(config)
    return {
        "type": "pi05" if adaptive else "pi0",
        "n_obs_steps": 1,
        "input_features": {name: feature for name, feature in features.items() if name != ACTION},
        "output_features": {ACTION: features[ACTION]},
        "paligemma_variant": "gemma_2b",  # lerobot's names; sizes are those of the tensors
        "action_expert_variant": "gemma_300m",
        "dtype": "float32",
        "chunk_size": config.horizon,
        "n_action_steps": config.horizon,
        "max_state_dim": sizes.action_dim,
        "max_action_dim": sizes.action_dim,
        "num_inference_steps": config.flow.steps,
        "min_period": config.flow.min_period,
        "max_period": config.flow.max_period,
        "use_relative_actions": any(config.relative),
        "relative_exclude_joints": [GRIPPER],
        "action_feature_names": list(config.action_names),
        "image_resolution": [sizes.vision.image_px] * 2,
        "empty_cameras": 0,
        "normalization_mapping": _mapping(config),
        "tokenizer_max_length": config.form.max_tokens,
        # ours: what the layout has no place for
        "state_names": list(config.state_names),
        "state_units": list(config.state_units),
        "discrete_state_input": config.form.with_state,
        DELTA: any(config.relative),
    }


def _processors(config: Pi0Config) -> dict[str, Json]:
    """What is done before the network, and after it."""
    scaling = {"eps": 1e-08, "features": _features(config), "norm_map": _mapping(config)}
    unscaling = {**scaling, "features": {ACTION: _features(config)[ACTION]}}
    relative = {"enabled": any(config.relative), "exclude_joints": [GRIPPER], "action_names": list(config.action_names)}
    tokenizer = {
        "max_length": config.form.max_tokens,
        "task_key": "task",
        "padding_side": "right",
        "padding": "max_length",
        "truncation": True,
        "tokenizer_name": "google/paligemma-3b-pt-224",
    }
    normalizing = ("normalizer_processor", scaling)
    device: tuple[str, Json] = ("device_processor", {"device": "cpu", "float_dtype": None})
    reading: list[tuple[str, Json]] = [("tokenizer_processor", tokenizer), device]
    before: list[tuple[str, Json]] = [
        ("rename_observations_processor", {"rename_map": {}}),
        ("to_batch_processor", {}),
        *([] if config.sizes.adaptive else [("pi0_new_line_processor", {}), *reading]),
        ("relative_actions_processor", relative),
        normalizing,
        *([("pi05_prepare_state_tokenizer_processor_step", {}), *reading] if config.sizes.adaptive else []),
    ]
    after: list[tuple[str, Json]] = [
        ("unnormalizer_processor", unscaling),
        ("absolute_actions_processor", {"enabled": any(config.relative)}),
        device,
    ]
    return {
        PREPROCESSOR: {"name": "policy_preprocessor", "steps": _steps("policy_preprocessor", before)},
        POSTPROCESSOR: {"name": "policy_postprocessor", "steps": _steps("policy_postprocessor", after)},
    }


def _steps(name: str, steps: list[tuple[str, Json]]) -> list[Json]:
    """Each with the file of its statistics, where it scales."""
    made: list[Json] = [{"registry_name": step, "config": config} for step, config in steps]
    for at, step in enumerate(made):
        if "norm_map" in step["config"]:
            step["state_file"] = f"{name}_step_{at}_{step['registry_name']}.safetensors"
    return made


def _features(config: Pi0Config) -> Json:
    picture = {"type": "VISUAL", "shape": [3, *[config.sizes.vision.image_px] * 2]}
    state = {STATE: {"type": "STATE", "shape": [len(config.state_names)]}} if config.state_names else {}
    action = {"type": "ACTION", "shape": [len(config.action_names)]}
    return {**{f"{PICTURE}{camera}": picture for camera in config.cameras}, **state, ACTION: action}


def _mapping(config: Pi0Config) -> Json:
    kind = "QUANTILES" if config.sizes.adaptive else "MEAN_STD"
    return {"VISUAL": "IDENTITY", "STATE": kind, "ACTION": kind}


def _statistics(config: Pi0Config) -> dict[str, Tensor]:
    """Of the numbers that the robot has: openpi's may be padded."""
    (data_set,) = config.statistics.data_sets.values()
    scales = {STATE: (data_set.state, len(config.state_names)), ACTION: (data_set.action, len(config.action_names))}
    return {
        f"{name}.{part}": torch.from_numpy(numbers)
        for name, (scale, count) in scales.items()
        if scale is not None and count
        for part, numbers in _numbers(scale.of_first(count)).items()
    }


def _numbers(scale: Scale) -> Mapping[str, Any]:
    ends = {"q01": scale.low, "q99": scale.high}
    return ends if scale.kind == "quantiles" else {"mean": scale.first, "std": scale.second, **ends}


def _tensors(source: Path) -> dict[str, Tensor]:
    """All, under lerobot's names."""
    made: dict[str, Tensor] = {}
    plain = CheckpointFolder(source)
    for file in sorted({held for held, _ in plain.stored.values()}):
        with opened(file) as tensors:
            made |= {
                f"{WRAPPER}{name}": tensors.get_tensor(name) for name, (held, _) in plain.stored.items() if held == file
            }
    return made

"""CogACT's goldens: f0_i0 with its cognition row, and chunks drawn of it by cases f0_i0_cfg1.5_ddim10_n0.

Knows the keys that the goldens' README describes, those of a batch and of a moving scene among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import Image, Observation
from stillframe.engine.ensemble import AdaptiveEnsemble
from stillframe.models.base import Prepared
from stillframe.models.cogact.diffusion import Denoising, denoise, step_counts
from stillframe.models.cogact.model import CogACT
from stillframe_lab.parity.golden import CannotCompare, Golden
from stillframe_lab.parity.ledger import Ledger, Stage
from stillframe_lab.parity.prismatic import (
    compare_features,
    compare_ids,
    compare_pixels,
    empty_kv,
    run_rows,
    to_numpy,
)
from stillframe_lab.parity.readers import Opener

PLACE = re.compile(r"(f\d+)_(i\d+)")
DRAWN = re.compile(r"(f\d+)_(i\d+)_cfg([\d.]+)_ddim(\d+)_n(\d+)")
MOVING = re.compile(r"seq/([^/]+)/actions")
ENSEMBLE = re.compile(r"seq/([^/]+)/ensemble_h(\d+)")
BATCH = ("f0_i0", "f1_i1")  # what the batch is of, by the README
SEQUENCE = "i1"  # the moving scene's instruction

Conditions = Mapping[str, Tensor]  # f0_i0 -> the row that steers [width]


class CogACTReader:
    """Walks pictures to cognition rows, and draws chunks of them with the recorded noise."""

    stages = (
        Stage("pixels", 0),
        Stage("ids", 0),
        Stage("vision", 5e-5),
        Stage("projector", 1e-5),
        Stage("hidden", 2e-5),
        Stage("cognition", 2e-5),
        Stage("samples", 3e-5),
        Stage("normalised", 2e-5),
        Stage("actions", 2e-5),
        Stage("ensemble", 1e-5),
    )
    passed_over = (re.compile(r"(^|/)bf16_"), re.compile(r"/(eps|timesteps|prompt)$"))

    def recognises(self, golden: Golden) -> bool:
        """By the cognition rows."""
        return bool(golden.names("cognition"))

    def compare(self, golden: Golden, open_policy: Opener, ledger: Ledger) -> None:
        """Rows first, then what is drawn of them."""
        if not self.recognises(golden):
            return
        policy = open_policy({})
        if not isinstance(policy, CogACT):
            raise CannotCompare(f"{policy.info.family} draws no chunks")
        conditions = {}
        for name in filter(PLACE.fullmatch, golden.names("cognition")):
            with ledger.case(name):
                conditions[name] = _cognition(golden, ledger, name, policy)
        for case in filter(None, map(DRAWN.fullmatch, golden.names("samples"))):
            with ledger.case(case[0]):
                _drawn(golden, ledger, case, policy, conditions)
        with ledger.case("batch"):
            _batch(golden, ledger, policy, conditions)
        for moving in filter(None, map(MOVING.fullmatch, sorted(golden.keys))):
            with ledger.case(moving[0]):
                _moving(golden, ledger, moving[1], policy)
        for ensemble in filter(None, map(ENSEMBLE.fullmatch, sorted(golden.keys))):
            with ledger.case(ensemble[0]):
                _ensemble(golden, ledger, ensemble)


def _cognition(golden: Golden, ledger: Ledger, name: str, policy: CogACT) -> Tensor:
    """Compare what leads to a cognition row, and return the row [width]."""
    frame, instruction = name.split("_")
    key = golden.unnorm_key(frame, policy.statistics.scales)
    prepared, hidden = _walk(policy, golden.picture(frame), golden.instruction(instruction), key)
    compare_pixels(golden, ledger, frame, prepared)
    compare_ids(golden, ledger, instruction, name, prepared, appended=0)
    compare_features(golden, ledger, frame, policy, prepared)
    if f"{name}/hidden" in golden:
        ledger.compare("hidden", name, to_numpy(hidden), golden[f"{name}/hidden"])
    ledger.compare("cognition", name, to_numpy(hidden[-1]), golden[f"{name}/cognition"])
    return hidden[-1]


def _drawn(golden: Golden, ledger: Ledger, case: re.Match[str], policy: CogACT, conditions: Conditions) -> None:
    """One chunk: before the clip, normalised, in the robot's units; every step where that is recorded."""
    name, frame, how = case[0], case[1], _denoising(case)
    condition, noise = _condition(conditions, f"{frame}_{case[2]}"), golden["noise"]
    if int(case[5]) >= len(noise):
        raise CannotCompare(f"there is no noise {case[5]}")
    (drawn,), steps = _draw(policy, condition[None], noise[int(case[5])][None], how)
    ledger.compare("samples", name, drawn, golden[f"{name}/samples"])
    if f"{name}/x" in golden:
        ledger.compare("samples", name, np.concatenate((steps, drawn[None])), golden[f"{name}/x"])
    key = golden.unnorm_key(frame, policy.statistics.scales)
    decoded = policy.scaled(key, drawn.astype(np.float64))
    ledger.compare("normalised", name, decoded.normalised, golden[f"{name}/norm_actions"])
    ledger.compare("actions", name, decoded.chunk.actions, golden[f"{name}/actions"])


def _batch(golden: Golden, ledger: Ledger, policy: CogACT, conditions: Conditions) -> None:
    """Two prompts drawn together, noise 0 and 1, scaled by the first one's statistics."""
    if "batch/actions" not in golden:
        return
    rows = torch.stack([_condition(conditions, name) for name in BATCH])
    key = golden.unnorm_key(BATCH[0].partition("_")[0], policy.statistics.scales)
    drawn, _ = _draw(policy, rows, golden["noise"][: len(BATCH)], Denoising())
    made = [policy.scaled(key, one.astype(np.float64)) for one in drawn]
    ledger.compare("normalised", "batch", np.stack([one.normalised for one in made]), golden["batch/norm_actions"])
    ledger.compare("actions", "batch", np.stack([one.chunk.actions for one in made]), golden["batch/actions"])


def _moving(golden: Golden, ledger: Ledger, key: str, policy: CogACT) -> None:
    """The chunk after each frame of a moving scene, with noise of its own."""
    words, chunks = golden.instruction(SEQUENCE), []
    for picture, noise in zip(golden["seq_frames"], golden["seq_noise"], strict=True):
        _, hidden = _walk(policy, picture, words, key)
        (drawn,), _ = _draw(policy, hidden[-1:], noise[None], Denoising())
        chunks.append(policy.scaled(key, drawn.astype(np.float64)).chunk.actions)
    ledger.compare("actions", f"seq/{key}", np.stack(chunks), golden[f"seq/{key}/actions"])


def _ensemble(golden: Golden, ledger: Ledger, found: re.Match[str]) -> None:
    """The weighted action after each frame, of the recorded chunks."""
    ensemble = AdaptiveEnsemble(int(found[2]))
    made = [ensemble.add(seq, chunk) for seq, chunk in enumerate(golden[f"seq/{found[1]}/actions"])]
    ledger.compare("ensemble", found[0], np.stack(made), golden[found[0]])


def _walk(policy: CogACT, picture: Image, words: str, key: str) -> tuple[Prepared, Tensor]:
    """What was prepared, and all hidden rows [rows, width]."""
    prepared = policy.prepare(Observation({"image": picture}, words, unnorm_key=key))
    (rows,) = policy.embed([prepared])
    return prepared, run_rows(policy, rows, 0, empty_kv(policy, prepared))


def _draw(
    policy: CogACT, condition: Tensor, noise: NDArray[np.float32], how: Denoising
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Chunks [batch, horizon, action_dim], not clipped, and the first one ahead of each step [steps, ...]."""
    steps, head = [], policy.head

    def watched(actions: Tensor, times: Tensor, steering: Tensor) -> Tensor:
        steps.append(to_numpy(actions[0]))
        out: Tensor = head(actions, times, steering)
        return out

    begin = torch.from_numpy(noise).to(policy.device)
    drawn = denoise(watched, begin, condition.float(), head.z_embedder.uncondition, how)
    return to_numpy(drawn), np.stack(steps)


def _condition(conditions: Conditions, name: str) -> Tensor:
    if name not in conditions:
        raise CannotCompare(f"the file has no {name}/cognition")
    return conditions[name]


def _denoising(case: re.Match[str]) -> Denoising:
    if int(case[4]) not in step_counts():
        raise CannotCompare(f"no stride gives {case[4]} denoising steps")
    return Denoising(int(case[4]), float(case[3]))

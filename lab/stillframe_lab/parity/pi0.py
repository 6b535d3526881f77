"""Goldens of pi0 and pi0.5, openpi's and lerobot's: cases f0_i0_s0_c2 of a frame, an instruction, a state and cameras.

Knows the keys that the goldens' README describes. A file of lerobot's outputs has no inputs: they are read from the
file beside it that is called the same without '-lerobot'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from stillframe.domain import Observation
from stillframe.models.base import Prefilled, Prepared
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import prompt_slice
from stillframe.models.pi0.model import Pi0
from stillframe.reuse.plan import ReusePlan
from stillframe_lab.parity.golden import CannotCompare, Golden
from stillframe_lab.parity.ledger import Ledger, Stage
from stillframe_lab.parity.prismatic import empty_kv, to_numpy
from stillframe_lab.parity.readers import Opener

CASE = re.compile(r"(libero/)?(f\d+)_(i\d+)_(s\d+)_(c1|c2|c3|cR)")
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
CAMERAS = {"c1": SLOTS[:1], "c2": SLOTS[:2], "c3": SLOTS, "cR": (SLOTS[0], SLOTS[2])}
LEROBOT = "-lerobot"  # how names of files end whose inputs are in another
WINDOW = (slice(24, 72), slice(88, 136))  # of a picture, that stands for all pixels
SHORT = 48  # tokens that a pi0 reads
KV = re.compile(r"/kv(\d+)$")


class Pi0Reader:
    """Walks pictures to a prefix's keys and values, and draws the recorded noise over them."""

    family: ClassVar[str] = "pi0"
    flow_tolerance: ClassVar[float] = 2e-5
    passed_over = (
        re.compile(r"/bf16_"),
        re.compile(r"/(v|suffix_embeds0|suffix_hidden0|suffix_position_ids|prefix_position_ids|prefix_mask)$"),
    )

    @property
    def stages(self) -> Sequence[Stage]:
        """By the goldens' README."""
        return (
            Stage("pixels", 0),
            Stage("prompt", 0),
            Stage("ids", 0),
            Stage("state", 1e-6),
            Stage("text", 1e-5),
            Stage("vision", 5e-5),
            Stage("projector", 5e-5),
            Stage("positions", 0),
            Stage("kv", 5e-5),
            Stage("hidden", 5e-5),
            Stage("times", 0),
            Stage("condition", 1e-5),
            Stage("steps", self.flow_tolerance),
            Stage("normalised", self.flow_tolerance),
            Stage("actions", 1e-5),
        )

    def recognises(self, golden: Golden) -> bool:
        """By the cases' names; pi0.5 by its prompts, which a pi0 could not read."""
        names = golden.names("norm_actions")
        if not any(map(CASE.fullmatch, names)):
            return False
        long = any(name.startswith("libero/") or f"{name}/prompt" in golden for name in names)
        long = long or any(len(golden[f"{name}/prompt_ids"]) > SHORT for name in golden.names("prompt_ids"))
        return long == (self.family == "pi05")

    def compare(self, golden: Golden, open_policy: Opener, ledger: Ledger) -> None:
        """Cameras by cameras, for each a checkpoint is opened."""
        if not self.recognises(golden):
            return
        cases = sorted(filter(None, map(CASE.fullmatch, golden.names("norm_actions"))), key=_kind)
        with _inputs(golden) as inputs:
            for kind, group in groupby(cases, key=_kind):
                with ledger.case("".join(kind)):
                    policy = open_policy(self._keys(*kind, lerobot=inputs is not golden))
                    if not isinstance(policy, Pi0) or policy.config.family != self.family:
                        raise CannotCompare(f"{policy.info.family} is not {self.family}")
                    for case in group:
                        with ledger.case(case[0]):
                            _Walk(golden, inputs, ledger, policy, case).compare()

    def _keys(self, libero: str, cameras: str, *, lerobot: bool) -> Mapping[str, Any]:
        """What config.json would say of such a case."""
        keys: dict[str, Any] = {"cameras": [*CAMERAS[cameras]]}
        if lerobot:
            return keys
        own = {"discrete_state_input": not libero} if self.family == "pi05" else {}
        return {**keys, **own, "extra_delta_transform": False}


class Pi05Reader(Pi0Reader):
    """The same of pi0.5."""

    family = "pi05"
    flow_tolerance = 1e-5


class _Walk:
    """One case."""

    def __init__(self, golden: Golden, inputs: Golden, ledger: Ledger, policy: Pi0, case: re.Match[str]):
        self._golden, self._inputs, self._ledger, self._policy = golden, inputs, ledger, policy
        self._name, self._frame, self._cameras = case[0], case[2], CAMERAS[case[5]]
        self._words, self._state = inputs.instruction(case[3]), inputs["states"][int(case[4][1:])]

    def compare(self) -> None:
        """Stage by stage."""
        policy = self._policy
        images = {name: self._inputs[f"{self._frame}/{name}"] for name in self._cameras}
        prepared = policy.prepare(Observation(images, self._words, state=self._state))
        self._prepared(prepared)
        self._pictures(prepared)
        prefilled = self._prefix(prepared)
        (*steps, drawn), times = self._drawn(prefilled), policy.config.flow.times
        self._note("times", "time", times.numpy())
        if policy.config.sizes.adaptive:
            self._note("condition", "cond0", to_numpy(policy.network.tables.conditions[0]))
        self._note("steps", "x", np.stack([*steps, drawn]))
        self._actions(prepared, drawn)

    def _prepared(self, prepared: Prepared) -> None:
        """The text, and the state, which lerobot records without its padding."""
        state = None if prepared.state is None else prepared.state.numpy()
        self._note("ids", "prompt_ids", prepared.ids.numpy())
        if f"{self._name}/prompt" in self._golden:
            text = self._policy.prompt.text(self._words, state)
            self._ledger.equal("prompt", self._name, text == str(self._golden[f"{self._name}/prompt"]))
        normal = self._golden[f"{self._name}/state_norm"]
        if state is not None:
            padded = np.zeros(len(normal))
            padded[: len(state)] = state
            self._ledger.compare("state", self._name, padded, normal)
        self._note("text", "text_embeds", to_numpy(self._policy.decoder.embed(prepared.ids.to(self._policy.device))))

    def _pictures(self, prepared: Prepared) -> None:
        """Bytes at the model's size; lerobot's floats by a window; features where they are recorded."""
        for at, (camera, view) in enumerate(prepared.views.items()):
            name = f"{self._frame}/{camera}"
            if f"{name}_224" in self._golden:
                self._ledger.compare("pixels", name, view, self._golden[f"{name}_224"])
            if f"{self._frame}/pixels_{camera}" in self._golden:
                pixels = prepared.pixels[at].permute(1, 2, 0).numpy()[WINDOW]
                self._ledger.compare("pixels", name, pixels, self._golden[f"{self._frame}/pixels_{camera}"])
            if f"{self._name}/proj_{camera}" in self._golden:
                features = self._policy.network.vision(prepared.pixels[at : at + 1].to(self._policy.device))
                self._note("vision", f"vision_{camera}", to_numpy(features[0]))
                self._note("projector", f"proj_{camera}", to_numpy(self._policy.network.projector(features)[0]))

    def _prefix(self, prepared: Prepared) -> Prefilled:
        """One pass; of what is recorded of it rows that the reference masks mean nothing."""
        policy, kv = self._policy, empty_kv(self._policy, prepared)
        (rows,) = policy.embed([prepared])
        layers = policy.decoder.config.num_hidden_layers
        plan = ReusePlan.whole(len(rows), layers, len(prepared.layout.patch_positions), rows.device)
        prompt = prompt_slice(policy.decoder, rows, plan, kv, read=len(rows), mask=prepared.layout.mask)
        (hidden,) = DecoderRunner(policy.decoder).forward([prompt])
        if f"{self._name}/prefix_mask" in self._golden:
            there = self._golden[f"{self._name}/prefix_mask"]
            expected = self._golden[f"{self._name}/prefix_hidden"][there]
            self._ledger.compare("hidden", self._name, to_numpy(hidden), expected)
            positions = self._golden[f"{self._name}/prefix_position_ids"][there]
            self._ledger.compare("positions", self._name, np.arange(len(rows)), positions)
            self._keys_and_values(torch.stack(kv.rows(0, len(rows))), there)
        return Prefilled(prepared, hidden, kv, Draft(prepared.no_motion_tokens))

    def _keys_and_values(self, held: torch.Tensor, there: NDArray[np.bool_]) -> None:
        """`held` [2, layers, 1, rows, head_dim]."""
        for key in sorted(key for key in self._golden.keys if key.startswith(f"{self._name}/") and KV.search(key)):
            layer = int(KV.search(key)[1])  # type: ignore[index] # it matched
            self._ledger.compare("kv", key, to_numpy(held[:, layer, 0]), self._golden[key][:, there])

    def _drawn(self, prefilled: Prefilled) -> list[NDArray[np.float32]]:
        """What each step began with, then the chunk: [horizon, action_dim] each."""
        noise = torch.from_numpy(self._inputs[f"{self._frame}/noise"])[None].to(self._policy.device)
        steps = self._policy.network.drawn(*self._policy.expert_input([prefilled]), noise)
        return [to_numpy(one[0]) for one in steps]

    def _actions(self, prepared: Prepared, drawn: NDArray[np.float32]) -> None:
        """Lerobot records the robot's numbers alone."""
        expected, policy = self._golden[f"{self._name}/norm_actions"], self._policy
        self._ledger.compare("normalised", self._name, drawn[:, : expected.shape[1]], expected)
        self._note("actions", "actions", policy.scaled(prepared, drawn.astype(np.float64)).chunk.actions)
        if f"{self._name}/actions_abs" in self._golden:
            relative = tuple("gripper" not in name for name in policy.config.action_names)
            added = replace(policy, config=replace(policy.config, relative=relative))
            made = added.scaled(prepared, drawn.astype(np.float64)).chunk.actions
            self._ledger.compare(
                "actions", f"{self._name}/actions_abs", made, self._golden[f"{self._name}/actions_abs"]
            )

    def _note(self, stage: str, key: str, found: NDArray[Any]) -> None:
        """Compare what is recorded."""
        if f"{self._name}/{key}" in self._golden:
            self._ledger.compare(stage, self._name, found, self._golden[f"{self._name}/{key}"])


@contextmanager
def _inputs(golden: Golden) -> Iterator[Golden]:
    """The file with pictures, noise and states: the same, or the one beside it."""
    if "states" in golden or not golden.file.stem.endswith(LEROBOT):
        yield golden
        return
    beside = Golden(golden.file.with_name(f"{golden.file.stem.removesuffix(LEROBOT)}.npz"))
    try:
        yield beside
    finally:
        beside.close()


def _kind(case: re.Match[str]) -> tuple[str, str]:
    return case[1] or "", case[5]

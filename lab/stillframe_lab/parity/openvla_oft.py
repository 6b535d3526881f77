"""OpenVLA-OFT's goldens: cases f0_i0_wrist1_proprio1_l1, each run as its name says.

Knows the keys that the goldens' README describes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np

from stillframe.domain import Observation
from stillframe.models.base import Decoded, PolicyModel, Prefilled, Prepared
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import prompt_slice
from stillframe.reuse.plan import ReusePlan
from stillframe_lab.parity.golden import Golden
from stillframe_lab.parity.ledger import Ledger, Stage
from stillframe_lab.parity.prismatic import compare_ids, empty_kv, to_numpy
from stillframe_lab.parity.readers import Opener

CASE = re.compile(r"(f\d+)_(i\d+)_(wrist[01]_proprio[01]_(?:l1|discrete))")


class OFTReader:
    """Walks the cases, those of one kind together: each kind is loaded anew."""

    stages = (
        Stage("ids", 0),
        Stage("state", 1e-6),
        Stage("hidden", 1e-4),
        Stage("actions", 3e-5),  # of the head
        Stage("said actions", 1e-12),  # of tokens
    )
    passed_over = (re.compile(r"/bf16_"), re.compile(r"_proprio0_\w+/proprio_"))  # of a state that is not read

    def recognises(self, golden: Golden) -> bool:
        """By the cases' names."""
        return any(CASE.fullmatch(name) for name in golden.names("actions"))

    def compare(self, golden: Golden, open_policy: Opener, ledger: Ledger) -> None:
        """Kind by kind."""
        cases = sorted((found for name in golden.names("actions") if (found := CASE.fullmatch(name))), key=_kind)
        for kind, group in groupby(cases, key=_kind):
            with ledger.case(kind):
                alike = list(group)
                policy = open_policy(_keys(kind, len(golden[f"{alike[0][0]}/actions"])))
                for case in alike:
                    with ledger.case(case[0]):
                        self._compare(golden, ledger, case, policy)

    def _compare(self, golden: Golden, ledger: Ledger, found: re.Match[str], policy: PolicyModel) -> None:
        case, frame, instruction, kind = found[0], found[1], found[2], found[3]
        images = {"image": golden.picture(frame)}
        if "wrist1" in kind:
            images["wrist"] = golden.picture(frame, "wrist_frames")
        state = golden[f"{case}/proprio_raw"] if "proprio1" in kind else None
        key = golden.unnorm_key(frame, policy.info.norm_stats)
        words = golden.instruction(instruction)
        prepared = policy.prepare(Observation(images, words, unnorm_key=key, state=state))
        compare_ids(golden, ledger, case, case, prepared, appended=1)
        if prepared.state is not None:
            ledger.compare("state", case, prepared.state.numpy(), golden[f"{case}/proprio_norm"].astype(np.float32))
        hidden, decoded = _walk(policy, prepared)
        expected = golden[f"{case}/hidden"]
        ledger.compare("hidden", case, hidden[: len(expected)], expected)
        stage = "said actions" if kind.endswith("discrete") else "actions"
        ledger.compare(stage, case, decoded.chunk.actions, golden[f"{case}/actions"])


def _kind(case: re.Match[str]) -> str:
    return case[3]


def _keys(kind: str, chunk: int) -> Mapping[str, Any]:
    """What config.json would say of such a case."""
    wrist, state, head = kind.split("_")
    return {
        "cameras": ["image", "wrist"] if wrist == "wrist1" else ["image"],
        "use_proprio": state == "proprio1",
        "action_head": head,
        "num_actions_chunk": chunk,
    }


def _walk(policy: PolicyModel, prepared: Prepared) -> tuple[np.ndarray, Decoded]:
    """The rows from the one before the action's first place on [rows, width], and the answer."""
    (rows,) = policy.embed([prepared])
    layout, kv = prepared.layout, empty_kv(policy, prepared)
    plan = ReusePlan.whole(len(rows), policy.decoder.config.num_hidden_layers, len(layout.patch_positions), rows.device)
    prompt = prompt_slice(policy.decoder, rows, plan, kv, read=layout.answer_rows, mask=layout.mask)
    runner = DecoderRunner(policy.decoder)
    (hidden,) = runner.forward([prompt])
    (decoded,) = policy.act([Prefilled(prepared, hidden, kv, Draft(prepared.no_motion_tokens))], runner)
    return to_numpy(hidden), decoded

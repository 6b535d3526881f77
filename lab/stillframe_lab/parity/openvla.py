"""OpenVLA's goldens: frames f0.., instructions i0.., cases f0_i0 with logits, tokens and actions.

Knows the keys that the goldens' README describes.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from stillframe.domain import Observation
from stillframe.models.base import Decoded, Prefilled, Prepared
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.openvla.model import OpenVLA
from stillframe.reuse.kv import FrameKV
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

CASE = re.compile(r"(f\d+)_(i\d+)")


class OpenVLAReader:
    """Walks the cases."""

    stages = (
        Stage("pixels", 0),
        Stage("ids", 0),
        Stage("vision", 1e-4),
        Stage("projector", 1e-4),
        Stage("logits", 1e-4),
        Stage("tokens", 0),
        Stage("normalised", 0),
        Stage("actions", 0),
    )
    passed_over = (
        re.compile(r"/bf16_"),
        re.compile(r"/(gen_sequences|attention_mask)$"),
        re.compile(r"^vis_std$"),
    )

    def recognises(self, golden: Golden) -> bool:
        """By the logits of the first token."""
        return bool(golden.names("first_logits"))

    def compare(self, golden: Golden, open_policy: Opener, ledger: Ledger) -> None:
        """Frame by instruction."""
        cases = [name for name in golden.names("input_ids") if CASE.fullmatch(name)]
        policy = open_policy({}) if cases else None
        for case in cases:
            with ledger.case(case):
                if not isinstance(policy, OpenVLA):
                    raise CannotCompare("the checkpoint decodes no tokens")
                self._compare(golden, ledger, case, policy)

    def _compare(self, golden: Golden, ledger: Ledger, case: str, policy: OpenVLA) -> None:
        frame, instruction = case.split("_")
        key = golden.unnorm_key(frame, policy.statistics.scales)
        seen = Observation({"image": golden.picture(frame)}, golden.instruction(instruction), unnorm_key=key)
        prepared = policy.prepare(seen)
        compare_pixels(golden, ledger, frame, prepared)
        compare_ids(golden, ledger, case, case, prepared, appended=1)
        for place in (frame, case):
            compare_features(golden, ledger, place, policy, prepared)
        hidden, kv, decoded = _walk(policy, prepared)
        forced = torch.from_numpy(golden[f"{case}/tokens"][:-1]).to(policy.device)
        after = run_rows(policy, policy.decoder.embed(forced), prepared.layout.action.start, kv)
        logits = policy.decoder.logits(torch.cat((hidden, after))).float()
        ledger.compare("logits", case, to_numpy(logits[0]), golden[f"{case}/first_logits"])
        ledger.compare("logits", case, to_numpy(logits.topk(8).values.flip(-1)), golden[f"{case}/top8_logits"])
        ledger.compare("tokens", case, decoded.chunk.tokens, golden[f"{case}/tokens"])
        ledger.compare("normalised", case, decoded.normalised[0], golden[f"{case}/norm_actions"])
        ledger.compare("actions", case, decoded.chunk.actions[0], golden[f"{case}/actions"])


def _walk(policy: OpenVLA, prepared: Prepared) -> tuple[Tensor, FrameKV, Decoded]:
    """The prompt's last hidden row [1, width], the prompt's KV, the answer."""
    (rows,) = policy.embed([prepared])
    kv, draft = empty_kv(policy, prepared), Draft(prepared.no_motion_tokens, "strict")
    ahead = torch.cat((rows, policy.decoder.embed(draft.input_ids.to(policy.device))))
    hidden = run_rows(policy, ahead, 0, kv)
    (decoded,) = policy.act([Prefilled(prepared, hidden, kv, draft)], DecoderRunner(policy.decoder))
    return hidden[len(rows) - 1 : len(rows)], kv, decoded

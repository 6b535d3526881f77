"""The golden record, and our own walk over the same frames and instructions.

Knows where the files lie; no test.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.domain import ActionChunk, Observation
from stillframe.engine.kv_slots import kv_shape
from stillframe.models.base import PolicyModel, Prefilled, Prepared
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.registry import load_policy
from stillframe.reuse.kv import FrameKV

HERE = Path(__file__).parent
FRAMES = ("f0", "f1", "f2", "f3")
INSTRUCTIONS = {
    "i0": "pick up the black bowl between the plate and the ramekin and place it on the plate",
    "i1": "put the spoon on the towel",
    "i2": "Open the middle drawer of the cabinet",
}
CASES = [f"{frame}_{instruction}" for frame, instruction in itertools.product(FRAMES, INSTRUCTIONS)]

Record = Mapping[str, NDArray[np.generic]]


def run_rows(decoder: Decoder, rows: Tensor, first: int, kv: FrameKV) -> Tensor:
    """One pass over embedded rows [rows, width] from position `first` on -> hidden rows, normed."""
    return DecoderRunner(decoder).forward([SequenceSlice(rows, first, kv)])[0]


@dataclass(frozen=True)
class Walked:
    """What our network made of one case, stage by stage."""

    prepared: Prepared
    rows: Tensor  # [prompt_rows, width]
    logits: Tensor  # [7, vocab] in float32: one row per action token, each after the golden tokens before it
    chunk: ActionChunk


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `case` all twelve pairs, `frame` all four pictures."""
    for name, values in (("case", CASES), ("frame", FRAMES)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


@pytest.fixture(scope="session")
def record() -> Record:
    """What the reference returned."""
    with np.load(HERE / "openvla-micro.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def policy() -> PolicyModel:
    """The checkpoint in fp32."""
    return load_policy(HERE / "openvla-micro", dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def walked(policy: PolicyModel, record: Record) -> dict[str, Walked]:
    """Case -> our walk, fp32."""
    return {case: _walk(policy, record, case, "tokens") for case in CASES}


@pytest.fixture(scope="session")
def walked_bf16(record: Record) -> dict[str, Walked]:
    """Case -> our walk, bfloat16."""
    policy = load_policy(HERE / "openvla-micro", dtype=torch.bfloat16, device=torch.device("cpu"))
    return {case: _walk(policy, record, case, "bf16_tokens") for case in CASES}


@torch.inference_mode()
def _walk(policy: PolicyModel, record: Record, case: str, tokens_key: str) -> Walked:
    """Prepare, embed, prefill, decode; then the same seven tokens' logits in one pass."""
    frame, instruction = case.split("_")
    prepared = policy.prepare(Observation({"image": record[f"{frame}/frame"]}, INSTRUCTIONS[instruction]))
    (rows,) = policy.embed([prepared])
    kv = FrameKV(kv_shape(policy, len(prepared.layout.text)).allocate())
    draft = Draft(prepared.no_motion_tokens, "strict")
    ahead = torch.cat((rows, policy.decoder.embed(draft.input_ids)))
    hidden = run_rows(policy.decoder, ahead, 0, kv)
    chunk = policy.act([Prefilled(prepared, hidden, kv, draft)], DecoderRunner(policy.decoder))[0].chunk
    forced = policy.decoder.embed(torch.from_numpy(record[f"{case}/{tokens_key}"][:-1]))
    after = run_rows(policy.decoder, forced, prepared.layout.action.start, kv)
    logits = policy.decoder.logits(torch.cat((hidden[len(rows) - 1 : len(rows)], after)))
    return Walked(prepared, rows, logits.float(), chunk)

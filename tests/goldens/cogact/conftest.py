"""What microsoft/CogACT returned on a tiny random checkpoint, and the checkpoint, loaded by us.

Knows where the files lie; no test.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stillframe.domain import Observation
from stillframe.engine.kv_slots import kv_shape
from stillframe.models.base import PolicyModel, Prepared
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.registry import load_policy
from stillframe.reuse.kv import FrameKV

HERE = Path(__file__).parent
KEYS = {"f0": "bridge_orig", "f1": "fractal20220817_data", "f2": "bridge_orig", "f3": "fractal20220817_data"}

Record = Mapping[str, NDArray[np.generic]]
Walk = tuple[Prepared, torch.Tensor, torch.Tensor]  # what was prepared, its rows and its hidden rows


@pytest.fixture(scope="session")
def cogact_record() -> Record:
    """What the reference returned."""
    with np.load(HERE / "cogact-micro.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def cogact(cogact_folder: Path) -> PolicyModel:
    """The checkpoint in fp32."""
    return load_policy(cogact_folder, dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def cogact_walk(
    cogact: PolicyModel, cogact_record: Record
) -> Mapping[str, tuple[Prepared, torch.Tensor, torch.Tensor]]:
    """Case -> our walk."""
    return {name: _walked(cogact, cogact_record, name) for name in names_of(cogact_record, "/cognition")}


def names_of(record: Record, ending: str) -> list[str]:
    """What stands before `ending` in the record's keys."""
    return sorted(key.removesuffix(ending) for key in record if key.endswith(ending))


@torch.inference_mode()
def _walked(policy: PolicyModel, record: Record, name: str) -> Walk:
    frame, instruction = name.split("_")
    words = str(record["instructions"][int(instruction[1:])])
    seen = Observation(images={"image": record[f"{frame}/frame"]}, instruction=words, unnorm_key=KEYS[frame])
    prepared = policy.prepare(seen)
    (rows,) = policy.embed([prepared])
    kv = FrameKV(kv_shape(policy, len(prepared.layout.text)).allocate())
    (hidden,) = DecoderRunner(policy.decoder).forward([SequenceSlice(rows, 0, kv)])
    return prepared, rows, hidden

"""The stages that families on a Prismatic VLM share: pixels, ids, vision features, projected patches; and a pass.

Knows how a policy of such a family is walked through by hand; no layout's cases.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from stillframe.engine.kv_slots import kv_shape
from stillframe.models.base import PolicyModel, Prepared
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.prismatic.policy import PrismaticPolicy
from stillframe.reuse.kv import FrameKV
from stillframe_lab.parity.golden import Golden
from stillframe_lab.parity.ledger import Ledger

WINDOW = 96  # first row and column of a window that stands for all pixels


def empty_kv(policy: PolicyModel, prepared: Prepared) -> FrameKV:
    """Room for one frame's keys and values."""
    return FrameKV(kv_shape(policy, len(prepared.layout.text)).allocate())


def run_rows(policy: PolicyModel, rows: Tensor, first: int, kv: FrameKV) -> Tensor:
    """One causal pass over embedded rows [rows, width] from position `first` on -> hidden rows, normed."""
    return DecoderRunner(policy.decoder).forward([SequenceSlice(rows, first, kv)])[0]


def compare_pixels(golden: Golden, ledger: Ledger, frame: str, prepared: Prepared) -> None:
    """`frame`/pixel_values, all of them or a window; `frame`/pixel_sha256, of their bytes."""
    pixels = prepared.pixels.cpu().numpy()
    if f"{frame}/pixel_values" in golden:
        expected = golden[f"{frame}/pixel_values"]
        height, width = expected.shape[-2:]
        if (height, width) != pixels.shape[-2:]:
            pixels = pixels[..., WINDOW : WINDOW + height, WINDOW : WINDOW + width]
        ledger.compare("pixels", frame, pixels, expected)
    if f"{frame}/pixel_sha256" in golden:
        found = hashlib.sha256(prepared.pixels.cpu().numpy().tobytes()).hexdigest()
        ledger.equal("pixels", frame, found == str(golden[f"{frame}/pixel_sha256"]))


def compare_ids(golden: Golden, ledger: Ledger, key: str, case: str, prepared: Prepared, *, appended: int) -> None:
    """`key`/input_ids, which lack the last `appended` of ours."""
    if f"{key}/input_ids" in golden:
        ids = prepared.ids.cpu().numpy()
        ledger.compare("ids", case, ids[: len(ids) - appended], golden[f"{key}/input_ids"].ravel())


def compare_features(golden: Golden, ledger: Ledger, key: str, policy: PrismaticPolicy, prepared: Prepared) -> None:
    """`key`/vision and `key`/projector of the first camera, of all patches or of every so manieth."""
    wanted = [stage for stage in ("vision", "projector") if f"{key}/{stage}" in golden]
    if all(key in ledger.stages[stage].cases for stage in wanted):
        return
    pixels = prepared.pixels[:1].to(policy.device, policy.dtype)
    features = policy.network.vision_backbone(pixels)
    made = {"vision": features, "projector": policy.network.projector(features)}
    for stage in wanted:
        expected = golden[f"{key}/{stage}"]
        ledger.compare(stage, key, _thinned(made[stage][0], len(expected)), expected)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """In float32, in the host's memory."""
    found: np.ndarray = tensor.detach().to("cpu", torch.float32).numpy()
    return found


def _thinned(rows: Tensor, count: int) -> np.ndarray:
    """As many of the rows as are recorded, evenly spaced from the first on."""
    step = len(rows) // count if count and len(rows) % count == 0 else 1
    return to_numpy(rows[::step])

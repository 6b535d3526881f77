"""The models and the trainer on a CUDA device, held to the goldens and to themselves.

Knows no web server and no simulator: a bare GPU machine can run it with torch and the packages that read a checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from stillframe.domain import ActionChunk, Observation
from stillframe.engine.kv_slots import kv_shape
from stillframe.engine.local import LocalPolicy
from stillframe.models.base import Prefilled
from stillframe.models.llama.decoder import Decoder
from stillframe.models.llama.draft import Draft
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.registry import load_policy
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe_lab.train.auxiliary import KEYPOINTS
from stillframe_lab.train.cloning import CloningTrainer, Progress
from stillframe_lab.train.frame_store import FrameStore, FrameWriter, Labels
from stillframe_lab.train.recipe import Recipe

if TYPE_CHECKING:
    from tests.conftest import Golden

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FRAMES = ("f0", "f1", "f2", "f3")
FP32_ATOL = 1e-3
BF16_ATOL = 0.75  # from the reference's fp32, where its own bfloat16 lies 0.14 to 0.42 away


def run_rows(decoder: Decoder, rows: Tensor, first: int, kv: FrameKV) -> Tensor:
    """One pass over embedded rows [rows, width] from position `first` on -> hidden rows, normed."""
    return DecoderRunner(decoder).forward([SequenceSlice(rows, first, kv)])[0]


def quiet(_: Progress) -> None:
    """Report nowhere."""


@torch.inference_mode()
def asked(checkpoint: Path, dtype: torch.dtype, golden: Golden) -> tuple[ActionChunk, np.ndarray]:
    """The action for one golden frame and the logits [vocab] of its first token, computed on the GPU."""
    policy = load_policy(checkpoint, dtype=dtype, device=CUDA)
    prepared = policy.prepare(Observation({"image": golden.picture}, golden.instruction))
    (rows,), kv = policy.embed([prepared]), FrameKV(kv_shape(policy, text_tokens=64).allocate())
    draft = Draft(prepared.no_motion_tokens, "strict")
    ahead = torch.cat((rows, policy.decoder.embed(draft.input_ids.to(CUDA))))
    hidden = run_rows(policy.decoder, ahead, 0, kv)
    logits = policy.decoder.logits(hidden[len(rows) - 1])
    assert (logits.dtype, logits.device.type) == (dtype, CUDA.type)
    return policy.act([Prefilled(prepared, hidden, kv, draft)], DecoderRunner(policy.decoder))[
        0
    ].chunk, logits.float().cpu().numpy()


@pytest.fixture(scope="module")
def record(golden_folder: Path) -> Mapping[str, np.ndarray]:
    """What the reference returned."""
    with np.load(golden_folder.with_suffix(".npz")) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("frame", FRAMES)
def test_float32_is_the_reference(
    golden_folder: Path,
    goldens: Mapping[str, Golden],
    record: Mapping[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    frame: str,
) -> None:
    """Tokens and actions are equal to the reference's, the whole vocabulary's logits near, once TF32 is off."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # torch lets convolutions round unless told
    chunk, logits = asked(golden_folder, torch.float32, goldens[frame])

    assert_allclose(logits, record[f"{frame}_i1/first_logits"], rtol=0, atol=FP32_ATOL)
    assert_array_equal(chunk.tokens, record[f"{frame}_i1/tokens"])
    assert_array_equal(chunk.actions, goldens[frame].action[None])


@pytest.mark.parametrize("frame", FRAMES)
def test_bfloat16_is_near_the_reference(
    golden_folder: Path, goldens: Mapping[str, Golden], record: Mapping[str, np.ndarray], frame: str
) -> None:
    """Weights and cache in bfloat16: an action of seven numbers, from logits as near as rounding allows."""
    chunk, logits = asked(golden_folder, torch.bfloat16, goldens[frame])

    assert_allclose(logits, record[f"{frame}_i1/first_logits"], rtol=0, atol=BF16_ATOL)
    assert chunk.actions.shape == (1, 7)
    assert np.isfinite(chunk.actions).all()


def test_an_unchanged_frame_is_reused_on_the_gpu(golden_folder: Path, goldens: Mapping[str, Golden]) -> None:
    """All patches keep their keys and values and the tokens are the keyframe's; the pause finds no drift."""
    model = load_policy(golden_folder, dtype=torch.float32, device=CUDA)
    knobs = AdaptiveSettings(top_k=256, task_top_k=0)
    policy = LocalPolicy(model, ReuseSettings(mode="adaptive", adaptive=knobs))
    observed = {"images": {"image": goldens["f0"].picture}, "instruction": goldens["f0"].instruction}
    first, _, again = policy(observed), policy.refresh(), policy(observed)
    report = policy.refresh()

    assert policy.last.report.cache.frame == "delta"
    assert policy.last.report.cache.reused_tokens == 257
    assert_array_equal(again, first)
    assert report is not None
    assert report.drift == 0


@pytest.fixture
def demos(tmp_path: Path) -> list[FrameStore]:
    """Three made-up frames."""
    rng = np.random.default_rng(1)
    writer = FrameWriter(tmp_path / "demos", "made up")
    for _ in range(3):
        labels = Labels(
            actions=rng.uniform(0, 1, (1, 6, 7)).round(2).astype(np.float32),
            points_m=rng.uniform(-0.3, 0.3, (1, KEYPOINTS, 3)).astype(np.float32),
            points_px=rng.uniform(0, 224, (1, KEYPOINTS, 2)).astype(np.float32),
            finger_rad=rng.uniform(0.2, 1.2, 1).astype(np.float32),
        )
        writer.append(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8), labels)
    writer.close()
    return [FrameStore.open(tmp_path / "demos", "made up")]


@pytest.fixture
def recipe() -> Recipe:
    """Six steps of two pictures, on a network of a few thousand numbers."""
    sizes = {"tower_dim": 16, "tower_depth": 2, "tower_heads": 2, "width": 16, "layers": 2, "heads": 2}
    return replace(Recipe(), **sizes, feed_forward=24, steps=6, batch_images=2, warmup_steps=2, dagger_at=())


def test_training_goes_on_where_it_was_stopped(tmp_path: Path, recipe: Recipe, demos: list[FrameStore]) -> None:
    """A step moves every tensor on the GPU; a resumed run finds them as they were left, and goes on to move them."""
    first = CloningTrainer(tmp_path / "run", replace(recipe, weight_decay=0.0), CUDA)
    fresh = {name: tensor.clone() for name, tensor in first.trainee.state_dict().items()}
    first.run(demos, [], 1, quiet)
    left = first.trainee.state_dict()
    resumed = CloningTrainer(tmp_path / "run", replace(recipe, weight_decay=0.0), CUDA)
    found = {name: tensor.clone() for name, tensor in resumed.trainee.state_dict().items()}
    resumed.run(demos, [], 2, quiet)
    moved = resumed.trainee.state_dict()

    assert {tensor.device.type for tensor in found.values()} == {CUDA.type}
    assert [name for name in fresh if torch.equal(fresh[name], left[name])] == []
    assert [name for name in left if not torch.equal(left[name], found[name])] == []
    assert [name for name in found if torch.equal(found[name], moved[name])] == []
    assert all(tensor.isfinite().all() for tensor in moved.values())
    assert resumed.step == 2


def test_what_the_gpu_trained_a_cpu_serves(tmp_path: Path, recipe: Recipe, demos: list[FrameStore]) -> None:
    """An exported checkpoint holds the slow copy's very numbers and nothing of the device."""
    cloning = CloningTrainer(tmp_path / "run", recipe, CUDA)
    cloning.run(demos, [], 1, quiet)
    cloning.export(tmp_path / "out")
    served = load_policy(tmp_path / "out", dtype=torch.float32, device=CPU).decoder.state_dict()
    slow = cloning.ema.weights

    assert all(torch.equal(served[name], slow[f"language_model.{name}"].cpu()) for name in served)

from __future__ import annotations

from pathlib import Path
from time import thread_time

import numpy as np
import pytest
import torch

from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.openvla_oft.model import OpenVLAOFT
from stillframe.models.registry import load_policy
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.latency import command
from stillframe_lab.latency.command import CHUNK as CHUNK_MODEL
from stillframe_lab.latency.command import QUICK_LIMITS, BenchSettings, run_bench
from stillframe_lab.latency.ours import StillframeVariant
from stillframe_lab.latency.race import RaceLimits, VariantInfo
from stillframe_lab.latency.scene import Scene, SceneFrame
from stillframe_lab.latency.sizes import CHUNK, RandomFolder, Size, load_from
from stillframe_lab.latency.stock import STOCK, bidirectional, stock_decoder
from stillframe_lab.latency.stock_chunk import StockChunkVariant
from stillframe_lab.latency.variants import OFF, REUSED, settings

CPU = torch.device("cpu")
MICRO = Size(
    "micro",
    {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4},
    {"embed_dim": 32, "depth": 3, "num_heads": 2},
    chunk=8,
)


def ways(model: PolicyModel, folder: CheckpointFolder) -> tuple[StockChunkVariant, StillframeVariant]:
    """Plain transformers and ours, whole."""
    assert isinstance(model, OpenVLAOFT)
    llama = stock_decoder(folder, model.decoder.config, dtype=torch.float32, device=CPU, has_head=False)
    stock = StockChunkVariant(VariantInfo(STOCK, "float32"), model, bidirectional(llama), thread_time)
    return stock, StillframeVariant(VariantInfo(OFF, "float32"), model, thread_time, ReuseSettings())


def with_eight(shot: SceneFrame) -> SceneFrame:
    """As if its arm had eight numbers to its state, as the golden checkpoint's has."""
    return SceneFrame(shot.jpeg, shot.instruction, shot.wrist, (*shot.state, 0.5))


def test_the_stock_way_acts_as_we_do(oft_folder: Path, scene: Scene) -> None:
    """The golden checkpoint's weights: in float32 the same chunk in the robot's units, frame after frame.

    A causal decoder says another: the mask is off where transformers looks for it.
    """
    model, folder = load_policy(oft_folder, dtype=torch.float32, device=CPU), CheckpointFolder(oft_folder)
    (stock, ours), shots = ways(model, folder), [[with_eight(shot)] for shot in scene.shots[::13]]
    pairs = [(stock(shot).chunks[0], ours(shot).chunks[0]) for shot in shots]
    causal = stock_decoder(folder, model.decoder.config, dtype=torch.float32, device=CPU, has_head=False)
    stock._llama = causal

    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert np.ptp([one for one, _ in pairs], axis=0).max() > 1e-2
    assert np.abs(stock(shots[0]).chunks[0] - pairs[0][0]).max() > 1e-3


def test_half_of_both_pictures_is_reused(tmp_path: Path, scene: Scene) -> None:
    """Random weights are loaded as a checkpoint is, both ways agree, and half is reused where that is forced."""
    folder = RandomFolder(tmp_path, MICRO)
    model = load_from(folder, dtype=torch.float32, device=CPU)
    (stock, ours), shot = ways(model, folder), [scene.shots[0]]
    whole, dense = stock(shot), ours(shot)
    layout = model.prepare(scene.shots[0].of_policy(model.info)).layout
    half = StillframeVariant(VariantInfo(REUSED, ""), model, thread_time, settings(ReuseSettings(), layout)["forced"])
    ratios = [half([scene.shot("moving", turn)]).reuse_ratio for turn in range(3)]

    np.testing.assert_allclose(whole.chunks[0], dense.chunks[0], rtol=0, atol=1e-4)
    assert [*whole.stages_ms] == ["decode image", "prepare", "vision", "prefill", "verify"]
    assert (model.info.chunk_horizon, layout.total_rows, len(layout.patches)) == (8, 590, 2)
    assert ratios == [0.0, pytest.approx(0.5, abs=0.005), pytest.approx(0.5, abs=0.005)]
    assert sum(part.macs for part in dense.work) < sum(part.macs for part in whole.work)  # the last layer's rows


def test_the_bench_has_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick run of the model, here a micro one: stock, whole and half, compared with stock of the same run."""
    monkeypatch.setitem(command.SIZES, CHUNK_MODEL, MICRO)
    monkeypatch.setitem(QUICK_LIMITS, CHUNK_MODEL, RaceLimits(1, 0.0, warm_up=1))
    monkeypatch.setattr(command, "measure_roofline", lambda *_: ROOFLINE)
    document = run_bench(BenchSettings(tmp_path, CPU, ReuseSettings(), (CHUNK_MODEL,), quick=True), lambda *_: None)
    rows = {row["name"]: row for row in document["rows"]}

    assert list(rows) == [STOCK, OFF, REUSED]
    assert rows[REUSED]["reuse_ratio"] == pytest.approx(0.5, abs=0.005)
    assert all(row["speedup_vs_stock"] == rows[STOCK]["frame_ms"] / row["frame_ms"] for row in rows.values())
    assert rows[REUSED]["gflop"] < rows[OFF]["gflop"] < rows[STOCK]["gflop"]


ROOFLINE = {
    "copy_gb_per_s": 1.0,
    "gemm": {dtype: {"torch": {"gflop_per_s": rate}} for dtype, rate in (("float32", 2.0), ("bfloat16", 1.0))},
}


def test_the_big_one_is_as_wide_as_it_says(tmp_path: Path) -> None:
    """1024 wide, 16 layers, chunks of eight: 513 rows of BOS and pictures, as LIBERO's checkpoints have."""
    text = RandomFolder(tmp_path, CHUNK).json("config.json")

    assert CHUNK.name == f"oft-{text['text_config']['hidden_size']}x{text['text_config']['num_hidden_layers']}"
    assert text["num_actions_chunk"] == 8
    assert CHUNK.name == CHUNK_MODEL

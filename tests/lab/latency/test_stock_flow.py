from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from time import thread_time
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from stillframe.domain import Observation
from stillframe.errors import ConfigError
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.pi0.config import Pi0Config
from stillframe.models.pi0.model import Pi0
from stillframe.models.pi0.siglip import SiglipConfig
from stillframe.models.pi0.sizes import Pi0Sizes
from stillframe.models.registry import load_policy
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.latency import command
from stillframe_lab.latency.command import (
    FLOW,
    QUICK_LIMITS,
    TRAINED_FLOW,
    BenchSettings,
    models_for,
    run_bench,
    trained_flow,
)
from stillframe_lab.latency.flow_sizes import FLOW_SIZES, HALF, FlowSize, RandomFlowFolder, gemma
from stillframe_lab.latency.ours import StillframeVariant
from stillframe_lab.latency.plain_pi0 import plain_pi0
from stillframe_lab.latency.race import RaceLimits, VariantInfo
from stillframe_lab.latency.scene import Scene, SceneFrame
from stillframe_lab.latency.sizes import load_from
from stillframe_lab.latency.stock import STOCK
from stillframe_lab.latency.stock_flow import StockFlowVariant
from stillframe_lab.latency.variants import OFF, REUSED

CPU = torch.device("cpu")
GOLDENS = Path(__file__).parents[2] / "goldens" / "pi0"
SLOTS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
CAMERAS = {"c1": SLOTS[:1], "c2": SLOTS[:2], "c3": SLOTS, "cR": (SLOTS[0], SLOTS[2])}
CASE = re.compile(r"(f\d)_i(\d)_s(\d)_(c\w)/norm_actions")
MICRO = FlowSize(
    "micro",
    Pi0Sizes(
        SiglipConfig(72, 2, 1, 96), gemma(64, 96, 2, 4, 16), gemma(32, 64, 2, 4, 16), action_dim=32, adaptive=False
    ),
    chunk=5,
)
Record = Mapping[str, NDArray[Any]]


@pytest.fixture(scope="module")
def record() -> Record:
    """What openpi was given and returned."""
    with np.load(GOLDENS / "pi0-micro.npz") as arrays:
        return dict(arrays)


def stock_of(model: Pi0, folder: CheckpointFolder, *, padded: bool = True) -> StockFlowVariant:
    """The loop over the same weights."""
    plain = plain_pi0(folder, model.config.sizes, model.config.flow, dtype=model.dtype, device=CPU)
    return StockFlowVariant(VariantInfo(STOCK, "float32"), model, plain, thread_time, padded=padded)


def golden(**keys: Any) -> Pi0:
    """The reference's checkpoint."""
    model = load_policy(GOLDENS / "pi0-micro", dtype=torch.float32, device=CPU, config=keys)
    assert isinstance(model, Pi0)
    return model


@pytest.mark.few(2)
@pytest.mark.parametrize("cameras", CAMERAS)
@pytest.mark.parametrize("padded", [True, False])
@torch.inference_mode()
def test_the_loop_is_the_references(record: Record, cameras: str, *, padded: bool) -> None:
    """Every case's normalised chunk as openpi returned it, with masked slots and padding or without."""
    model = golden(cameras=[*CAMERAS[cameras]])
    stock = stock_of(model, CheckpointFolder(GOLDENS / "pi0-micro"), padded=padded)
    cases = [case for case in map(CASE.fullmatch, record) if case and case[4] == cameras]
    for case in cases:
        images = {camera: record[f"{case[1]}/{camera}"] for camera in CAMERAS[cameras]}
        words, state = str(record["instructions"][int(case[2])]), record["states"][int(case[3])]
        prepared = model.prepare(Observation(images, words, state=state))
        rows, there = stock._embedded(prepared)
        cache = stock._plain.prefill(rows, there)
        drawn = stock._plain.draw(cache, there, stock._state(prepared), torch.from_numpy(record[f"{case[1]}/noise"]))

        np.testing.assert_allclose(drawn.numpy(), record[case[0]], rtol=0, atol=2e-5)
        assert len(rows) == (3 * 256 + 48 if padded else int(there.sum()))
    assert cases


def with_eight(shot: SceneFrame) -> SceneFrame:
    """As if its arm had eight numbers to its state, as the golden checkpoint's has."""
    return SceneFrame(shot.jpeg, shot.instruction, shot.wrist, (*shot.state, 0.5))


def test_the_stock_way_acts_as_we_do(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same noise the same chunk in the robot's units, frame after frame, the state added to it."""
    model = golden()
    monkeypatch.setattr(Pi0, "noise", lambda self, _, draw=Pi0.noise: draw(self, 3))
    stock = stock_of(model, CheckpointFolder(GOLDENS / "pi0-micro"))
    ours = StillframeVariant(VariantInfo(OFF, "float32"), model, thread_time, ReuseSettings())
    monkeypatch.setattr(ours._fleet.core.cache._actions, "refusal", lambda *_: None)  # random weights go anywhere
    shots = [[with_eight(shot)] for shot in scene.shots[::13]]
    pairs = [(stock(shot).chunks[0], ours(shot).chunks[0]) for shot in shots]

    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert np.ptp([one for one, _ in pairs], axis=0).max() > 1e-2
    assert [*stock(shots[0]).stages_ms] == ["decode image", "prepare", "vision", "prefill", "verify"]


def test_every_turn_has_its_noise(scene: Scene) -> None:
    """Another chunk of the same frame, and the same one again when the turn is."""
    stock, chunks = stock_of(golden(), CheckpointFolder(GOLDENS / "pi0-micro")), []
    for turn in (0, 1, 0):
        stock.before(scene, turn)
        chunks.append(stock([with_eight(scene.shots[0])]).chunks[0])

    np.testing.assert_array_equal(chunks[0], chunks[2])
    assert np.abs(chunks[0] - chunks[1]).max() > 1e-2


@pytest.mark.parametrize("padded", [True, False])
def test_its_work_is_what_torch_counts(tmp_path: Path, scene: Scene, *, padded: bool) -> None:
    """Towers over every slot, the prefix, and in every step the state's row too; time is mixed in by torch's count."""
    folder = RandomFlowFolder(tmp_path, MICRO)
    model = load_from(folder, dtype=torch.float32, device=CPU)
    assert isinstance(model, Pi0)
    stock = stock_of(model, folder, padded=padded)
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        work = stock([scene.shots[0]]).work
    width, rows = MICRO.sizes.expert.hidden_size, MICRO.chunk
    mixed = 10 * rows * 2 * width * width  # of which the state's row is not

    assert len(work) == 2 + 10
    assert 2 * (sum(part.macs for part in work) + mixed) == pytest.approx(counted.get_total_flops(), rel=2e-3)


def test_a_steered_checkpoint_is_refused() -> None:
    """Transformers' Gemma would leave its norms unsteered."""
    model = load_policy(GOLDENS / "pi05-micro", dtype=torch.float32, device=CPU)
    assert isinstance(model, Pi0)
    with pytest.raises(ValueError, match="expected a pi0"):
        stock_of(model, CheckpointFolder(GOLDENS / "pi05-micro"))


def test_the_bench_has_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick run of the model, here a micro one: stock, one robot and four, whole and half, against stock."""
    monkeypatch.setitem(FLOW_SIZES, FLOW, MICRO)
    monkeypatch.setitem(QUICK_LIMITS, FLOW, RaceLimits(1, 0.0, warm_up=1))
    monkeypatch.setattr(command, "measure_roofline", lambda *_: ROOFLINE)
    document = run_bench(BenchSettings(tmp_path, CPU, ReuseSettings(), (FLOW,), quick=True), lambda *_: None)
    rows = {row["name"]: row for row in document["rows"]}

    assert list(rows) == [STOCK, OFF, f"{OFF}, batch 4", REUSED, f"{REUSED}, batch 4"]
    assert rows[REUSED]["reuse_ratio"] == pytest.approx(0.5, abs=0.005)
    assert all(row["speedup_vs_stock"] == rows[STOCK]["frame_ms"] / row["frame_ms"] for row in rows.values())
    assert rows[f"{OFF}, batch 4"]["speedup_vs_in_turn"] is not None
    assert rows[REUSED]["gflop"] < rows[OFF]["gflop"] < rows[STOCK]["gflop"]


ROOFLINE = {
    "copy_gb_per_s": 1.0,
    "gemm": {dtype: {"torch": {"gflop_per_s": rate}} for dtype, rate in (("float32", 2.0), ("bfloat16", 1.0))},
}


def test_the_big_one_is_half_of_the_published(tmp_path: Path) -> None:
    """Widths and layers of PaliGemma 3B and its 300M expert halved, as many heads; two cameras and a short text."""
    published = {"vision": (1152, 27, 16, 4304), "decoder": (2048, 16384, 18, 8), "expert": (1024, 4096, 18, 8)}
    config = Pi0Config.of(RandomFlowFolder(tmp_path, HALF))
    sizes = config.sizes
    halves = partial(map, lambda size: size / 2)

    assert HALF.name == FLOW == f"pi0-{sizes.decoder.hidden_size}x{sizes.decoder.num_hidden_layers}"
    assert (sizes.vision.width, sizes.vision.mlp_dim) == (*halves(published["vision"][::3]),)
    for part in ("decoder", "expert"):
        one = getattr(sizes, part)
        found = (one.hidden_size, one.intermediate_size, one.num_hidden_layers)
        assert (*found, one.num_attention_heads) == (*halves(published[part][:3]), published[part][3])
    assert (config.horizon, config.flow.steps, len(config.cameras)) == (10, 10, 2)


def test_the_trained_one_is_raced_where_it_is(tmp_path: Path) -> None:
    """Its own checkpoint and its deployment's knobs; asked for where it is not, it is refused."""
    config = tmp_path / "knobs.yaml"
    config.write_text("reuse: {mode: adaptive, drift_budget: 0.5}")
    flow = trained_flow(GOLDENS / "pi0-micro", config)
    wanted = BenchSettings(tmp_path, CPU, ReuseSettings(), (TRAINED_FLOW,), flow=flow)
    spec = command._model_spec(TRAINED_FLOW, "float32", wanted, tmp_path)

    assert (spec.folder.path, spec.knobs.drift_budget) == (GOLDENS / "pi0-micro", 0.5)
    assert (TRAINED_FLOW in models_for(CPU, flow), TRAINED_FLOW in models_for(CPU, None)) == (True, False)
    assert trained_flow(tmp_path / "none", config) is None
    with pytest.raises(ConfigError, match="repository's root"):
        run_bench(BenchSettings(tmp_path, CPU, ReuseSettings(), (TRAINED_FLOW,)), lambda *_: None)

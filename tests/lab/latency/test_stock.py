from __future__ import annotations

from time import thread_time

import pytest
import torch
from torch import nn

from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.llama.weight_packing import PackedLinear
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.latency.ours import StillframeVariant
from stillframe_lab.latency.race import VariantInfo
from stillframe_lab.latency.scene import Scene
from stillframe_lab.latency.stock import StockVariant, pack_all, stock_decoder, with_packed_weights
from stillframe_lab.latency.stock_compiled import COMPILED, StaticCaches, compile_refusal, compiled

CPU = torch.device("cpu")
WHY = compile_refusal(CPU)


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["tiny", "micro"])
@pytest.mark.parametrize("head_rows", [0, 1])
def test_the_stock_way_says_what_we_say(
    request: pytest.FixtureRequest, scene: Scene, name: str, head_rows: int
) -> None:
    """Same weights, same pictures: in float32 the same seven tokens, frame after frame, in seven passes."""
    model: PolicyModel = request.getfixturevalue(name)
    folder: CheckpointFolder = request.getfixturevalue(f"{name}_folder")
    llama = stock_decoder(folder, model.decoder.config, dtype=torch.float32, device=CPU)
    stock = StockVariant(VariantInfo("stock", "float32"), model, llama, thread_time, head_rows)
    ours = StillframeVariant(VariantInfo("ours", "float32"), model, thread_time, ReuseSettings(), "own")
    frames = [[scene.shot("moving", turn)] for turn in range(0, 30, 6)]
    answers = [(stock(shots), ours(shots)) for shots in frames]

    assert [one.tokens[0].tolist() for one, _ in answers] == [other.tokens[0].tolist() for _, other in answers]
    assert {one.passes for one, _ in answers} == {7}
    assert len({tuple(one.tokens[0]) for one, _ in answers}) > 1  # not the same answer to everything


def test_its_stages_are_what_both_ways_have_in_common(
    tiny: PolicyModel, tiny_folder: CheckpointFolder, scene: Scene
) -> None:
    """From the JPEG on; what the stock way does not do, it does not list."""
    llama = stock_decoder(tiny_folder, tiny.decoder.config, dtype=torch.float32, device=CPU)
    stages = StockVariant(VariantInfo("stock", "float32"), tiny, llama, thread_time)([scene.shots[0]]).stages_ms

    assert [*stages] == ["decode image", "prepare", "vision", "prefill", "verify"]


def test_our_products_change_products_alone(tiny: PolicyModel, tiny_folder: CheckpointFolder, scene: Scene) -> None:
    """In bfloat16 every matrix is packed, the original is left alone, and the tokens stay what they were."""
    llama = stock_decoder(tiny_folder, tiny.decoder.config, dtype=torch.bfloat16, device=CPU)
    ours = with_packed_weights(llama)
    if ours is None:
        pytest.skip("this CPU multiplies no bfloat16 by oneDNN: ours leaves it to torch as well")
    model = load(tiny_folder)
    said = [
        StockVariant(VariantInfo("s", "b"), model, one, thread_time)([scene.shots[5]]).tokens[0]
        for one in (llama, ours)
    ]

    assert not any(isinstance(layer, PackedLinear) for layer in llama.modules())
    assert not any(isinstance(layer, nn.Linear) for layer in ours.modules())
    assert said[0].tolist() == said[1].tolist()


def test_where_nothing_is_packed_there_is_no_such_row(tiny_folder: CheckpointFolder, tiny: PolicyModel) -> None:
    """Float32 matrices of 128 x 128 are torch's in ours too."""
    llama = stock_decoder(tiny_folder, tiny.decoder.config, dtype=torch.float32, device=CPU)

    assert with_packed_weights(llama) is None
    assert pack_all(llama) == 0


def load(folder: CheckpointFolder) -> PolicyModel:
    """In bfloat16."""
    from stillframe_lab.latency.sizes import load_from

    return load_from(folder, dtype=torch.bfloat16, device=CPU)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, as its compiler is imported
@pytest.mark.parametrize(
    "compiles",
    [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.skipif(bool(WHY), reason=str(WHY))])],
)
def test_compiled_stock_says_what_stock_says(
    micro: PolicyModel, micro_folder: CheckpointFolder, scene: Scene, *, compiles: bool
) -> None:
    """Over a static cache, which is empty again for every frame: in float32 the same seven tokens in seven passes."""
    llama = stock_decoder(micro_folder, micro.decoder.config, dtype=torch.float32, device=CPU)
    stock = StockVariant(VariantInfo("stock", "float32"), micro, llama, thread_time)
    caches = StaticCaches(llama.config)
    fast = StockVariant(
        VariantInfo(COMPILED, "float32"), micro, compiled(llama) if compiles else llama, thread_time, new_cache=caches
    )
    frames = [[scene.shot("moving", turn)] for turn in (0, 12, 0)]
    answers = [(stock(shots), fast(shots)) for shots in frames]

    assert [one.tokens[0].tolist() for one, _ in answers] == [other.tokens[0].tolist() for _, other in answers]
    assert {other.passes for _, other in answers} == {7}


def test_where_nothing_can_be_compiled_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU's code takes a compiler of the system's; a GPU's does not."""
    monkeypatch.setattr("shutil.which", lambda _: None)

    assert compile_refusal(CPU) == "torch.compile needs a C++ compiler, and there is none"
    assert compile_refusal(torch.device("cuda")) is None

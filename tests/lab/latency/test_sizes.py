from __future__ import annotations

from pathlib import Path

import torch

from stillframe.models.base import PolicyModel
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe_lab.latency.scene import Scene
from stillframe_lab.latency.sizes import FULL, MIDDLE, RandomFolder

CPU = torch.device("cpu")
TEXT = DecoderConfig(32_064, 64, 96, 2, 4, 4)


def test_the_same_weights_come_whoever_asks(micro_folder: RandomFolder) -> None:
    """By themselves or among others, in any dtype: rounded from the same numbers."""
    with torch.device("meta"):
        wide, short = Decoder(TEXT), Decoder(TEXT)
    micro_folder.load_into(torch.nn.ModuleDict({"language_model": wide}), dtype=torch.float32, device=CPU, unused=[])
    micro_folder.load_into(torch.nn.ModuleDict({"language_model": short}), dtype=torch.bfloat16, device=CPU, unused=[])
    pairs = [*zip(wide.parameters(), short.parameters(), strict=True)]

    assert all(bool((one.bfloat16() == other).all()) for one, other in pairs)


def test_no_two_matrices_are_alike(micro_folder: RandomFolder) -> None:
    """Each has a seed of its own."""
    pair = torch.nn.ModuleDict({name: torch.nn.Linear(8, 8) for name in ("one", "other")})
    micro_folder.load_into(pair, dtype=torch.float32, device=CPU, unused=[])
    one, other = (layer.weight for layer in pair.values())

    assert not torch.equal(torch.as_tensor(one), torch.as_tensor(other))


def test_it_is_loaded_as_checkpoints_are(micro: PolicyModel, scene: Scene) -> None:
    """With the real vocabulary, of which the last rows are padding, and a prompt as long as the real one's."""
    prepared = micro.prepare(scene.shots[0].observation())

    assert micro.decoder.config.vocab_size == 32_064
    assert len(prepared.ids) == 20
    assert prepared.no_motion_tokens.max() < 32_000


def test_seven_billion(tmp_path: Path) -> None:
    """What the shapes leave out is what the real checkpoint leaves out: Llama-2-7B with 64 rows more, twice."""
    text = RandomFolder(tmp_path, FULL).json("config.json")["text_config"]
    with torch.device("meta"):
        decoder = Decoder(DecoderConfig(vocab_size=text["vocab_size"]))

    assert sum(weight.numel() for weight in decoder.parameters()) == 6_738_415_616 + 2 * 64 * 4096
    assert set(text) == {"model_type", "vocab_size"}


def test_the_middle_one_is_as_wide_as_it_says(tmp_path: Path) -> None:
    """1024 wide, 16 layers."""
    text = RandomFolder(tmp_path, MIDDLE).json("config.json")["text_config"]

    assert MIDDLE.name == f"{text['hidden_size']}x{text['num_hidden_layers']}"

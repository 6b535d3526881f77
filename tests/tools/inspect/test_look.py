from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe.models.registry import load_policy
from stillframe.tools.inspect.look import inspect

TOWERS = ["DINOv2 tower", "SigLIP tower", "projector", "decoder"]
CONFIGS = Path(__file__).resolve().parents[3] / "configs"
WEIGHTS = "model.safetensors"


def spoil(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the weights."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("name", "family", "beside"),
    [
        ("openvla", "openvla", []),
        ("oft", "openvla_oft", ["action head", "state projector"]),
        ("cogact", "cogact", ["diffusion head"]),
    ],
)
def test_a_served_checkpoint_is_described_as_it_loads(
    request: pytest.FixtureRequest, name: str, family: str, beside: list[str]
) -> None:
    """Family, parts, parameters and contract are those of the policy with its weights; no tensor is left out."""
    folder = request.getfixturevalue(name)
    found = inspect(folder)
    info = load_policy(folder, dtype=torch.float32, device=torch.device("cpu")).info

    assert (found.family, found.refusal) == (family, None)
    assert [part.name for part in found.parts] == [*TOWERS, *beside]
    assert sum(part.totals.parameters for part in found.parts) == info.parameters
    assert found.stored is not None
    assert sum(part.totals.tensors for part in found.parts) + found.unused.count == found.stored.tensors
    assert found.stored.dtypes == {"F32": found.stored.tensors}
    assert found.statistics == info.norm_stats
    assert found.contract["action"]["chunk_horizon"] == info.chunk_horizon
    assert found.contract["observation"]["cameras"] == [*info.cameras]
    assert (found.state is None) == (info.state is None)
    assert found.tokenizer["lone_space_id"] == 29871


def test_sizes_are_those_that_are_computed(openvla: Path) -> None:
    """The last block of a tower is stored and feeds nothing: it is unused, and no layer."""
    dino, siglip, projector, decoder = inspect(openvla).parts

    assert [(part.layers, part.width, part.heads) for part in (dino, siglip)] == [(2, 32, 2), (3, 48, 2)]
    assert (projector.width, projector.totals.tensors) == (32, 6)
    assert (decoder.layers, decoder.width, decoder.totals.bytes) == (4, 32, 4 * decoder.totals.parameters)


def test_unused_tensors_are_named(openvla: Path) -> None:
    """Counted, and the first few."""
    unused = inspect(openvla).unused

    assert unused.count == 43
    assert unused.first[0] == "vision_backbone.featurizer.blocks.2.attn.proj.bias"
    assert len(unused.first) == 5


def test_where_statistics_were_found_is_said(openvla: Path) -> None:
    """Those beside the weights win."""
    assert inspect(openvla).statistics_in == "dataset_statistics.json"
    config = json.loads((openvla / "config.json").read_text())
    config["norm_stats"] = json.loads((openvla / "dataset_statistics.json").read_text())
    (openvla / "config.json").write_text(json.dumps(config))
    (openvla / "dataset_statistics.json").unlink()

    assert inspect(openvla).statistics_in == "config.json, norm_stats"


def test_missing_and_unknown_tensors_are_named(openvla: Path) -> None:
    """Both, although serving stops at the first fault; what the headers hold is still counted."""

    def rename(tensors: dict[str, Any]) -> None:
        tensors["projector.other"] = tensors.pop("projector.fc1.bias")

    spoil(openvla, rename)
    found = inspect(openvla)

    assert (found.missing.first, found.unknown.first) == (["projector.fc1.bias"], ["projector.other"])
    assert found.refusal == f"{openvla} lacks tensor projector.fc1.bias"
    assert found.groups["projector"].tensors == 6
    assert not found.parts


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "tokenizer.json", "preprocessor_config.json"])
def test_a_refusal_is_the_one_that_serve_gives(openvla: Path, name: str) -> None:
    """Word for word."""
    (openvla / name).unlink()
    with pytest.raises(Exception, match="lacks") as served:
        load_policy(openvla, dtype=torch.float32, device=torch.device("cpu"))

    assert inspect(openvla).refusal == str(served.value)


def test_what_is_no_checkpoint_has_no_family(tmp_path: Path) -> None:
    """An empty folder; a folder that is not there."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        found = inspect(folder)

        assert (found.family, found.stored) == (None, None)
        assert found.refusal


def test_keys_of_a_deployment_hold(oft: Path) -> None:
    """As in its YAML; one that the family does not have is a fault of the deployment's."""
    found = inspect(oft, {"num_actions_chunk": 5, "cameras": ["image"], "use_proprio": False})

    assert found.contract["action"]["chunk_horizon"] == 5
    assert found.state is None
    with pytest.raises(ConfigError, match="num_ddim_steps"):
        inspect(oft, {"num_ddim_steps": 5})


@pytest.mark.parametrize(
    ("name", "served"), [("openvla", "openvla-7b"), ("oft", "openvla-oft"), ("cogact", "cogact-base")]
)
def test_the_configurations_we_ship_fit_their_families(request: pytest.FixtureRequest, name: str, served: str) -> None:
    """Keys that a shipped YAML says in place of config.json's are those of a checkpoint of that family."""
    keys = load_config(CONFIGS / f"{served}.yaml", {}).checkpoint_config
    found = inspect(request.getfixturevalue(name), keys)

    assert found.refusal is None
    assert found.contract["observation"]["cameras"] == (keys or {}).get("cameras", ["image"])


def test_what_loading_logs_is_noted(oft: Path) -> None:
    """What it had to guess is part of what was found."""
    assert any("8 actions an answer" in note for note in inspect(oft).notes)


def test_no_weight_is_read(openvla: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers tell it all: a file whose numbers are NaN, or are not there to be opened, is described all the same."""
    spoil(openvla, lambda tensors: tensors["projector.fc1.bias"].fill_(torch.nan))

    def fail(*_: object) -> None:
        raise AssertionError("weights were opened")

    monkeypatch.setattr(CheckpointFolder, "opened", fail)
    assert inspect(openvla).refusal is None


def test_a_file_of_the_published_size_is_described(openvla: Path) -> None:
    """Fifteen gigabytes of nothing behind a header of openvla-7b's shapes: its seven billion parameters."""
    config = json.loads((openvla / "config.json").read_text())
    del config["timm_overrides"]
    config["text_config"] = {"model_type": "llama", "vocab_size": 32064}
    (openvla / "config.json").write_text(json.dumps(config))
    with torch.device("meta"):
        network = PrismaticNetwork(PrismaticConfig.from_json(config))
    write_hollow(openvla / WEIGHTS, {name: tuple(one.shape) for name, one in network.state_dict().items()})
    found = inspect(openvla)

    assert found.refusal is None
    assert found.stored is not None
    assert found.stored.bytes == 2 * found.stored.parameters > 14 * 10**9
    assert sum(part.totals.parameters for part in found.parts) == found.stored.parameters
    assert [part.layers for part in found.parts] == [23, 26, 3, 32]


def write_hollow(file: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file with a header of bfloat16 tensors, and as many bytes that take no room on disk."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end := end + 2 * math.prod(shape)]}
    text = json.dumps(entries).encode()
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", len(text)) + text)
        opened.truncate(8 + len(text) + end)

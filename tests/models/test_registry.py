from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stillframe.errors import CheckpointError, ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import CheckpointFolder, TensorsDiffer
from stillframe.models.pi0.model import Pi0
from stillframe.models.prismatic.policy import PrismaticPolicy
from stillframe.models.registry import CONFIGS, FAMILIES, FILES, SETTINGS, load_policy, open_folder

GOLDENS = Path(__file__).parents[1] / "goldens"
CPU, META = torch.device("cpu"), torch.device("meta")
HEAD = "action_head--0_checkpoint.pt"


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[str], Path]:
    """A family's checkpoint to spoil."""

    def copied(family: str) -> Path:
        if family == "cogact":
            folder = Path(shutil.copytree(GOLDENS / "cogact" / "cogact-micro", tmp_path / family))
            shutil.copy(GOLDENS / "openvla-micro" / "tokenizer.json", folder)
            return folder
        if family in ("pi0", "pi05"):
            return Path(shutil.copytree(GOLDENS / "pi0" / f"{family}-micro", tmp_path / family))
        folder = Path(shutil.copytree(GOLDENS / "openvla-micro", tmp_path / family))
        if family == "openvla_oft":
            shutil.copytree(GOLDENS / "oft-micro", folder, dirs_exist_ok=True)
        return folder

    return copied


def test_every_family_is_in_every_table() -> None:
    """What loads it, what reads its config.json, and which of its keys a deployment may say otherwise."""
    assert FAMILIES.keys() == CONFIGS.keys() == SETTINGS.keys() == FILES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_shows_its_family(folder_of: Callable[[str], Path], family: str) -> None:
    """By its own signs; and what the registry loads has all that the engine asks of a policy."""
    folder = folder_of(family)
    policy = load_policy(folder, dtype=torch.float32, device=CPU)

    assert open_folder(folder)[0] == family
    assert [name for name in vars(PolicyModel) if not name.startswith("_") and not hasattr(policy, name)] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_on_meta_a_policy_has_sizes_and_no_numbers(
    folder_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """The contract of the one with weights, of which none is opened."""
    folder = folder_of(family)
    whole = load_policy(folder, dtype=torch.float32, device=CPU).info
    if family != "cogact":  # whose file is mapped for its shapes
        monkeypatch.setattr(CheckpointFolder, "opened", None)
    policy = load_policy(folder, dtype=torch.bfloat16, device=META)

    assert isinstance(policy, PrismaticPolicy | Pi0)
    assert {one.device.type for one in policy.network.parameters()} == {"meta"}
    assert (policy.info.device, policy.info.dtype) == ("meta", "bfloat16")
    assert (policy.info.parameters, policy.info.norm_stats) == (whole.parameters, whole.norm_stats)
    assert (policy.info.chunk_horizon, policy.info.state) == (whole.chunk_horizon, whole.state)


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_all_that_is_read(folder_of: Callable[[str], Path], family: str) -> None:
    """Together they have the policy's parameters, in the order of a frame's way, each tensor once."""
    _, folder = open_folder(folder_of(family))
    policy = load_policy(folder.path, dtype=torch.float32, device=META)
    assert isinstance(policy, PrismaticPolicy | Pi0)
    parts = policy.components(folder)
    names = [name for part in parts for name in part.stored]

    assert sum(part.parameters for part in parts) == policy.info.parameters
    towers = ["SigLIP tower"] if family.startswith("pi0") else ["DINOv2 tower", "SigLIP tower"]
    assert [part.name for part in parts[: len(towers) + 2]] == [*towers, "projector", "decoder"]
    assert len(names) == len({*names})
    assert all(part.disk_bytes == 4 * part.parameters for part in parts)


def test_on_meta_a_heads_numbers_are_not_looked_at(folder_of: Callable[[str], Path]) -> None:
    """They are when it is served."""
    folder = folder_of("openvla_oft")
    tensors = torch.load(folder / HEAD, weights_only=True)
    tensors["module.model.fc2.bias"].fill_(torch.nan)
    torch.save(tensors, folder / HEAD)

    load_policy(folder, dtype=torch.float32, device=META)
    with pytest.raises(CheckpointError, match="weights have to be finite"):
        load_policy(folder, dtype=torch.float32, device=CPU)


def test_on_meta_names_and_shapes_are_checked(folder_of: Callable[[str], Path]) -> None:
    """A decoder's layer that config.json promises and that is not stored."""
    folder = folder_of("openvla")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 5
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(TensorsDiffer, match=r"lacks 9 tensors: language_model\.model\.layers\.4\.") as caught:
        load_policy(folder, dtype=torch.float32, device=META)
    assert (len(caught.value.missing), caught.value.unknown) == (9, [])


@pytest.mark.parametrize(
    ("family", "key", "known"),
    [
        ("openvla", "num_actions_chunks", "cameras"),
        ("openvla_oft", "cfg_scale", "num_actions_chunk, action_head, use_proprio"),
        ("cogact", "cameras", "num_ddim_steps, cfg_scale"),
        ("pi0", "num_actions_chunk", "cameras, action_names, state_names, state_units"),
        ("pi05", "cfg_scale", "cameras, action_names"),
    ],
)
def test_a_key_of_another_family_is_refused(
    folder_of: Callable[[str], Path], family: str, key: str, known: str
) -> None:
    """With those that it has."""
    with pytest.raises(ConfigError, match=f"{key!r}; of a checkpoint of {family} it may have {known}"):
        open_folder(folder_of(family), {key: 1})


def test_a_plain_folder_may_be_said_to_be_fine_tuned(folder_of: Callable[[str], Path]) -> None:
    """A key that only a variant has makes it one: actions that are tokens have no file to show it."""
    assert open_folder(folder_of("openvla"), {"action_head": "discrete", "num_actions_chunk": 8})[0] == "openvla_oft"

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stillframe.errors import CheckpointError
from stillframe.models.openvla.model import OpenVLA
from stillframe.models.openvla_oft.model import OpenVLAOFT
from stillframe.models.registry import decoder_sizes, load_policy
from stillframe.tools.inspect.look import inspect

HEAD, PROJECTOR = "action_head--5_checkpoint.pt", "proprio_projector--5_checkpoint.pt"
Load = Callable[..., OpenVLAOFT]


def plainly(folder: Path) -> object:
    """Whatever family the folder shows."""
    return load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))


def rewrite(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change a part's tensors."""
    tensors = torch.load(file, weights_only=True)
    change(tensors)
    torch.save(tensors, file)


def weights_of(policy: OpenVLAOFT) -> dict[str, Tensor]:
    """Of both parts."""
    assert policy.head is not None
    assert policy.projector is not None
    return {f"h.{name}": each for name, each in policy.head.state_dict().items()} | {
        f"p.{name}": each for name, each in policy.projector.state_dict().items()
    }


def test_the_folder_says_what_it_is(oft: Path, load: Load) -> None:
    """By a head, a projector, or a key of config.json alone; its decoder's sizes are read as any other's."""
    assert isinstance(plainly(oft), OpenVLAOFT)
    (oft / PROJECTOR).unlink()
    assert isinstance(plainly(oft), OpenVLAOFT)
    (oft / HEAD).unlink()
    assert load(oft, action_head="discrete").head is None
    assert decoder_sizes(oft).hidden_size == 16


def test_a_plain_checkpoint_stays_one(folder: Path) -> None:
    """Nothing in it says anything else."""
    assert isinstance(plainly(folder), OpenVLA)


def test_parts_in_safetensors_are_the_same(oft: Path, load: Load) -> None:
    """In files of their own, or among the weights; with the prefix of distributed training or without it."""
    expected = weights_of(load(oft))
    tensors = {file: torch.load(oft / file, weights_only=True) for file in (HEAD, PROJECTOR)}
    for file, part in tensors.items():
        (oft / file).unlink()
        save_file(part, oft / f"{file.partition('--')[0]}.safetensors")
    beside = weights_of(load(oft))
    weights = load_file(oft / "model.safetensors")
    for file, part in tensors.items():
        stem = file.partition("--")[0]
        (oft / f"{stem}.safetensors").unlink()
        weights |= {f"{stem}.{name.removeprefix('module.')}": each for name, each in part.items()}
    save_file(weights, oft / "model.safetensors")
    among = weights_of(load(oft))

    assert all(torch.equal(each, beside[name]) for name, each in expected.items())
    assert all(torch.equal(each, among[name]) for name, each in expected.items())


def test_parts_are_cast_as_the_weights_are(oft: Path) -> None:
    """Whatever each was saved in."""
    rewrite(oft / HEAD, lambda tensors: tensors.update({name: each.bfloat16() for name, each in tensors.items()}))
    policy = load_policy(oft, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert isinstance(policy, OpenVLAOFT)

    assert {each.dtype for each in weights_of(policy).values()} == {torch.bfloat16}
    assert not any(each.requires_grad for each in weights_of(policy).values())
    info = policy.info
    assert info.parameters > sum(each.numel() for each in policy.network.parameters())


def refused(folder: Path) -> str:
    """What loading says."""
    with pytest.raises(CheckpointError) as caught:
        plainly(folder)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_backbone_without_its_head(oft: Path) -> None:
    """The projector shows that there was one; it is not taken for a policy that says tokens."""
    (oft / HEAD).unlink()

    said = refused(oft)
    assert f"without its action head, though {oft / PROJECTOR} is there" in said
    assert 'config.json has to say "action_head": "discrete"' in said


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_a_head_without_its_backbone(oft: Path, missing: str) -> None:
    """What it is, and what belongs beside it."""
    (oft / missing).unlink()

    said = refused(oft)
    assert f"{oft} lacks {missing}; found: " in said
    assert f"{HEAD} is a head without its backbone: put the checkpoint beside it" in said


def test_two_heads(oft: Path) -> None:
    """Both are named, and none is taken."""
    shutil.copy(oft / HEAD, oft / "action_head--9_checkpoint.pt")

    assert f"has action_head in {HEAD} and in action_head--9_checkpoint.pt; expected one" in refused(oft)


def test_a_head_in_a_file_and_another_among_the_weights(oft: Path) -> None:
    """Two as well."""
    weights = load_file(oft / "model.safetensors")
    save_file(weights | {"action_head.model.fc2.bias": torch.zeros(7)}, oft / "model.safetensors")

    assert f"has action_head in {HEAD} and in the weights themselves; expected one" in refused(oft)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"row": 12}, "reads 84 numbers an action, for 7 hidden rows of 12; the decoder's have 16"),
        ({"action_dim": 6}, "are of actions with 7 numbers, its head says 6"),
        ({"state_dim": 9}, "proprio.q01, q99 and mask have 8, 8 and 8 numbers; the state's projector takes 9"),
    ],
    ids=str,
)
def test_parts_of_another_width(
    oft: Path, parts: Callable[..., dict[str, Mapping[str, Tensor]]], sizes: dict[str, int], said: str
) -> None:
    """What each has, and that they do not belong together."""
    for name, tensors in parts(**sizes).items():
        torch.save(tensors, oft / name)

    assert said in refused(oft)


def test_a_projector_of_another_width(oft: Path, parts: Callable[..., dict[str, Mapping[str, Tensor]]]) -> None:
    """Beside a head that fits."""
    torch.save(parts(row=12)[PROJECTOR], oft / PROJECTOR)

    assert f"{oft / PROJECTOR} makes rows of 12 numbers; the decoder's have 16" in refused(oft)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("module.model.fc1.bias"), "tensor model.fc1.bias; is it another variant?"),
        (lambda tensors: tensors.update({"module.extra": torch.ones(1)}), "tensor extra; is it another variant?"),
        (lambda tensors: tensors.pop("module.model.fc1.weight"), "tensor model.fc1.weight: expected 2 sides; there is"),
        (lambda tensors: tensors["module.model.fc1.bias"].fill_(float("nan")), "weights have to be finite"),
        (lambda tensors: tensors["module.model.fc1.weight"].zero_(), "holds zeros only"),
        (
            lambda tensors: tensors.update({"module.model.fc1.bias": torch.ones(16, dtype=torch.int8)}),
            "has shape (16,) of int8, expected (16,) of floats",
        ),
        (
            lambda tensors: tensors.update({"module.model.layer_norm2.weight": torch.ones(3)}),
            "layer_norm2.weight has shape (3,) of float32, expected (16,) of floats",
        ),
        (
            lambda tensors: tensors.update({"module.noise_predictor.mlp_resnet.fc1.bias": torch.ones(1)}),
            "is a diffusion head",
        ),
    ],
    ids=["lacking", "beyond", "no-matrix", "not-finite", "zeros", "integers", "misshapen", "diffusion"],
)
def test_a_spoilt_head_is_named(oft: Path, change: Callable[[dict[str, Tensor]], Any], said: str) -> None:
    """With its file, and the tensor at fault."""
    rewrite(oft / HEAD, change)

    text = refused(oft)
    assert str(oft / HEAD) in text
    assert said in text


def test_statistics_without_a_state(oft: Path, edit: Callable[..., None]) -> None:
    """A projector wants to know what its numbers were scaled by."""
    edit("dataset_statistics.json", lambda sets: sets["jaco_sim"].pop("proprio"))

    assert "statistics 'jaco_sim' have no 'proprio', but the policy reads a state of 8 numbers" in refused(oft)


@pytest.mark.parametrize("leftover", ["lora_adapter/adapter_config.json", "optimizer.pt", "training_args.bin"])
def test_what_fine_tuning_leaves_beside(oft: Path, leftover: str) -> None:
    """Merged adapters in a folder of their own, and what training went on from, are no parts."""
    (oft / leftover).parent.mkdir(exist_ok=True)
    (oft / leftover).write_text("{}")

    assert isinstance(plainly(oft), OpenVLAOFT)


def test_an_adapter_that_is_not_merged(oft: Path) -> None:
    """Beside the weights themselves."""
    (oft / "adapter_config.json").write_text("{}")

    assert "holds a LoRA adapter" in refused(oft)


def test_the_output_head_is_read_where_it_says_the_action(oft: Path, load: Load) -> None:
    """Beside a head that regresses it is unused: not in memory, not counted, not missed, and named by inspection."""
    file, name = oft / "model.safetensors", "language_model.lm_head.weight"
    regressing, discrete = load(oft), load(oft, action_head="discrete")
    has = [name in dict(policy.network.named_parameters()) for policy in (regressing, discrete)]
    looked, whole = inspect(oft), inspect(oft, {"action_head": "discrete"})

    assert has == [False, True]
    assert discrete.info.parameters - regressing.info.parameters == load_file(file)[name].numel() - head_size(
        regressing
    )
    assert looked.unused.count == whole.unused.count + 1
    assert name in looked.unused.first

    save_file({key: tensor for key, tensor in load_file(file).items() if key != name}, file)
    assert isinstance(load(oft), OpenVLAOFT)
    with pytest.raises(CheckpointError, match="lm_head"):
        load(oft, action_head="discrete")


def head_size(policy: OpenVLAOFT) -> int:
    """Numbers of the head that regresses."""
    assert policy.head is not None
    return sum(part.numel() for part in policy.head.parameters())

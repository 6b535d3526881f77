from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stillframe.errors import CheckpointError
from stillframe.models.registry import decoder_sizes, load_policy


def refusal(path: Path) -> str:
    """What loading says: one line, the same whether sizes are asked for first or not."""
    said = []
    for ask in (decoder_sizes, lambda folder: load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))):
        try:
            ask(path)
        except CheckpointError as error:
            said.append(str(error))
    assert said
    assert said[0] == said[-1]
    assert said[0].isprintable()
    return said[0]


def put(folder: Path, *names: str) -> None:
    """Small files of those names, JSON where the name says so."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}" if name.endswith(".json") else "x")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("noisy_action_projector--5_checkpoint.pt", "is an OpenVLA-OFT checkpoint with a diffusion head"),
        ("vision_backbone--300000_checkpoint.pt", "is an OpenVLA-OFT checkpoint with FiLM"),
        ("adapter_config.json", "holds a LoRA adapter (adapter_config.json), to be laid over its base model"),
        ("adapter_model.safetensors", "holds a LoRA adapter (adapter_model.safetensors)"),
        ("quantize_config.json", "holds quantised weights, for it has quantize_config.json"),
        ("policy_preprocessor.json", "is a policy of lerobot, for it has policy_preprocessor.json"),
        ("assets/trossen/norm_stats.json", "is a checkpoint of openpi, for it has norm_stats.json in assets/"),
        ("params/_METADATA", "is a checkpoint of openpi in JAX"),
    ],
)
def test_a_folder_is_called_what_its_names_say(folder: Path, name: str, what: str) -> None:
    """Although everything of a plain checkpoint is there: it would be served as what it is not."""
    put(folder, name)

    assert f"{folder} {what}" in refusal(folder)


@pytest.mark.parametrize("name", ["lora_adapter/adapter_config.json", "optimizer.pt", "training_args.bin", "README.md"])
def test_what_lies_beside_a_checkpoint_and_says_nothing(folder: Path, name: str) -> None:
    """What training leaves there, and others' folders in it."""
    put(folder, name)

    assert decoder_sizes(folder).hidden_size == 16


def test_an_adapter_names_its_base(folder: Path) -> None:
    """By its own word, and with what to do."""
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "openvla/openvla-7b"}')

    assert "to be laid over openvla/openvla-7b, " in refusal(folder)
    assert "merge the two" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "has quantization_config (bitsandbytes)"),
        ({"quantization_config": "gptq"}, "has quantization_config (gptq)"),
        (
            {"model_type": None, "type": "act"},
            "model_type 'None'; served are: cogact, openvla, openvla_oft, pi0, pi05.",
        ),
    ],
)
def test_a_config_says_what_its_weights_are(folder: Path, edit: Callable, change: dict, what: str) -> None:
    """Weights of four bits are not cast to floats and served."""
    edit("config.json", lambda config: config.update(change))

    assert what in refusal(folder)


def test_no_quantisation_is_none(folder: Path, edit: Callable) -> None:
    """Some tools write the key and nothing under it."""
    edit("config.json", lambda config: config.update(quantization_config=None))

    assert decoder_sizes(folder).hidden_size == 16


@pytest.mark.parametrize(
    ("config", "beside", "what"),
    [
        ({"type": "smolvla", "input_features": {}}, (), "is a policy of lerobot, of type smolvla"),
        (
            {"type": "pi0_fast", "paligemma_variant": "gemma_2b", "input_features": {}},
            (),
            "is a policy of lerobot, of type",
        ),
        ({"vla": {"base_vlm": "x"}}, ("checkpoints/step-1.pt",), "is a training run of Prismatic"),
    ],
)
def test_a_config_of_another_tool_is_called_so(
    tmp_path: Path, config: dict, beside: tuple[str, ...], what: str
) -> None:
    """None of them has a model_type."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    put(tmp_path, *beside)

    assert f"{tmp_path} {what}" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("pytorch_model.bin",),
            "its weights are pickles (pytorch_model.bin), which can run code and are never opened",
        ),
        (("model.gguf",), "model.gguf is of another tool"),
        (("model-00001-of-00003.safetensors",), "1 shards are there without model.safetensors.index.json"),
        (("model.safetensors.incomplete",), "its download has not finished"),
        (("model.safetensors.part",), "its download has not finished"),
    ],
)
def test_what_there_is_in_place_of_weights(folder: Path, names: tuple[str, ...], said: str) -> None:
    """Beside what is missing and what was found."""
    (folder / "model.safetensors").unlink()
    put(folder, *names)
    with pytest.raises(CheckpointError) as caught:
        load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))

    assert f"{folder} lacks model.safetensors; found: config.json, " in str(caught.value)
    assert said in str(caught.value)


def test_a_tokenizer_under_the_others_name_is_told(folder: Path) -> None:
    """Where there is no tokenizer.json it is sentencepiece's file that is read."""
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is no sentencepiece model: it is text, which begins"):
        load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))


def test_a_folder_of_the_hubs_cache_names_its_snapshots(folder: Path) -> None:
    """And the cache as a whole the repositories in it."""
    cache = folder.parent / "hub"
    repository = cache / "models--openvla--openvla-7b"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots" / "31f090d"
    shutil.copytree(folder, snapshot)

    assert refusal(repository).endswith(f"cache of huggingface_hub; name its snapshot: {snapshot}")
    assert "name a snapshot of one of: models--openvla--openvla-7b" in refusal(cache)
    assert decoder_sizes(snapshot).hidden_size == 16


def test_a_floor_too_high_or_too_low(folder: Path) -> None:
    """The folder that was meant is named."""
    put(folder, "runs/notes.txt")

    assert refusal(folder.parent).endswith(f"; name the folder below: {folder}")
    assert refusal(folder / "runs").endswith(f"; the folder above has one: name {folder.resolve()}")


def test_a_link_that_leads_nowhere_is_called_one(folder: Path) -> None:
    """A snapshot that was copied without what its links name; optional files too."""
    for name in ("config.json", "dataset_statistics.json", "model.safetensors"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(f"../../blobs/{name}-hash")
        with pytest.raises(CheckpointError) as caught:
            load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))
        assert f"lacks {name}: it is a link to ../../blobs/{name}-hash, which is not there" in str(caught.value)
        shutil.copy(Path(__file__).parents[1] / "goldens/openvla-micro/config.json", folder / "spare.json")
        (folder / name).unlink()
        if name == "config.json":
            (folder / "spare.json").rename(folder / name)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("openvla/openvla-7b", "run `hf download openvla/openvla-7b --local-dir checkpoints/openvla-7b` first"),
        ("https://huggingface.co/openvla/openvla-7b", "nothing is fetched from an address"),
        ("tinny", "expected a checkpoint with config.json and safetensors. Did you mean 'tiny'?"),
        ("daemon.yaml", "that is a configuration: stillframe serve daemon.yaml"),
        ("weights.gguf", "expected a checkpoint with config.json and safetensors; it is a GGUF file"),
        ("tiny/model.safetensors", "that is a file: name the folder that it lies in, tiny"),
        ("gone", "gone is not a folder; it is a link to nowhere, which is not there"),
        ("x" * 5000, "cannot be read: File name too long"),
    ],
)
def test_a_path_that_is_no_folder_gets_a_hint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, path: str, said: str
) -> None:
    """What was probably meant, and how to come by it."""
    monkeypatch.chdir(folder.parent)
    Path("daemon.yaml").write_text("checkpoint: tiny")
    Path("gone").symlink_to("nowhere")
    Path("weights.gguf").write_bytes(b"GGUF\x03")

    assert said.partition("; ")[2] in refusal(Path(path)) if path == "gone" else said in refusal(Path(path))

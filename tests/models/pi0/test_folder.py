from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stillframe.errors import CheckpointError, Unprocessable
from stillframe.models.pi0.folder import Pi0Folder
from stillframe.models.pi0.model import Pi0
from stillframe.models.registry import decoder_sizes, open_folder

FolderOf = Callable[[str], Path]
Load = Callable[..., Pi0]
Change = Callable[..., None]
P = "paligemma_with_expert.paligemma"
EXPERT = "paligemma_with_expert.gemma_expert.model"
STATS = "assets/physical-intelligence/libero/norm_stats.json"
POST = "policy_postprocessor.json"


def test_sizes_follow_from_shapes_whatever_variants_say(folder_of: FolderOf, edit: Change) -> None:
    """Heads by the rows of queries and keys; nothing of config.json is asked."""
    folder = folder_of("pi0-micro")
    edit(folder / "config.json", lambda config: config.pop("micro_sizes"))
    sizes = decoder_sizes(folder)

    assert (sizes.hidden_size, sizes.num_hidden_layers, sizes.num_attention_heads) == (64, 3, 4)
    assert (sizes.num_key_value_heads, sizes.head_dim, sizes.vocab_size) == (1, 16, 3072)


def test_the_embedding_is_its_own_where_it_is_stored(folder_of: FolderOf, rewrite: Change) -> None:
    """Else it is the head's that it is tied to; the expert's head feeds nothing."""
    folder, name = folder_of("pi0-micro"), f"{P}.model.language_model.embed_tokens.weight"
    tied = Pi0Folder(folder).sources["decoder.model.embed_tokens.weight"]
    rewrite(folder, lambda tensors: tensors.update({name: tensors[f"{P}.lm_head.weight"] * 2}))

    assert tied == (f"{P}.lm_head.weight",)
    assert Pi0Folder(folder).sources["decoder.model.embed_tokens.weight"] == (name,)


def test_attention_of_the_tower_is_read_as_one_and_norms_with_their_one(folder_of: FolderOf) -> None:
    """Queries, keys, values in this order."""
    folder = Pi0Folder(folder_of("pi0-micro"))
    layer = f"{P}.model.vision_tower.vision_model.encoder.layers.1.self_attn"
    sources = folder.sources["vision.blocks.1.attn.qkv.bias"]
    with folder.opened(folder.path) as tensors:
        bias = tensors.get_tensor("vision.blocks.1.attn.qkv.bias")
        norm = tensors.get_tensor("decoder.model.norm.weight")

    assert sources == tuple(f"{layer}.{part}_proj.bias" for part in "qkv")
    assert bias.shape == (3 * 144,)
    assert (norm.dtype, bool((norm.mean() - 1).abs() < 0.5)) == (torch.float32, True)


@pytest.mark.parametrize(
    ("name", "gone", "what"),
    [
        ("pi0-micro", "state_proj.weight", "lacks tensor state_proj.weight"),
        ("pi0-micro", f"{P}.model.multi_modal_projector.linear.bias", "lacks tensor projector.bias"),
        ("pi0-micro", f"{P}.lm_head.weight", "there is no tensor decoder.model.embed_tokens.weight, of the prefix's"),
        (
            "pi05-micro",
            "action_in_proj.weight",
            "there is no tensor action_in_proj.weight, of the action's projections",
        ),
        ("pi05-micro", f"{EXPERT}.layers.0.self_attn.k_proj.weight", "of the action expert; expected a whole pi0"),
    ],
)
def test_a_missing_part_is_named(
    folder_of: FolderOf, rewrite: Change, load: Load, name: str, gone: str, what: str
) -> None:
    """Before anything is built."""
    folder = folder_of(name)
    rewrite(folder, lambda tensors: tensors.pop(gone))

    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "shape", "what"),
    [
        ("action_in_proj.weight", (48, 32), "makes rows of 48 numbers, the action expert's have 32"),
        (
            f"{EXPERT}.layers.0.self_attn.k_proj.weight",
            (32, 32),
            "num_attention_heads is 4 in the prefix's decoder and 2",
        ),
        (f"{P}.model.vision_tower.vision_model.embeddings.position_embedding.weight", (250, 144), "has 250 positions"),
        (f"{P}.model.multi_modal_projector.linear.weight", (64, 100), "projector.weight has shape (64, 100), expected"),
    ],
)
def test_parts_of_other_widths_are_refused(
    folder_of: FolderOf, rewrite: Change, load: Load, tensor: str, shape: tuple[int, ...], what: str
) -> None:
    """They are of two checkpoints."""
    folder = folder_of("pi0-micro")
    rewrite(folder, lambda tensors: tensors.update({tensor: torch.ones(shape)}))

    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert what in str(caught.value)


def test_names_of_an_older_lerobot_are_called_so(folder_of: FolderOf, rewrite: Change, load: Load) -> None:
    """With what to do."""
    folder = folder_of("pi0-micro-lerobot")
    rewrite(folder, lambda tensors: tensors.update({f"model.{P}.language_model.model.norm.weight": torch.ones(64)}))

    with pytest.raises(CheckpointError, match=r"gave tensors before transformers 4\.50; convert it"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda stats: stats.clear(), "lacks norm_stats.actions"),
        (lambda stats: stats["norm_stats"].pop("state"), "its statistics have none"),
        (lambda stats: stats["norm_stats"]["actions"].pop("std"), "expected actions.mean and actions.std"),
        (lambda stats: stats["norm_stats"]["actions"]["mean"].append(0.0), "its statistics have 8, 7, 7 and 7 numbers"),
        (lambda stats: stats["norm_stats"]["state"]["std"].__setitem__(2, -1.0), "expected a std of 0 or more"),
        (lambda stats: stats["norm_stats"]["actions"]["mean"].__setitem__(0, None), "mean of dimension 0 is None"),
    ],
)
def test_statistics_that_scale_nothing_are_refused(
    folder_of: FolderOf, edit: Change, load: Load, change: Callable[[Any], Any], what: str
) -> None:
    """With the file, and what was expected."""
    folder = folder_of("pi0-micro")
    edit(folder / STATS, change)

    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert what in str(caught.value)


def test_without_its_files_a_folder_says_which(folder_of: FolderOf, load: Load) -> None:
    """The tokenizer and the statistics lie beside the weights; where to get them is said."""
    folder = folder_of("pi0-micro")
    (folder / "paligemma_tokenizer.model").rename(folder / "elsewhere")
    with pytest.raises(CheckpointError, match=r"lacks the tokenizer; put PaliGemma's beside the weights"):
        load(folder)
    (folder / "paligemma_tokenizer.model").write_text("hello")
    with pytest.raises(CheckpointError, match="is not a SentencePiece model"):
        load(folder)
    (folder / STATS).unlink()
    with pytest.raises(CheckpointError, match=r"has no assets/ID/norm_stats\.json"):
        load(folder)


def test_several_assets_are_a_choice(folder_of: FolderOf, load: Load) -> None:
    """By their names; a frame that names none of them is told which there are."""
    folder = folder_of("pi0-micro")
    other = folder / "assets" / "libero_90" / "norm_stats.json"
    other.parent.mkdir()
    other.write_bytes((folder / STATS).read_bytes())
    policy = load(folder)

    assert [*policy.info.norm_stats] == ["libero_90", "physical-intelligence/libero"]
    assert policy.info.default_unnorm_key is None
    with pytest.raises(Unprocessable, match="libero_90"):
        policy.config.statistics.resolve("mars")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda post: post["steps"].pop(0), "unnormalizer_processor names no state_file"),
        (lambda post: post["steps"][0].update(state_file="../x.safetensors"), "names no state_file"),
        (lambda post: post["steps"][0]["config"]["norm_map"].update(ACTION="MIN_MAX"), "is normalised by 'MIN_MAX'"),
        (lambda post: post.update(steps={}), "steps is {}; expected a list"),
    ],
)
def test_a_processor_that_says_too_little_is_refused(
    folder_of: FolderOf, edit: Change, load: Load, change: Callable[[Any], Any], what: str
) -> None:
    """Which file holds the statistics, and what they do."""
    folder = folder_of("pi0-micro-lerobot")
    edit(folder / POST, change)

    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert what in str(caught.value)


@pytest.mark.parametrize("name", ["pi0-micro", "pi05-micro", "pi0-micro-lerobot", "pi05-micro-lerobot"])
def test_a_folder_is_of_its_family_and_origin(folder_of: FolderOf, name: str) -> None:
    """Openpi's config.json does not tell pi0 from pi0.5: the tensors do."""
    family, folder = open_folder(folder_of(name))

    assert isinstance(folder, Pi0Folder)
    assert (family, folder.origin) == (name.partition("-")[0], "lerobot" if "lerobot" in name else "openpi")


def test_weights_in_shards_are_read(folder_of: FolderOf, load: Load, rewrite: Change) -> None:
    """Queries in one file, keys and values in another."""
    folder = folder_of("pi0-micro")
    whole = load(folder, real=True)
    half: dict[str, Any] = {}

    def split(tensors: dict[str, Any]) -> None:
        half.update({name: tensors.pop(name) for name in [*tensors] if "k_proj" in name or "v_proj" in name})

    rewrite(folder, split)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    torch_file = folder / "model-00002-of-00002.safetensors"
    save_file(half, torch_file)
    first = load_file(folder / "model-00001-of-00002.safetensors")
    weight_map = dict.fromkeys(first, "model-00001-of-00002.safetensors") | dict.fromkeys(half, torch_file.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    sharded = load(folder, real=True)

    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(sharded.network.state_dict()[name], tensor), name

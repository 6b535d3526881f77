"""Make a new OpenVLA of jaco-tiny's size, and write a checkpoint in OpenVLA's layout.

Knows OpenVLA's files; no data and no loss.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

from stillframe.files.writing import write_whole
from stillframe.models.actions import ActionScale, Statistics
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.prismatic.config import PrismaticConfig
from stillframe.models.prismatic.network import PrismaticNetwork
from stillframe.models.prismatic.prompt import LONE_SPACE, TEMPLATE
from stillframe.models.prismatic.vision import TOWERS, unused_tensors
from stillframe_client.sim.arm import REACH_HIGH_M, REACH_LOW_M
from stillframe_client.sim.state import MAX_SPEED_M_S, MAX_TURN_RAD_S
from stillframe_lab.train.recipe import JACO_TINY, Recipe

TEXT_VOCAB = 64
SPECIAL = ("<unk>", "<s>", "</s>")
MAX_PROMPT_TOKENS = 64
BOS_ID, EOS_ID = SPECIAL.index("<s>"), SPECIAL.index("</s>")
WORDS = [
    *("pick", "up", "reach", "push", "the", "red", "green", "blue", "cube", "to", "left", "right"),
    *("and", "then", "first", "it", "lamp", "shown", "by", "put", "place", "on", "block", "grab"),
    *("lift", "touch", "move", "go", "stop", "wait", "same", "other", "last", "second", "remember", "colour"),
]

ACTION_BINS = 256
PADDING_IDS = 64
POSITION_AMPLITUDE = 0.5  # of sin-cos positions, at the scale of the patches
ACTION_STD = 0.02  # of the head's rows of action tokens
TEXT_SCALE = 0.01  # of its rows of text tokens, relative to that
UNNORM_KEY = "jaco_sim"
CONTROL_HZ = 10
MOST_TURN_RAD = 0.35  # of the tool from home, in the state's statistics
TOWER_PX = 224  # image side, unless a checkpoint says otherwise
SEED = 11
# 202 M in the decoder's layers; towers and projector are a tenth of the whole, as in OpenVLA.
UNTRAINED = replace(
    JACO_TINY, tower_dim=256, tower_depth=10, tower_heads=4, width=1024, layers=16, heads=16, feed_forward=2752
)


def build_tokenizer(words: Sequence[str] = WORDS) -> Tokenizer:
    """A word-level tokenizer that starts with <s>; words it does not know become <unk>."""
    before, after = TEMPLATE.split(" {instruction}")
    known = [*SPECIAL, LONE_SPACE, *words]
    vocab = {word: index for index, word in enumerate(known)}
    tokenizer = Tokenizer(WordLevel(vocab, unk_token=SPECIAL[0]))
    tokenizer.pre_tokenizer = Split(" ", behavior="removed")
    tokenizer.add_tokens([AddedToken(part, normalized=False) for part in (before, after)])
    if tokenizer.get_vocab_size() > TEXT_VOCAB:
        raise ValueError(f"{tokenizer.get_vocab_size()} tokens do not fit {TEXT_VOCAB} text ids")
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return tokenizer


def action_statistics() -> dict[str, Any]:
    """q01 and q99 are the arm's speed limits per control step; the gripper (0 closes, 1 opens) passes through."""
    limit = [MAX_SPEED_M_S / CONTROL_HZ] * 3 + [MAX_TURN_RAD_S / CONTROL_HZ] * 3
    low, high = [-value for value in limit] + [0.0], [*limit, 1.0]
    return {UNNORM_KEY: {"action": {"q01": low, "q99": high, "mask": [True] * 6 + [False]}}}


def state_statistics() -> dict[str, list[float] | list[bool]]:
    """q01 and q99 of the state: the box that the tool is kept in, a tilt beyond what is met, an opening."""
    low = [*map(float, REACH_LOW_M), *[-MOST_TURN_RAD] * 3, 0.0]
    high = [*map(float, REACH_HIGH_M), *[MOST_TURN_RAD] * 3, 1.0]
    return {"q01": low, "q99": high, "mask": [True] * len(low)}


def action_scale() -> ActionScale:
    """The scale of the simulated arm's actions."""
    return Statistics(action_statistics()).scales[UNNORM_KEY]


def config_json(recipe: Recipe) -> dict[str, Any]:
    """config.json in OpenVLA's layout; `timm_overrides` carries the towers' small sizes."""
    tower = {"embed_dim": recipe.tower_dim, "depth": recipe.tower_depth, "num_heads": recipe.tower_heads}
    tower |= {} if recipe.image_px == TOWER_PX else {"image_px": recipe.image_px}
    several = {"cameras": list(recipe.cameras)} if len(recipe.cameras) > 1 else {}  # a single camera may have any name
    return {
        "model_type": "openvla",
        "architectures": ["OpenVLAForActionPrediction"],
        "arch_specifier": "no-align+fused-gelu-mlp",
        "vision_backbone_id": "dinosiglip-vit-so-224px",
        "use_fused_vision_backbone": True,
        "timm_model_ids": list(TOWERS),
        "timm_override_act_layers": [None, None],
        "timm_overrides": dict.fromkeys(TOWERS, tower),
        "image_sizes": [recipe.image_px] * 2,
        "image_resize_strategy": "resize-naive",
        "n_action_bins": ACTION_BINS,
        "pad_to_multiple_of": PADDING_IDS,
        "pad_token_id": TEXT_VOCAB + ACTION_BINS,
        "norm_stats": action_statistics(),
        "torch_dtype": "float32",
        "text_config": {
            "model_type": "llama",
            "vocab_size": TEXT_VOCAB + ACTION_BINS + PADDING_IDS,
            "hidden_size": recipe.width,
            "intermediate_size": recipe.feed_forward,
            "num_hidden_layers": recipe.layers,
            "num_attention_heads": recipe.heads,
            "num_key_value_heads": recipe.heads,
        },
        **several,
    }


def preprocessor_json(image_px: int = TOWER_PX) -> dict[str, Any]:
    """preprocessor_config.json for pictures of that size."""
    return {
        "image_processor_type": "PrismaticImageProcessor",
        "use_fused_vision_backbone": True,
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, image_px, image_px]] * 2,
        "tvf_do_letterbox": False,
        "tvf_resize_params": [{"size": [image_px, image_px], "interpolation": 3, "antialias": True}] * 2,
        "tvf_normalize_params": [
            {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        ],
    }


PREPROCESSOR_JSON = preprocessor_json()


def new_network(recipe: Recipe) -> PrismaticNetwork:
    """Random weights at scales that train: positions as large as patches, a small output head.

    Text rows of the head are smaller still, so that the output is always an action: text would be refused.
    """
    network = PrismaticNetwork(PrismaticConfig.from_json(config_json(recipe)))
    for tower in (network.vision_backbone.featurizer, network.vision_backbone.fused_featurizer):
        tower.pos_embed = nn.Parameter(POSITION_AMPLITUDE * sincos_2d(tower.config.grid, tower.config.embed_dim))
    nn.init.normal_(network.language_model.model.embed_tokens.weight, std=0.5)
    head, actions = network.language_model.lm_head.weight, network.config.bins.ids
    nn.init.normal_(head, std=ACTION_STD)
    with torch.no_grad():
        head[: actions.start] *= TEXT_SCALE
        head[actions.stop :] *= TEXT_SCALE
    return network


def load_network(start: Path | None, recipe: Recipe) -> PrismaticNetwork:
    """Load a checkpoint's weights into a network of the recipe's sizes, which may have more cameras; None: random.

    Raises CheckpointError where the sizes differ.
    """
    network = new_network(recipe)
    if start is None:
        return network
    unread = unread_tensors(network.config)
    CheckpointFolder(start).load_into(network, dtype=torch.float32, device=torch.device("cpu"), unused=unread)
    return network


def save_checkpoint(
    folder: Path,
    weights: Mapping[str, Tensor],
    recipe: Recipe,
    config: Mapping[str, Any] | None = None,
    statistics: Mapping[str, Any] | None = None,
    words: Sequence[str] = WORDS,
) -> None:
    """Write config, statistics and tokenizer, then the tensors: where they are, the checkpoint is complete.

    `config`: what its config.json has beside OpenVLA's; `statistics` None: of the simulated Jaco2's
    actions alone; `words`: that its tokenizer knows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    statistics = statistics or action_statistics()
    documents = {
        "config.json": {**config_json(recipe), "norm_stats": statistics, **(config or {})},
        "preprocessor_config.json": preprocessor_json(recipe.image_px),
        "dataset_statistics.json": statistics,
        "generation_config.json": {
            "bos_token_id": BOS_ID,
            "eos_token_id": EOS_ID,
            "pad_token_id": TEXT_VOCAB + ACTION_BINS,
        },
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    build_tokenizer(words).save(str(folder / "tokenizer.json"))
    unread = unread_tensors(PrismaticConfig.from_json(config_json(recipe)))
    tensors = {**unread, **{name: tensor.contiguous() for name, tensor in weights.items()}}

    save_tensors(folder / "model.safetensors", tensors)


def save_tensors(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file, whole."""

    def write(part: Path) -> None:
        save_file(tensors, part)
        part.chmod(0o644)  # safetensors keeps it to its owner; the daemon may run as another user

    write_whole(file, write)


def unread_tensors(config: PrismaticConfig) -> dict[str, Tensor]:
    """Zeros for the towers' last blocks, which are in the layout and never read."""
    return {
        f"vision_backbone.{name}.{key}": torch.zeros(shape)
        for name, tower in zip(("featurizer", "fused_featurizer"), config.towers, strict=True)
        for key, shape in unused_tensors(tower).items()
    }


def sincos_2d(grid: int, dim: int) -> Tensor:
    """[1, grid * grid, dim]: a quarter each of sin and cos of the column and of the row."""
    quarter = dim // 4
    omega = torch.exp(-math.log(100.0) * torch.arange(quarter) / quarter)
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    phases = [axis.flatten()[:, None] * omega for axis in (columns, rows)]
    return torch.cat([wave for phase in phases for wave in (phase.sin(), phase.cos())], dim=1)[None]


def save_untrained(folder: Path, recipe: Recipe = UNTRAINED) -> None:
    """Write an untrained checkpoint of the recipe's sizes: the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = new_network(recipe)
    save_checkpoint(folder, network.state_dict(), recipe)

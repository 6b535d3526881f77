"""A checkpoint in openpi's PyTorch layout: what models/pi0/folder.py reads, the other way round.

Knows files and tensors' names; no data. Source: openpi examples/convert_jax_model_to_pytorch.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from stillframe.models.pi0.folder import EMBEDDING, HEAD, OFFSETS
from stillframe.models.pi0.gemma import GemmaConfig
from stillframe.models.pi0.platforms import SLOTS
from stillframe.models.pi0.siglip import SiglipConfig
from stillframe.models.pi0.sizes import VISION_HEAD, Pi0Sizes
from stillframe.models.pi0.statistics import ASSETS, NORM_STATS
from stillframe.models.pi0.tokenizer import NAMES
from stillframe.models.prismatic.checks import ACTION_NAMES
from stillframe.models.tensor_files import renamed
from stillframe_client.sim.proprioception import STATE_NAMES, STATE_UNITS
from stillframe_lab.train.auxiliary import GRID, PATCH_PX
from stillframe_lab.train.new_checkpoint import UNNORM_KEY, save_tensors
from stillframe_lab.train.pi0.recipe import Pi0Recipe
from stillframe_lab.train.pi0.scales import Scales
from stillframe_lab.train.pi0.vocabulary import pieces, tokenizer_model
from stillframe_lab.train.sequences import ACTION_DIM

_TOWER, _PALIGEMMA, _EXPERT = (
    "paligemma_with_expert.paligemma.model.vision_tower.vision_model.",
    "paligemma_with_expert.paligemma.model.",
    "paligemma_with_expert.gemma_expert.model.",
)
NATIVE = tuple(
    (re.compile(pattern), native)
    for pattern, native in (
        (r"^vision\.patch_embed\.proj\.", f"{_TOWER}embeddings.patch_embedding."),
        (r"^vision\.pos_embed$", f"{_TOWER}embeddings.position_embedding.weight"),
        (r"^vision\.blocks\.(\d+)\.norm([12])\.", rf"{_TOWER}encoder.layers.\1.layer_norm\2."),
        (r"^vision\.blocks\.(\d+)\.attn\.proj\.", rf"{_TOWER}encoder.layers.\1.self_attn.out_proj."),
        (r"^vision\.blocks\.(\d+)\.mlp\.", rf"{_TOWER}encoder.layers.\1.mlp."),
        (r"^vision\.norm\.", f"{_TOWER}post_layernorm."),
        (r"^projector\.", f"{_PALIGEMMA}multi_modal_projector.linear."),
        (r"^decoder\.model\.", f"{_PALIGEMMA}language_model."),
        (r"^expert\.", _EXPERT),
    )
)
QKV = re.compile(r"^vision\.blocks\.(\d+)\.attn\.qkv\.(\w+)$")


def sizes_of(recipe: Pi0Recipe) -> Pi0Sizes:
    """A recipe's network."""

    def gemma(width: int, feed_forward: int, vocabulary: int) -> GemmaConfig:
        return GemmaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=feed_forward,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=1,
            head_width=recipe.head_dim,
        )

    tower = SiglipConfig(
        recipe.tower_dim, recipe.tower_depth, recipe.tower_dim // VISION_HEAD, 4 * recipe.tower_dim, GRID, PATCH_PX
    )
    return Pi0Sizes(
        tower,
        gemma(recipe.width, recipe.feed_forward, len(pieces())),
        gemma(recipe.head_width, recipe.expert_feed_forward, 0),
        ACTION_DIM,
        adaptive=recipe.adaptive,
    )


def save_openpi(folder: Path, weights: Mapping[str, Tensor], recipe: Pi0Recipe) -> None:
    """Write config, statistics and tokenizer, then the tensors: where they are, the checkpoint is complete."""
    config = {
        "action_dim": ACTION_DIM,
        "action_horizon": recipe.horizon,
        "paligemma_variant": "gemma_2b",  # openpi's names; sizes are those of the tensors
        "action_expert_variant": "gemma_300m",
        "precision": "float32",
        "cameras": dict(zip(SLOTS, recipe.cameras, strict=False)),
        "action_names": list(ACTION_NAMES),
        "state_names": list(STATE_NAMES),
        "state_units": list(STATE_UNITS),
        "discrete_state_input": recipe.adaptive,
        "extra_delta_transform": False,
    }
    statistics = folder / ASSETS / UNNORM_KEY / NORM_STATS
    statistics.parent.mkdir(parents=True, exist_ok=True)
    for file, document in (
        (folder / "config.json", config), (statistics, Scales.of(adaptive=recipe.adaptive).norm_stats()),
    ):  # fmt: skip
        file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (folder / NAMES[0]).write_bytes(tokenizer_model())
    save_tensors(folder / "model.safetensors", dict(native_tensors(weights)))


def native_tensors(weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Our tensors under openpi's names: the tower's projections apart, norms as offsets from 1."""
    for name, tensor in weights.items():
        if match := QKV.match(name):
            for part, own in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{_TOWER}encoder.layers.{match[1]}.self_attn.{part}_proj.{match[2]}", own.contiguous()
        elif name == EMBEDDING:
            yield HEAD, tensor.contiguous()
        else:
            stored = tensor - 1.0 if OFFSETS.match(name) else tensor
            yield renamed(name, NATIVE), stored.contiguous()

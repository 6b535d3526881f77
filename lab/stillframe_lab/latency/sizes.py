"""Models of random weights, made in memory: sizes for which there is no trained checkpoint.

Knows a checkpoint's files and names; its actions mean nothing. Every tensor has a seed of its own name: weights are the
same in any order and on every load.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

from stillframe.domain import WeightScheme
from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import NOTHING, CheckpointFolder
from stillframe.models.openvla_oft.heads import RegressionHead, StateProjector
from stillframe.models.openvla_oft.parts import ACTION_HEAD, STATE_PROJECTOR
from stillframe.models.prismatic.prompt import LONE_SPACE
from stillframe.models.prismatic.vision import TOWERS
from stillframe.models.registry import FAMILIES, family_of
from stillframe.models.tensor_files import Stored
from stillframe_lab.latency.scene import CAMERAS

SEED = 11
VOCABULARY, PADDING, BINS = 32_064, 64, 256  # rows of the embeddings, of them padding; the action's
QUIET = 0.01  # of the head's rows that say words, beside those that say actions
SPECIAL = ("<unk>", "<s>", "</s>", LONE_SPACE)
ACTION_DIM, STATE_DIM = 7, 7  # of the scene's arm
LIMIT = {"q01": [-1.0] * 6 + [0.0], "q99": [1.0] * 7, "mask": [True] * 6 + [False]}
STATE_LIMIT = {"q01": [-4.0] * STATE_DIM, "q99": [4.0] * STATE_DIM}
SAYING = (f"{ACTION_HEAD}.model.fc2.weight", "action_out_proj.weight")  # the heads' last layers
DRAWN_IN, HOST = torch.float32, torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """A shape to be filled with random weights. Text sizes of None are the checkpoint format's own defaults."""

    name: str
    decoder: Mapping[str, int]  # what config.json says beside the defaults
    tower: Mapping[str, int]  # likewise, of both towers
    chunk: int = 0  # actions of an answer, out of one pass over two pictures and a state; 0: tokens, one by one


# Towers and projector are a tenth of the whole, as in the real one.
MIDDLE = Size(
    "1024x16",
    {"hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 16, "num_attention_heads": 16},
    {"embed_dim": 256, "depth": 10, "num_heads": 4},
)
CHUNK = replace(MIDDLE, name="oft-1024x16", chunk=8)
FULL = Size("7b", {}, {})
SIZES = {size.name: size for size in (MIDDLE, CHUNK, FULL)}


class DrawnFolder(CheckpointFolder):
    """A folder whose tensors are drawn when they are loaded."""

    def load_into(
        self,
        module: nn.Module,
        *,
        dtype: torch.dtype,
        device: torch.device,
        unused: Iterable[str],  # noqa: ARG002 (none are stored)
        quantised: Mapping[str, float] = NOTHING,
    ) -> None:
        """Fill `module`, which may be on the meta device. Weights to be quantised stay in the host's memory."""
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        drawn = {
            name: _drawn(name, shape, self.dtype_of(name, dtype), HOST if name in quantised else device)
            for name, shape in shapes.items()
        }
        module.load_state_dict(drawn, strict=True, assign=True)


class RandomFolder(DrawnFolder):
    """A checkpoint folder with real configuration files, and no tensors but drawn ones."""

    def __init__(self, path: Path, size: Size):
        """Write the small files into `path`, which has to be there."""
        super().__init__(path)
        documents = {"config.json": _config(size), "preprocessor_config.json": PREPROCESSOR}
        for name, document in documents.items():
            (path / name).write_text(json.dumps(document), encoding="utf-8")
        for name, part in _parts(size).items():
            drawn = {key: _drawn(f"{name}.{key}", one.shape, DRAWN_IN, HOST) for key, one in part.state_dict().items()}
            torch.save(drawn, path / f"{name}--0_checkpoint.pt")
        word_tokenizer(SPECIAL).save(str(path / "tokenizer.json"))

    @property
    def stored(self) -> Mapping[str, tuple[Path, Stored]]:
        """Nothing is."""
        return {}

    def check_sizes(self, *_: object) -> None:
        """Nothing to check: no tensors are stored."""


def load_from(
    folder: CheckpointFolder, *, dtype: torch.dtype, device: torch.device, weights: WeightScheme = "as-is"
) -> PolicyModel:
    """What models.registry.load_policy does, for a folder that is already open."""
    module, _, name = FAMILIES[family_of(folder)].partition(":")
    loaded = getattr(import_module(module), name).load(folder, dtype=dtype, device=device, weights=weights)
    return cast("PolicyModel", loaded)


def _drawn(name: str, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Norms and scales are one, biases nothing, the rest is even noise: half as long to draw as normal noise."""
    if len(shape) == 1:
        return (torch.zeros if name.endswith("bias") else torch.ones)(shape, dtype=dtype, device=device)
    generator = torch.Generator(device).manual_seed(SEED + zlib.crc32(name.encode()))
    reach = 3**0.5 * _std(name, shape)
    drawn = torch.empty(shape, device=device).uniform_(-reach, reach, generator=generator)
    if name.endswith("lm_head.weight"):  # tokens must be actions: text is refused
        actions = slice(shape[0] - PADDING - BINS, shape[0] - PADDING)
        drawn = torch.cat((drawn[: actions.start] * QUIET, drawn[actions], drawn[actions.stop :] * QUIET))
    return drawn.to(dtype)


def _std(name: str, shape: torch.Size) -> float:
    """Large enough that an action's tokens differ from each other and from frame to frame.

    At Llama's own 0.02 they are all the same, whatever is seen, and every draft is right. A head that says numbers
    says them within its statistics.
    """
    if "embed_tokens" in name:
        return 1.0
    if name in SAYING:
        return 0.3 / math.sqrt(shape[1])
    sharp = 2.0 if name.endswith(("q_proj.weight", "k_proj.weight")) else 1.0
    return sharp / math.sqrt(shape[1:].numel())


def _config(size: Size) -> dict[str, Any]:
    overrides = {"timm_overrides": {name: dict(size.tower) for name in TOWERS}} if size.tower else {}
    return {
        "model_type": next(iter(FAMILIES)),
        "arch_specifier": "no-align+fused-gelu-mlp",
        "vision_backbone_id": "dinosiglip-vit-so-224px",
        "use_fused_vision_backbone": True,
        "timm_model_ids": list(TOWERS),
        "image_resize_strategy": "resize-naive",
        "n_action_bins": BINS,
        "pad_to_multiple_of": PADDING,
        "norm_stats": {"bench": {"action": LIMIT, "proprio": STATE_LIMIT}},
        "text_config": {"model_type": "llama", "vocab_size": VOCABULARY, **size.decoder},
        **({"num_actions_chunk": size.chunk, "cameras": [*CAMERAS]} if size.chunk else {}),
        **overrides,
    }


def _parts(size: Size) -> dict[str, nn.Module]:
    """What lies beside the weights of a model that says chunks: shapes alone."""
    if not size.chunk:
        return {}
    width = size.decoder["hidden_size"]
    with torch.device("meta"):
        head, projector = RegressionHead(width, width, ACTION_DIM, blocks=2), StateProjector(STATE_DIM, width)
    return {ACTION_HEAD: head, STATE_PROJECTOR: projector}


PREPROCESSOR: dict[str, Any] = {
    "image_resize_strategy": "resize-naive",
    "input_sizes": [[3, 224, 224], [3, 224, 224]],
    "tvf_do_letterbox": False,
    "tvf_resize_params": [{"size": [224, 224], "interpolation": 3, "antialias": True}] * 2,
    "tvf_normalize_params": [
        {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    ],
}


def word_tokenizer(special: Sequence[str]) -> Tokenizer:
    """A token a word and a sign: as many to a prompt as Llama's tokenizer gives.

    `special`: the tokens before them, first what stands for an unknown word, then what begins a text.
    """
    words = "In What action should the robot take to pick up reach push red green blue cube left right Out : ? \n"
    known = dict.fromkeys([*special, *words.split(" ")])
    vocab = {word: index for index, word in enumerate(known)}
    unknown, first = special[:2]
    tokenizer = Tokenizer(WordLevel(vocab, unk_token=unknown))
    tokenizer.pre_tokenizer = Split(Regex(r"\w+|[^\w ]"), behavior="removed", invert=True)
    tokenizer.post_processor = TemplateProcessing(single=f"{first} $A", special_tokens=[(first, vocab[first])])
    return tokenizer

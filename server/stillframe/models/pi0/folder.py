"""A pi0 or pi0.5 folder of openpi or of lerobot: its tensors under our names, and which of the two it is of.

Knows how the files and their tensors are named; no network. Source: openpi examples/convert_jax_model_to_pytorch.py,
lerobot policies/pi0. Both leave the embedding of tokens out, which is tied to the head: it is read from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from stillframe.errors import CheckpointError
from stillframe.files.kinds import shown
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.tensor_files import Stored, opened, renamed

Origin = Literal["openpi", "lerobot"]
FAMILIES = {"pi0": "pi0", "pi05": "pi05"}  # lerobot's word -> ours
WRAPPER = "model."  # how every name begins in lerobot's files
TIME_MLP = re.compile(r"(model\.)?time_mlp_in\.weight")
OLD = "paligemma_with_expert.paligemma.language_model.model."
_VISION, _EXPERT = (
    r"^paligemma_with_expert\.paligemma\.model\.vision_tower\.(?:vision_model\.)?",
    r"^paligemma_with_expert\.gemma_expert\.",
)
RENAMED = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (_VISION + r"embeddings\.patch_embedding\.", "vision.patch_embed.proj."),
        (_VISION + r"embeddings\.position_embedding\.weight$", "vision.pos_embed"),
        (_VISION + r"encoder\.layers\.(\d+)\.layer_norm([12])\.", r"vision.blocks.\1.norm\2."),
        (_VISION + r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"vision.blocks.\1.attn.proj."),
        (_VISION + r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)$", r"vision.blocks.\1.attn.qkv.\3/\2"),
        (_VISION + r"encoder\.layers\.(\d+)\.mlp\.", r"vision.blocks.\1.mlp."),
        (_VISION + r"post_layernorm\.", "vision.norm."),
        (r"^paligemma_with_expert\.paligemma\.model\.multi_modal_projector\.linear\.", "projector."),
        (r"^paligemma_with_expert\.paligemma\.model\.language_model\.", "decoder.model."),
        (_EXPERT + r"model\.(?!embed_tokens)", "expert."),
    )
)  # fmt: skip
EMBEDDING, HEAD = "decoder.model.embed_tokens.weight", "paligemma_with_expert.paligemma.lm_head.weight"
JUNK = (
    "paligemma_with_expert.paligemma.lm_head.",
    "paligemma_with_expert.paligemma.model.vision_tower.vision_model.head.",
    "paligemma_with_expert.gemma_expert.lm_head.",
    "paligemma_with_expert.gemma_expert.model.embed_tokens.",
)  # how names begin that feed nothing
# What the reference keeps in float32 beside bf16: the first sums of the tower, all norms of both decoders, and what
# leads into the expert and out of it. Lerobot keeps all that looks at pictures.
WIDE = re.compile(
    r"vision\.(patch_embed\.|pos_embed)|(action|state|time)_|(decoder\.model|expert)\..*norm\.(weight|dense\.)"
)
PICTURES = ("vision.", "projector.")
OFFSETS = re.compile(r"^(decoder\.model|expert)\..*norm\.weight$")  # norms' weights, less 1


class Pi0Folder(CheckpointFolder):
    """Reads tensors under our names: three projections of the tower's attention as one, norms' offsets with their 1."""

    @classmethod
    def of(cls, folder: CheckpointFolder) -> Pi0Folder:
        """The same folder with tensors under our names; as it is where it has them."""
        return folder if isinstance(folder, cls) else cls(folder.path, folder.config)

    @cached_property
    def origin(self) -> Origin:
        """Whose layout it is."""
        return "lerobot" if self.json("config.json").get("type") in FAMILIES else "openpi"

    @cached_property
    def stored(self) -> Mapping[str, tuple[Path, Stored]]:
        """Our name of each tensor -> the file, and what it is."""
        return {ours: _joined([self._plain[name] for name in names]) for ours, names in self.sources.items()}

    @cached_property
    def sources(self) -> Mapping[str, tuple[str, ...]]:
        """Our name of each tensor -> the stored ones that it is made of."""
        found: dict[str, list[tuple[int, str]]] = {}
        for name in self._plain:
            ours, _, part = _our_name(name).partition("/")
            found.setdefault(ours, []).append(("qkv".find(part), name))
        made = {ours: tuple(name for _, name in sorted(names)) for ours, names in found.items()}
        if EMBEDDING not in made and HEAD in made:
            made[EMBEDDING] = made.pop(HEAD)
        return made

    @property
    def statistics_in(self) -> str:
        """Where the statistics are, for an inspection."""
        return "both processors' files" if self.origin == "lerobot" else "assets/*/norm_stats.json"

    def dtype_of(self, name: str, dtype: torch.dtype) -> torch.dtype:
        """Of some tensors float32, whatever the others'."""
        wide = WIDE.match(name) or (self.origin == "lerobot" and name.startswith(PICTURES))
        return torch.float32 if wide else dtype

    def opened(self, file: Path) -> AbstractContextManager[Any]:  # noqa: ARG002 (a tensor's parts may lie in several)
        """The tensors, memory-mapped."""
        return _reader(self)

    @cached_property
    def _plain(self) -> Mapping[str, tuple[Path, Stored]]:
        """As they are stored."""
        plain = CheckpointFolder(self.path, self.config).stored
        if any(name.removeprefix(WRAPPER).startswith(OLD) for name in plain):
            raise CheckpointError(
                f"{shown(self.path)} has the names that lerobot gave tensors before transformers 4.50; convert it with "
                "a newer lerobot: load it there and save_pretrained(FOLDER)"
            )
        return plain


class _Reader:
    """Opens each file once."""

    def __init__(self, folder: Pi0Folder, stack: ExitStack):
        self._folder, self._stack = folder, stack
        self._files: dict[Path, Any] = {}

    def get_tensor(self, name: str) -> Tensor:
        """One of ours."""
        parts = [self._part(own) for own in self._folder.sources[name]]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        return tensor.float() + 1.0 if OFFSETS.match(name) else tensor

    def _part(self, name: str) -> Tensor:
        file = self._folder._plain[name][0]
        if file not in self._files:
            self._files[file] = self._stack.enter_context(opened(file))
        tensor: Tensor = self._files[file].get_tensor(name)
        return tensor


@contextmanager
def _reader(folder: Pi0Folder) -> Iterator[_Reader]:
    with ExitStack() as stack:
        yield _Reader(folder, stack)


def recognised_pi0(folder: CheckpointFolder) -> bool:
    """Whether the folder is of pi0, openpi's or lerobot's."""
    return _family(folder) == "pi0"


def recognised_pi05(folder: CheckpointFolder) -> bool:
    """Whether it is of pi0.5. Openpi's config.json does not say so: its tensors do."""
    return _family(folder) == "pi05"


def _family(folder: CheckpointFolder) -> str | None:
    config = folder.json("config.json")
    if isinstance(kind := config.get("type"), str):
        return FAMILIES.get(kind)
    if "paligemma_variant" not in config and "action_expert_variant" not in config:
        return None
    return "pi05" if any(TIME_MLP.fullmatch(name) for name in folder.tensor_files()) else "pi0"


def _our_name(name: str) -> str:
    """'ours', or 'ours/q' for a part of it."""
    return renamed(name.removeprefix(WRAPPER), RENAMED)


def _joined(parts: list[tuple[Path, Stored]]) -> tuple[Path, Stored]:
    """Several tensors behind each other, as one."""
    file, first = parts[0]
    if len(parts) == 1:
        return file, first
    if any(part.shape[1:] != first.shape[1:] or part.dtype != first.dtype for _, part in parts):
        return file, first  # what `load_into` then refuses by its shape
    rows = sum(part.shape[0] for _, part in parts)
    return file, Stored(first.dtype, (rows, *first.shape[1:]), max(part.end for _, part in parts))

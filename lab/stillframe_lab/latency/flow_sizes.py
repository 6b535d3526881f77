"""A pi0 of random weights, half of the published one in every direction: one that a CPU can race.

Knows a folder of openpi's layout by its small files; its actions mean nothing. Widths and layers are halved, heads are
as many; the vocabulary is shorter, for nothing multiplies it. Cameras are two of three slots, as LIBERO's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from stillframe.models.pi0.folder import Pi0Folder
from stillframe.models.pi0.gemma import GemmaConfig
from stillframe.models.pi0.network import Pi0Network
from stillframe.models.pi0.platforms import SLOTS
from stillframe.models.pi0.siglip import SiglipConfig
from stillframe.models.pi0.sizes import MOST_POSITIONS, Pi0Sizes
from stillframe.models.pi0.tokenizer import BOS
from stillframe.models.tensor_files import Stored
from stillframe_lab.latency.sizes import ACTION_DIM, STATE_DIM, VOCABULARY, DrawnFolder, word_tokenizer

PADDED_DIM = 32  # numbers of an action as the network has them


@dataclass(frozen=True)
class FlowSize:
    """A shape to be filled with random weights."""

    name: str
    sizes: Pi0Sizes
    chunk: int  # actions of an answer


def gemma(width: int, mlp_dim: int, layers: int, heads: int, head_dim: int) -> GemmaConfig:
    """One key-value head, as every PaliGemma has."""
    return GemmaConfig(VOCABULARY, width, mlp_dim, layers, heads, 1, MOST_POSITIONS, head_width=head_dim)


HALF = FlowSize(
    "pi0-1024x9",
    Pi0Sizes(
        vision=SiglipConfig(width=576, depth=14, heads=8, mlp_dim=2152),
        decoder=gemma(1024, 8192, 9, 8, 128),
        expert=gemma(512, 2048, 9, 8, 128),
        action_dim=PADDED_DIM,
        adaptive=False,
    ),
    chunk=10,
)
FLOW_SIZES = {HALF.name: HALF}


class RandomFlowFolder(DrawnFolder, Pi0Folder):
    """An openpi folder with real configuration files, and tensors of a size drawn when they are loaded."""

    def __init__(self, path: Path, size: FlowSize):
        """Write the small files into `path`, which has to be there."""
        super().__init__(path)
        self._sizes = size.sizes
        statistics = path / "assets" / "bench" / "norm_stats.json"
        statistics.parent.mkdir(parents=True, exist_ok=True)
        for file, document in ((path / "config.json", _config(size)), (statistics, STATISTICS)):
            file.write_text(json.dumps(document), encoding="utf-8")
        word_tokenizer(("<unk>", BOS)).save(str(path / "tokenizer.json"))

    @cached_property
    def stored(self) -> Mapping[str, tuple[Path, Stored]]:
        """The shapes that the files would have."""
        with torch.device("meta"):
            network = Pi0Network(self._sizes)
        return {name: (self.path, Stored("F32", tuple(one.shape), 0)) for name, one in network.state_dict().items()}

    def tensor_files(self) -> dict[str, Path]:
        """By which the registry recognises the family."""
        return dict.fromkeys(self.stored, self.path)


def _config(size: FlowSize) -> dict[str, Any]:
    return {
        "action_dim": PADDED_DIM,
        "action_horizon": size.chunk,
        "paligemma_variant": "random",
        "action_expert_variant": "random",
        "cameras": [*SLOTS[:2]],
    }


STATISTICS = {
    "norm_stats": {
        "state": {"mean": [0.0] * STATE_DIM, "std": [1.0] * STATE_DIM},
        "actions": {"mean": [0.0] * ACTION_DIM, "std": [0.3] * ACTION_DIM},
    }
}

"""Which policies one command trains: the name of each, its recipe, what trains it, and what it begins with.

Knows names; the parts are imported on use, for each family's brings its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stillframe_lab.train.pipeline import OPENVLA_KIND, PolicyKind
from stillframe_lab.train.recipe import JACO_TINY, JACO_TINY_WRIST, Recipe

if TYPE_CHECKING:
    from stillframe_lab.train.pi0.recipe import Pi0Recipe


@dataclass(frozen=True)
class TrainablePolicy:
    """One of the shipped policies."""

    recipe: Recipe
    kind: PolicyKind
    start: str | None = None  # the shipped policy whose weights it begins with; None: random ones

    def start_beside(self, folder: Path) -> Path | None:
        """Where the weights lie that it begins with, beside the folder of another shipped policy."""
        return None if self.start is None else folder.with_name(self.start)


def _tiny() -> TrainablePolicy:
    return TrainablePolicy(JACO_TINY, OPENVLA_KIND)


def _wrist() -> TrainablePolicy:
    return TrainablePolicy(JACO_TINY_WRIST, OPENVLA_KIND, "jaco-tiny")


def _oft() -> TrainablePolicy:
    from stillframe_lab.train.chunked.labels import ChunkLabels
    from stillframe_lab.train.chunked.oft import OFTTrainer
    from stillframe_lab.train.chunked.recipe import JACO_TINY_OFT

    kind = PolicyKind(OFTTrainer.collection, ChunkLabels, OFTTrainer, "|error| of the chunk,\nnormalised")
    return TrainablePolicy(JACO_TINY_OFT, kind, "jaco-tiny-wrist")


def _cogact() -> TrainablePolicy:
    from stillframe_lab.train.chunked.cogact import CogACTTrainer
    from stillframe_lab.train.chunked.labels import ChunkLabels
    from stillframe_lab.train.chunked.recipe import JACO_TINY_COGACT

    kind = PolicyKind(CogACTTrainer.collection, ChunkLabels, CogACTTrainer, "squared error\nof the noise")
    return TrainablePolicy(JACO_TINY_COGACT, kind, "jaco-tiny")


def _pi0() -> TrainablePolicy:
    from stillframe_lab.train.pi0.recipe import JACO_TINY_PI0

    return TrainablePolicy(JACO_TINY_PI0, _flow_kind(JACO_TINY_PI0), "jaco-tiny")


def _pi05() -> TrainablePolicy:
    from stillframe_lab.train.pi0.recipe import JACO_TINY_PI05

    return TrainablePolicy(JACO_TINY_PI05, _flow_kind(JACO_TINY_PI05), "jaco-tiny-pi0")


def _flow_kind(recipe: Pi0Recipe) -> PolicyKind:
    from stillframe_lab.train.chunked.labels import ChunkLabels
    from stillframe_lab.train.pi0.trainer import Pi0Trainer

    loss = "squared error\nof the velocity"
    return PolicyKind(Pi0Trainer.collection, ChunkLabels, Pi0Trainer, loss, recipe.distil_steps)


POLICIES: dict[str, Callable[[], TrainablePolicy]] = {
    "jaco-tiny": _tiny,
    "jaco-tiny-wrist": _wrist,
    "jaco-tiny-oft": _oft,
    "jaco-tiny-cogact": _cogact,
    "jaco-tiny-pi0": _pi0,
    "jaco-tiny-pi05": _pi05,
}

"""Which policies one command trains: the name of each, its recipe, what trains it, and what it begins with.

Knows names; the parts are imported on use, for each family's brings its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stillframe_lab.train import pipeline
from stillframe_lab.train.pipeline import OPENVLA_KIND, PolicyKind, TrainingReporter
from stillframe_lab.train.places import Places
from stillframe_lab.train.recipe import JACO_TINY, JACO_TINY_WRIST, Recipe

if TYPE_CHECKING:
    import torch

    from stillframe_lab.train.pi0.recipe import Pi0Recipe


class TrainablePolicy(Protocol):
    """One of the shipped policies."""

    @property
    def steps(self) -> int:
        """Of its optimiser."""
        ...

    def start_beside(self, folder: Path) -> Path | None:
        """Where the weights lie that it begins with, beside the folder of another shipped policy; None: random ones."""
        ...

    def collect(self, data: Path, workers: int) -> str:
        """Make the demonstrations that are missing -> what there is."""
        ...

    def train(self, places: Places, device: torch.device, workers: int, reporter: TrainingReporter) -> Path:
        """Run the whole recipe, put the checkpoint where it goes -> the folder of the run that it was taken from."""
        ...


@dataclass(frozen=True)
class JacoPolicy:
    """One for the simulated Jaco2."""

    recipe: Recipe
    kind: PolicyKind
    start: str | None = None  # the shipped policy whose weights it begins with; None: random ones

    @property
    def steps(self) -> int:
        """See TrainablePolicy."""
        return self.recipe.steps

    def start_beside(self, folder: Path) -> Path | None:
        """See TrainablePolicy."""
        return None if self.start is None else folder.with_name(self.start)

    def collect(self, data: Path, workers: int) -> str:
        """See TrainablePolicy."""
        stores = pipeline.collect_demonstrations(data, self.recipe, workers, self.kind)
        return f"{sum(map(len, stores))} frames"

    def train(self, places: Places, device: torch.device, workers: int, reporter: TrainingReporter) -> Path:
        """See TrainablePolicy."""
        run, data, recipe = places.run, places.data, self.recipe
        trained = pipeline.train_policy(run, data, recipe, device, workers, reporter, places.start, self.kind)
        pipeline.publish(trained, recipe, run, places.out, self.kind)
        return Path(trained.best.folder)


def _tiny() -> TrainablePolicy:
    return JacoPolicy(JACO_TINY, OPENVLA_KIND)


def _wrist() -> TrainablePolicy:
    return JacoPolicy(JACO_TINY_WRIST, OPENVLA_KIND, "jaco-tiny")


def _oft() -> TrainablePolicy:
    from stillframe_lab.train.chunked.labels import ChunkLabels
    from stillframe_lab.train.chunked.oft import OFTTrainer
    from stillframe_lab.train.chunked.recipe import JACO_TINY_OFT

    kind = PolicyKind(OFTTrainer.collection, ChunkLabels, OFTTrainer, "|error| of the chunk,\nnormalised")
    return JacoPolicy(JACO_TINY_OFT, kind, "jaco-tiny-wrist")


def _kitchen() -> TrainablePolicy:
    from stillframe_lab.train.kitchen.recipe import DAGGER, JACO_TINY_KITCHEN, NOISY_EXPERT
    from stillframe_lab.train.kitchen.trainer import KitchenTrainer, kitchen_episodes
    from stillframe_lab.train.libero.dataset import TaskLabels

    kind = PolicyKind(
        KitchenTrainer.collection,
        TaskLabels,
        KitchenTrainer,
        "|error| of the chunk,\nnormalised",
        expert=NOISY_EXPERT,
        dagger=DAGGER,
        episodes=kitchen_episodes,
    )
    return JacoPolicy(JACO_TINY_KITCHEN, kind, "jaco-tiny-oft")


def _cogact() -> TrainablePolicy:
    from stillframe_lab.train.chunked.cogact import CogACTTrainer
    from stillframe_lab.train.chunked.labels import ChunkLabels
    from stillframe_lab.train.chunked.recipe import JACO_TINY_COGACT

    kind = PolicyKind(CogACTTrainer.collection, ChunkLabels, CogACTTrainer, "squared error\nof the noise")
    return JacoPolicy(JACO_TINY_COGACT, kind, "jaco-tiny")


def _pi0() -> TrainablePolicy:
    from stillframe_lab.train.pi0.recipe import JACO_TINY_PI0

    return JacoPolicy(JACO_TINY_PI0, _flow_kind(JACO_TINY_PI0), "jaco-tiny")


def _pi05() -> TrainablePolicy:
    from stillframe_lab.train.pi0.recipe import JACO_TINY_PI05

    return JacoPolicy(JACO_TINY_PI05, _flow_kind(JACO_TINY_PI05), "jaco-tiny-pi0")


def _flow_kind(recipe: Pi0Recipe) -> PolicyKind:
    from stillframe_lab.train.chunked.labels import ChunkLabels
    from stillframe_lab.train.pi0.trainer import Pi0Trainer

    loss = "squared error\nof the velocity"
    return PolicyKind(Pi0Trainer.collection, ChunkLabels, Pi0Trainer, loss, recipe.distil_steps)


def _libero() -> TrainablePolicy:
    from stillframe_lab.train.libero.openvla import LiberoTokenTrainer
    from stillframe_lab.train.libero.policy import LiberoPolicy
    from stillframe_lab.train.libero.recipe import LIBERO_TINY

    return LiberoPolicy(LIBERO_TINY, LiberoTokenTrainer, "libero-tiny-oft", "action loss, nats")


def _libero_oft() -> TrainablePolicy:
    from stillframe_lab.train.libero.oft import LiberoOFTTrainer
    from stillframe_lab.train.libero.policy import LiberoPolicy
    from stillframe_lab.train.libero.recipe import LIBERO_TINY_OFT

    return LiberoPolicy(LIBERO_TINY_OFT, LiberoOFTTrainer, "jaco-tiny-oft", "|error| of the chunk,\nnormalised")


POLICIES: dict[str, Callable[[], TrainablePolicy]] = {
    "jaco-tiny": _tiny,
    "jaco-tiny-wrist": _wrist,
    "jaco-tiny-oft": _oft,
    "jaco-tiny-kitchen": _kitchen,
    "jaco-tiny-cogact": _cogact,
    "jaco-tiny-pi0": _pi0,
    "jaco-tiny-pi05": _pi05,
    "libero-tiny": _libero,
    "libero-tiny-oft": _libero_oft,
}

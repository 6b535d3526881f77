"""A shipped policy for LIBERO, as `stillframe train` has it.

Knows the pipeline; no option of the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from stillframe_lab.train.libero.pipeline import DemoSource, Start, all_demos, publish_libero, train_libero
from stillframe_lab.train.libero.recipe import LiberoRecipe
from stillframe_lab.train.pipeline import TrainingReporter
from stillframe_lab.train.places import Places


@dataclass(frozen=True)
class LiberoPolicy:
    """One of them. Implements policies.TrainablePolicy."""

    recipe: LiberoRecipe
    trainer: Start
    start: str  # the shipped policy whose weights it begins with
    loss_name: str

    @property
    def steps(self) -> int:
        """See TrainablePolicy."""
        return self.recipe.steps

    def start_beside(self, folder: Path) -> Path:
        """See TrainablePolicy."""
        return folder.with_name(self.start)

    def collect(self, data: Path, workers: int) -> str:
        """See TrainablePolicy."""
        source, wanted = DemoSource(data, self.recipe, workers), all_demos(self.recipe)
        source.collect(wanted)
        return f"{len(wanted)} demonstrations"

    def train(self, places: Places, device: torch.device, workers: int, reporter: TrainingReporter) -> Path:
        """See TrainablePolicy."""
        source = DemoSource(places.data, self.recipe, workers)
        trained = train_libero(places.run, source, self.trainer, device, reporter, places.start)
        publish_libero(trained, places.run, places.out, self.recipe, self.loss_name)
        return trained

"""KitchenTrainer: jaco-tiny-kitchen, which begins with the whole of jaco-tiny-oft, and the episodes it is selected by.

Knows the family's files; no demonstration.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from stillframe.models.openvla_oft.parts import ACTION_HEAD, STATE_PROJECTOR
from stillframe_client.sim.kitchen import KitchenEnv
from stillframe_client.sim.proprioception import STATE_NAMES, STATE_UNITS
from stillframe_lab.train.chunked.oft import OFTNetwork, RobotCard, jaco_card, save_oft, state_scale
from stillframe_lab.train.chunked.recipe import InstructedRecipe
from stillframe_lab.train.cloning import prompts
from stillframe_lab.train.demonstrations import Mixture
from stillframe_lab.train.kitchen.collection import KitchenCollection
from stillframe_lab.train.kitchen.recipe import INSTRUCTIONS, NAMES, WORDS
from stillframe_lab.train.libero.oft import OFTTrainee
from stillframe_lab.train.libero.start import begin_with
from stillframe_lab.train.libero.trainer import InstructedTrainer
from stillframe_lab.train.new_checkpoint import new_network


class KitchenTrainer(InstructedTrainer):
    """Trains it."""

    def __init__(self, folder: Path, recipe: InstructedRecipe, device: torch.device, start: Path | None = None):
        """Begin, or resume the run in `folder`. `start`: an OpenVLA-OFT of the same sizes and robot; None: random."""
        texts = [ids[1:] for ids in prompts(folder, INSTRUCTIONS, WORDS)]
        torch.manual_seed(recipe.seed)
        policy = OFTNetwork(new_network(recipe), recipe)
        if start is not None:
            begin_with(policy.network, start, recipe)
            for part, module in ((ACTION_HEAD, policy.head), (STATE_PROJECTOR, policy.projector)):
                _begin_part(module, start / f"{part}--latest_checkpoint.pt")
        super().__init__(folder, recipe, OFTTrainee(policy, recipe, texts, state_scale()), policy, device)

    @staticmethod
    def collection(recipe: InstructedRecipe, frames: int, seed: tuple[int, ...], mixture: Mixture) -> KitchenCollection:
        """The frames that a recipe is trained on."""
        return KitchenCollection(frames, seed, mixture, recipe.cameras, recipe.horizon)

    def export(self, folder: Path) -> None:
        """See Cloning."""
        card = RobotCard(jaco_card().statistics, STATE_NAMES, STATE_UNITS, WORDS)
        save_oft(folder, self.averaged, self.recipe, card)


def kitchen_episodes(recipe: InstructedRecipe) -> Iterator[tuple[KitchenEnv, int]]:
    """As many of each task."""
    for name in NAMES:
        env = KitchenEnv(name, cameras=recipe.cameras)
        for index in range(recipe.select_episodes // len(NAMES)):
            yield env, recipe.select_seed + index
        env.close()


def _begin_part(module: nn.Module, file: Path) -> None:
    """Take over the weights of a part that was saved as fine-tuning leaves it."""
    saved = torch.load(file, weights_only=True, map_location="cpu")
    module.load_state_dict({name.removeprefix("module."): tensor for name, tensor in saved.items()})

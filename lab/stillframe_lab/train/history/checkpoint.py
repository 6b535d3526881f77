"""Write a policy with a history: a checkpoint in its family's layout, and its history weights.

Knows both layouts; no loss.
"""

from __future__ import annotations

from pathlib import Path

from stillframe.history.checkpoint import HistoryConfig, HistoryWeights, save_history
from stillframe.models.prismatic.checks import ACTION_NAMES
from stillframe_lab.train.history.policy_objective import MemoryTrainee
from stillframe_lab.train.history.recipe import MemoryRecipe
from stillframe_lab.train.new_checkpoint import save_checkpoint

EXTRAS = len(ACTION_NAMES) + 1  # the last action, and the time since the last frame


def new_memory_weights(trainee: MemoryTrainee, recipe: MemoryRecipe) -> HistoryWeights:
    """The pooling trained with the policy, and untrained scorers."""
    decoder, tower = trainee.network.config.decoder, trainee.network.config.towers[0]
    weights = HistoryWeights(
        HistoryConfig(
            layers=decoder.num_hidden_layers,
            kv_heads=decoder.num_key_value_heads,
            head_dim=decoder.head_dim,
            chunk_tokens=len(recipe.policy.cameras) * tower.grid**2,
            slots=recipe.slots,
            taps=recipe.taps,
            extras=EXTRAS,
            hidden=recipe.hidden,
            cell=recipe.cell,
        )
    )
    weights.pooling.load_state_dict(trainee.pooling.state_dict())
    return weights


def save_policy(folder: Path, trainee: MemoryTrainee, weights: HistoryWeights, recipe: MemoryRecipe) -> None:
    """Write the checkpoint that the daemon serves."""
    folder.mkdir(parents=True, exist_ok=True)
    save_history(folder, weights)
    tensors = {name: tensor.detach().cpu() for name, tensor in trainee.network.state_dict().items()}
    save_checkpoint(folder, tensors, recipe.policy)  # last: its tensors mark the checkpoint as complete

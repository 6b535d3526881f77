"""Forcing: a memory of older frames for a model that was not trained with one, because somebody wants to see.

Knows the model's sizes; what such a memory is worth nobody knows. Chunks are means, one a frame.
"""

from __future__ import annotations

from stillframe.errors import ConfigError
from stillframe.memory.files import MemoryConfig, Weights
from stillframe.memory.settings import UNTRAINED, HistorySettings
from stillframe.models.base import PolicyModel


def forced(model: PolicyModel, settings: HistorySettings) -> Weights:
    """Weights that have learnt nothing. Raises ConfigError for a scorer that would need to have learnt something."""
    if settings.gate not in UNTRAINED:
        raise ConfigError(
            f"history.gate is {settings.gate!r}, which has to be trained, and the checkpoint is not: with "
            f"history.force choose one of {', '.join(UNTRAINED)}"
        )
    sizes, action = model.decoder.config, len(model.info.action_names)
    config = MemoryConfig(
        layers=sizes.num_hidden_layers,
        kv_heads=sizes.num_key_value_heads,
        head_dim=sizes.head_dim,
        chunk_tokens=model.fixed_rows - 1 - action,
        slots=1,  # untrained slots of a chunk would all hold the same mean
        taps=(sizes.num_hidden_layers // 2,),
        extras=action + 1,
        hidden=1,  # of a gate that nobody asks
    )
    return Weights(config, trained=False).to(model.device).eval().requires_grad_(requires_grad=False)

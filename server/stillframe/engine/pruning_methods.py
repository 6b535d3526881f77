"""PruningMethods: which modes that prune a deployment can serve, each with its method, or why not.

Knows settings and what a model is; no frame.
"""

from __future__ import annotations

from collections.abc import Mapping

from stillframe.domain import PRUNING_MODES, ReuseMode
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.reuse.pruning import Method, ToMe, pruning_method
from stillframe.reuse.settings import ReuseSettings


def pruning_methods(model: PolicyModel, settings: ReuseSettings, *, history: bool) -> Mapping[ReuseMode, Method]:
    """Mode -> its method, of those that `model` can be pruned by. `history`: answers look at older frames.

    Raises ConfigError where the deployment's own mode is none of them. A frame that asks for one is computed whole.
    """
    methods = {mode: method for mode in PRUNING_MODES if (method := pruning_method(mode, settings)) is not None}
    refusals = {mode: _refusal(model, method, history=history) for mode, method in methods.items()}
    if refusals.get(settings.mode) is not None:
        raise ConfigError(f"reuse.mode is '{settings.mode}', and {refusals[settings.mode]}")
    return {mode: method for mode, method in methods.items() if refusals[mode] is None}


def _refusal(model: PolicyModel, method: Method, *, history: bool) -> str | None:
    """Why its tokens cannot be pruned; None: they can."""
    name, last = f"{model.info.name}, of family {model.info.family},", model.decoder.config.num_hidden_layers - 1
    if model.has_expert:
        return (
            f"{name} has an action expert that reads the prompt's keys in every layer, where the method is published "
            "for decoders that say the action themselves: choose another mode"
        )
    if history:
        return "history is enabled, which keeps all of a frame's tokens: turn one of the two off"
    first = int(isinstance(method, ToMe))  # how layers are counted
    if not any(layer - first < last for layer in method.layers):
        return (
            f"{name} has a decoder of {last + 1} layers: none that decides ({sorted(method.layers)}, from {first}) has "
            f"a deeper one; choose layers before the last, {last + first}"
        )
    return None

"""Action tokens to robot units and back: 256 uniform bins, then a data set's statistics.

Knows numbers and statistics; no tensors, no family. Source: OpenVLA's ActionTokenizer and predict_action.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.errors import CheckpointError, Flaw, Internal, not_an_action, unknown_unnorm_key
from stillframe.files.kinds import shown
from stillframe.models.scales import ENDS, check_span, mask_of, numbers


@dataclass(frozen=True)
class ActionBins:
    """The last `bins` ids below `text_vocab_size` are actions; the highest id is the lowest value."""

    text_vocab_size: int  # the vocabulary without its padding rows
    bins: int = 256

    @property
    def edges(self) -> NDArray[np.float64]:
        """[bins] from -1 to 1; there are bins - 1 centres between them."""
        return np.linspace(-1.0, 1.0, self.bins)

    @property
    def centres(self) -> NDArray[np.float64]:
        """[bins - 1] values that tokens decode to."""
        edges = self.edges
        return (edges[:-1] + edges[1:]) / 2.0

    @property
    def ids(self) -> range:
        """The ids that are actions. The two lowest stand for one value, the highest."""
        return range(self.text_vocab_size - self.bins, self.text_vocab_size)

    def decode(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """Token ids -> values in (-1, 1). Raises Internal for an id of text or padding.

        The reference takes such an id to the nearest end of the range: a broken network moves an arm at full speed.
        """
        refusal = no_action(ids, self.ids)
        if refusal is not None:
            raise refusal
        indices = np.clip(self.text_vocab_size - ids - 1, 0, self.bins - 2)
        return self.centres[indices]

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Values, clipped to [-1, 1] -> token ids."""
        return self.text_vocab_size - np.digitize(np.clip(values, -1.0, 1.0), self.edges).astype(np.int64)


@dataclass(frozen=True)
class ActionScale:
    """One data set's q01 and q99, per action dimension; unmasked dimensions pass through."""

    q01: NDArray[np.float64]
    q99: NDArray[np.float64]
    mask: NDArray[np.bool_]
    slack: float = 0.0  # that a family adds to each range

    def unnormalise(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """[..., dim] in [-1, 1] -> robot units."""
        scaled = 0.5 * (values + 1) * (self.q99 - self.q01 + self.slack) + self.q01
        return np.where(self.mask, scaled, values)

    def normalise(self, actions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Robot units [..., dim] -> [-1, 1], clipped where masked; a constant is 0, as in OpenVLA's training."""
        constant = self.q99 == self.q01
        span = np.where(constant, 1.0, self.q99 - self.q01)
        with np.errstate(over="ignore"):  # of a span next to nothing: clipped
            scaled = np.where(constant, 0.0, np.clip(2 * (actions - self.q01) / span - 1, -1.0, 1.0))
        return np.where(self.mask, scaled, actions)


def no_action(ids: NDArray[np.int64], actions: range) -> Internal | None:
    """Why tokens are no action; None: they are one."""
    others = [int(token) for token in np.ravel(ids) if int(token) not in actions]
    if not others:
        return None
    expected = f"an action's ids are {actions.start} to {actions.stop - 1}"
    return not_an_action(Flaw.NO_ACTION_TOKEN, f"The policy said the token {others[0]}, which is text; {expected}.")


class Statistics:
    """The data sets a checkpoint knows, by unnorm_key."""

    def __init__(self, norm_stats: Mapping[str, Any], ends: tuple[str, str] = ENDS, slack: float = 0.0):
        """`ends`: the names of the statistics that are -1 and 1 of the normalised range."""
        if not norm_stats:
            raise CheckpointError(
                "the checkpoint has no action statistics; put a dataset_statistics.json beside its weights"
            )
        self.scales = {key: _scale(key, entry, ends, slack) for key, entry in norm_stats.items()}
        lengths = {key: len(scale.q01) for key, scale in self.scales.items()}
        if len(set(lengths.values())) > 1:
            raise CheckpointError(
                f"statistics differ in the length of an action: {shown(lengths)}; expected one length"
            )

    @property
    def default_key(self) -> str | None:
        """The only key, or None when there is a choice to make."""
        return next(iter(self.scales)) if len(self.scales) == 1 else None

    def resolve(self, unnorm_key: str | None) -> str:
        """The key to use, or Unprocessable with the choices."""
        key = self.default_key if unnorm_key is None else unnorm_key
        if key in self.scales:
            return key
        raise unknown_unnorm_key(key, self.scales)

    @property
    def action_dim(self) -> int:
        """Length of an action; the same in every data set."""
        return len(next(iter(self.scales.values())).q01)


def _scale(key: str, entry: Any, ends: tuple[str, str], slack: float) -> ActionScale:
    """Read one data set's entry; without a mask every dimension is scaled."""
    action = entry.get("action") if isinstance(entry, Mapping) else None
    action = action if isinstance(action, Mapping) else {}
    q01, q99 = (numbers(key, name, action.get(name), names=ends) for name in ends)
    mask = mask_of(key, action.get("mask", [True] * len(q01)))
    if not q01.shape == q99.shape == mask.shape:
        lengths = f"they have {len(q01)}, {len(q99)} and {len(mask)}"
        raise CheckpointError(f"statistics {shown(key)!r}: {ends[0]}, {ends[1]} and mask differ in length; {lengths}")
    check_span(key, q01, q99, mask, ends)
    return ActionScale(q01, q99, mask, slack)

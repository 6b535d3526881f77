"""Why answers look at older frames, or why they do not: what model info says, and what every reply warns of.

Knows a deployment's settings and what was trained; no frame and no wire.
"""

from __future__ import annotations

from stillframe.domain import NO_HISTORY, HistoryInfo
from stillframe.history.checkpoint import CONFIG_NAME, Weights
from stillframe.history.settings import HistorySettings
from stillframe.history.store import ChunkShape, Rules

WARNING = (
    "The checkpoint was not trained with older frames and looks at them because history.force is true: "
    "its actions may be worse than without."
)


def off(*, trained: bool) -> HistoryInfo:
    """Nobody asked for it; where the checkpoint could not do it either, that is the better reason."""
    untrained = f"the checkpoint was not trained with older frames: it has no {CONFIG_NAME}"
    return HistoryInfo(why=NO_HISTORY.why if trained else untrained, trained=trained)


def on(settings: HistorySettings, weights: Weights, shape: ChunkShape, rules: Rules) -> HistoryInfo:
    """What is kept, by whose word; and a warning where nobody has learnt to look at it."""
    trained = "history.enabled is true, and the checkpoint was trained with older frames"
    return HistoryInfo(
        enabled=True,
        why=trained if weights.trained else "history.force is true, though nobody has trained the checkpoint for it",
        trained=weights.trained,
        warning=None if weights.trained else WARNING,
        gate=settings.gate,
        chunk_tokens=shape.tokens,
        slots=shape.slots,
        window_frames=rules.window_frames,
        budget_bytes=rules.budget_bytes,
    )

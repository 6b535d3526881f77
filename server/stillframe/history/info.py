"""What the API says of history: whether it is on, why, with which sizes, and the warning of untrained weights.

Knows settings and weights; no frame and no wire.
"""

from __future__ import annotations

from stillframe.domain import NO_HISTORY, HistoryInfo
from stillframe.history.checkpoint import CONFIG_NAME, HistoryWeights
from stillframe.history.settings import HistorySettings
from stillframe.history.store import ChunkShape, RetentionPolicy

WARNING = (
    "The checkpoint was not trained with older frames and looks at them because history.force is true: "
    "its actions may be worse than without."
)


def disabled_info(*, trained: bool) -> HistoryInfo:
    """History is off: by the settings, or because the checkpoint has none."""
    untrained = f"the checkpoint was not trained with older frames: it has no {CONFIG_NAME}"
    return HistoryInfo(why=NO_HISTORY.why if trained else untrained, trained=trained)


def enabled_info(
    settings: HistorySettings, weights: HistoryWeights, shape: ChunkShape, retention: RetentionPolicy
) -> HistoryInfo:
    """History is on: its sizes, and a warning where the weights are untrained."""
    trained = "history.enabled is true, and the checkpoint was trained with older frames"
    return HistoryInfo(
        enabled=True,
        why=trained if weights.trained else "history.force is true, though the checkpoint was not trained for it",
        trained=weights.trained,
        warning=None if weights.trained else WARNING,
        gate=settings.gate,
        chunk_tokens=shape.tokens,
        slots=shape.slots,
        window_frames=retention.window_frames,
        budget_bytes=retention.budget_bytes,
    )

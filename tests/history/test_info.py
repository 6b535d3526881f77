from __future__ import annotations

from stillframe.history.checkpoint import HistoryConfig, HistoryWeights
from stillframe.history.info import WARNING, disabled_info, enabled_info
from stillframe.history.settings import HistorySettings
from stillframe.history.store import ChunkShape, RetentionPolicy

CONFIG = HistoryConfig(3, 2, 8, chunk_tokens=6, slots=2, taps=(0,), extras=8, hidden=1)
SETTINGS = HistorySettings(enabled=True, gate="novelty", window_frames=3)


def test_why_it_is_off() -> None:
    """The configuration says so; but where the checkpoint could not do it either, that is what has to be mended."""
    able, unable = disabled_info(trained=True), disabled_info(trained=False)

    assert [(info.enabled, info.trained, info.warning) for info in (able, unable)] == [
        (False, True, None),
        (False, False, None),
    ]
    assert able.why == "history.enabled is false"
    assert "was not trained with older frames" in unable.why


def test_why_it_is_on(shape: ChunkShape) -> None:
    """What was trained says what it keeps; what was not says so too, and warns."""
    rules = RetentionPolicy(9 * shape.nbytes, window_frames=3)
    trained, made = (
        enabled_info(SETTINGS, HistoryWeights(CONFIG, trained=trained), shape, rules) for trained in (True, False)
    )

    assert (trained.enabled, trained.trained, trained.warning) == (True, True, None)
    assert (made.enabled, made.trained, made.warning) == (True, False, WARNING)
    assert "history.force" in made.why
    kept = (trained.gate, trained.chunk_tokens, trained.slots, trained.window_frames, trained.budget_bytes)
    assert kept == ("novelty", 6, 2, 3, 9 * shape.nbytes)

from __future__ import annotations

import numpy as np

from stillframe_lab.history.two_memories import DROPPED, select_shown
from stillframe_lab.history.two_memories_figure import EDGE_PX, GAP_PX, THUMB_PX, TOP_PX, Moment, OlderFrame, draw

GREY = np.full((28, 28, 3), 100, np.uint8)


def older(step: int, *, kept: bool) -> OlderFrame:
    """A grey frame."""
    return OlderFrame(step, GREY, 0.5, kept)


def test_all_that_are_kept_are_shown_and_a_few_that_are_not() -> None:
    """In their order, whoever is dropped evenly spread."""
    frames = [older(step, kept=step in (3, 40)) for step in range(1, 61)]
    shown = select_shown(frames)

    assert [one.step for one in shown if one.kept] == [3, 40]
    assert len(shown) == 2 + DROPPED
    assert [one.step for one in shown] == sorted(one.step for one in shown)
    assert shown[0].step == 1
    assert shown[-1].step == 60


def test_what_is_dropped_is_pale() -> None:
    """A kept frame has its own colours, one that is dropped is nearly white."""
    reused = np.zeros((2, 2), np.bool_)
    moment = Moment([older(1, kept=False), older(2, kept=True)], 2, GREY, GREY, reused, 8192)
    picture = np.asarray(draw(moment))
    middles = [EDGE_PX + index * (THUMB_PX + GAP_PX) + THUMB_PX // 2 for index in range(2)]
    dropped, kept = (picture[TOP_PX + THUMB_PX // 2, middle] for middle in middles)

    assert kept.tolist() == [100, 100, 100]
    assert (dropped > 200).all()

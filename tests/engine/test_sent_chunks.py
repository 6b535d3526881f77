"""What a session's last chunks hold the next one to: steps counted by the client, and why to nothing."""

from __future__ import annotations

import numpy as np
import pytest

from stillframe.domain import RtcReport, RtcRequest
from stillframe.engine.sent_chunks import MOST_CHUNKS, SentChunks
from stillframe.models.held_chunk import GuidanceRule, SampledChunk

HORIZON = 8
RULE = GuidanceRule()


def chunk(number: float = 0.0, key: str = "jaco") -> SampledChunk:
    """Eight actions of one number."""
    return SampledChunk(np.full((HORIZON, 1), number), key)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (RtcRequest(2, 3), (2, 3)),
        (RtcRequest(0, 3), (0, 5)),
        (RtcRequest(2, 3, horizon=3), (2, 1)),
        (RtcRequest(2, 3, horizon=8), (2, 3)),
        (RtcRequest(7, 6), (2, 0)),  # more delay than the old chunk reaches: what there is
        (RtcRequest(2, 3, horizon=2), (2, 0)),
    ],
    ids=str,
)
def test_how_many_steps_are_held(asked: RtcRequest, expected: tuple[int, int]) -> None:
    """The delay's are frozen and the rest of the old chunk guides, as far as it and the horizon reach."""
    sent = SentChunks()
    sent.keep(4, chunk())

    held, report = sent.hold(asked, "jaco", RULE)
    assert held is not None
    assert (held.frozen, held.guided) == expected
    assert report == RtcReport(*expected, chunk_seq=4)
    assert len(held.due) == sum(expected)


@pytest.mark.parametrize(
    ("asked", "key", "why"),
    [
        (RtcRequest(2, 8), "jaco", "played-out"),
        (RtcRequest(2, 10**12), "jaco", "played-out"),
        (RtcRequest(0, 3, horizon=0), "jaco", "nothing-asked"),
        (RtcRequest(2, 3, chunk_seq=3), "jaco", "unknown-chunk"),
        (RtcRequest(2, 3), "bridge", "other-statistics"),
    ],
    ids=str,
)
def test_why_nothing_is_held(asked: RtcRequest, key: str, why: str) -> None:
    """The chunk is then computed freely, and the reply says why."""
    sent = SentChunks()
    assert sent.hold(asked, key, RULE) == (None, RtcReport(why="no-chunk"))
    sent.keep(4, chunk())

    assert sent.hold(asked, key, RULE) == (None, RtcReport(why=why))  # type: ignore[arg-type]


def test_the_chunk_that_the_robot_plays_is_found_by_its_frame() -> None:
    """An answer that got lost is not what the next chunk goes on with; old ones are forgotten."""
    sent = SentChunks()
    for seq in range(MOST_CHUNKS + 1):
        sent.keep(seq, chunk(seq))

    for asked, number in ((RtcRequest(1, 1), 4.0), (RtcRequest(1, 1, chunk_seq=2), 2.0)):
        held, _ = sent.hold(asked, "jaco", RULE)
        assert held is not None
        assert held.due[0, 0] == number
    assert sent.hold(RtcRequest(1, 1, chunk_seq=0), "jaco", RULE)[1].why == "unknown-chunk"

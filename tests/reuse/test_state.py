from __future__ import annotations

from dataclasses import dataclass, field

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.domain import KeyframeReason
from stillframe.reuse.kv import FrameKV, KVShape
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.selection import TaskRelevance
from stillframe.reuse.similarity import PatchTokens
from stillframe.reuse.state import ReuseState

TOKENS, LAYERS = 6, 3
CPU = torch.device("cpu")
SAME = {KeyframeReason.MODE: "adaptive"}


def kv() -> FrameKV:
    """Some storage."""
    return FrameKV(KVShape(1, 1, 2, 4, torch.float32, CPU).allocate())


def tokens(number: int, *, pixels: bool = True) -> PatchTokens:
    """A frame whose rows and pixels all say its number."""
    rows = torch.full((TOKENS, 2), float(number))
    return PatchTokens(rows, torch.full((TOKENS, 3), number, dtype=torch.uint8) if pixels else None)


def delta(reused: list[int], counts: tuple[int, ...] | None = None) -> ReusePlan:
    """BOS and some tokens reused: token i sits at position i + 1."""
    order = torch.tensor([0, *[token + 1 for token in reused]])
    none = torch.zeros(TOKENS, dtype=torch.bool)
    counts = counts or (len(order),) * LAYERS
    return ReusePlan(TOKENS + 3, order, counts, torch.tensor(reused, dtype=torch.long), none, none)


def references(of: ReuseState) -> list[int]:
    """Which frame each token is compared with."""
    assert of.reference.pixels is not None
    assert of.reference.rows[:, 0].tolist() == of.reference.pixels[:, 0].tolist()
    return [int(number) for number in of.reference.rows[:, 0].tolist()]


def test_a_keyframe_is_remembered_whole() -> None:
    """Every token is of this frame, age 0; the frame's own rows may be overwritten afterwards."""
    frame = tokens(7)
    left = ReuseState.fresh(kv(), SAME, frame, time_s=3.0)
    frame.rows.zero_()

    assert references(left) == [7] * TOKENS
    assert left.ages.tolist() == [0] * TOKENS
    assert (left.since_dense, left.time_s, left.task_relevance) == (0, 3.0, None)


def test_a_reused_token_keeps_the_frame_that_it_came_from() -> None:
    """Others take over the new frame, so that a slow change is held against where it began."""
    left = ReuseState.fresh(kv(), SAME, tokens(0), 0.0)

    assert left.advance(delta([0, 2, 5]), tokens(1), 1.0, published=False) == 1
    assert references(left) == [0, 1, 0, 1, 1, 0]
    assert left.ages.tolist() == [1, 0, 1, 0, 0, 1]
    assert left.advance(delta([2, 3]), tokens(2), 2.5, published=False) == 2
    assert references(left) == [2, 2, 0, 1, 2, 2]
    assert left.ages.tolist() == [0, 0, 2, 1, 0, 0]
    assert (left.since_dense, left.time_s) == (2, 2.5)


def test_as_published_the_reference_is_the_last_frame() -> None:
    """VLA-Cache compares with frame t - 1 whatever the age; the ages are counted all the same."""
    left = ReuseState.fresh(kv(), SAME, tokens(0), 0.0)
    left.advance(delta([0, 2, 5]), tokens(1), 1.0, published=True)

    assert references(left) == [1] * TOKENS
    assert left.ages.tolist() == [1, 0, 1, 0, 0, 1]


def test_a_token_reused_in_the_last_layer_alone_is_reused() -> None:
    """Its deepest keys and values are old, so it is as old as they are."""
    left = ReuseState.fresh(kv(), SAME, tokens(0), 0.0)
    left.advance(delta([4, 1, 3], (1, 2, 3)), tokens(1), 1.0, published=False)

    assert references(left) == [1, 0, 1, 1, 0, 1]
    assert left.ages.tolist() == [0, 1, 0, 0, 1, 0]


def test_a_refresh_makes_everything_new() -> None:
    """Storage is exchanged and the old one handed back; ages 0, references the last frame's; the time stays."""
    first, second = kv(), kv()
    left = ReuseState.fresh(first, SAME, tokens(0), 0.0)
    left.advance(delta([0, 1, 2, 3]), tokens(1), 1.0, published=False)

    attended = TaskRelevance(Relevance(torch.ones(TOKENS), torch.ones(1)), torch.ones(TOKENS, dtype=torch.bool), TOKENS)

    assert left.refreshed(second, tokens(1), attended) is first
    assert left.task_relevance is attended
    assert left.kv is second
    assert references(left) == [1] * TOKENS
    assert left.ages.tolist() == [0] * TOKENS
    assert (left.since_dense, left.time_s) == (0, 1.0)


def test_frames_without_pixels_are_remembered_without() -> None:
    """Where no criterion asks for pixels none are kept."""
    left = ReuseState.fresh(kv(), SAME, tokens(0, pixels=False), 0.0)
    left.advance(delta([1]), tokens(1, pixels=False), 1.0, published=False)
    left.refreshed(kv(), tokens(2, pixels=False), None)

    assert left.reference.pixels is None
    assert left.reference.rows[:, 0].tolist() == [2] * TOKENS


@dataclass
class Book:
    """When each token was last computed, kept by hand."""

    born: list[int] = field(default_factory=lambda: [0] * TOKENS)


@settings(max_examples=settings().max_examples // 2)
@given(
    st.lists(st.permutations(range(TOKENS)).flatmap(lambda p: st.integers(0, TOKENS).map(lambda n: p[:n])), max_size=8)
)
def test_ages_are_frames_since_a_token_was_computed(walk: list[list[int]]) -> None:
    """For any run of plans: age, reference and greatest age say when each token's KV was computed."""
    left, book = ReuseState.fresh(kv(), SAME, tokens(0), 0.0), Book()
    for now, reused in enumerate(walk, start=1):
        oldest = left.advance(delta(reused), tokens(now), float(now), published=False)
        book.born = [born if token in reused else now for token, born in enumerate(book.born)]

        assert references(left) == book.born
        assert left.ages.tolist() == [now - born for born in book.born]
        assert oldest == now - min(book.born)

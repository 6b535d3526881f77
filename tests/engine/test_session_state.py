from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stillframe.domain import KeyframeReason, SessionRef
from stillframe.engine.session_state import SessionState, VisionCache
from stillframe.engine.session_table import SessionTable
from stillframe.models.base import Prepared
from stillframe.models.llama.layout import TokenLayout

BUDGET = 0.02


@dataclass
class Book:
    """Room for three, and who went."""

    gone: list[SessionState] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sessions: SessionTable = SessionTable(BUDGET, self.gone.append, most=3)

    def see(self, *robots: str) -> list[SessionState]:
        """A frame of each, as far as this room sees it."""
        return [self.sessions.at(SessionRef(robot)) for robot in robots]


@pytest.fixture
def book() -> Book:
    """Nobody in it."""
    return Book()


def test_a_session_goes_on(book: Book) -> None:
    """What one frame left is there for the next; the last frame's place is known."""
    first = book.sessions.at(SessionRef("a", seq=4))
    first.cause = None
    second = book.sessions.at(SessionRef("a", seq=9, mode="exact"))

    assert second is first
    assert second.cause is None
    assert second.ref == SessionRef("a", seq=9, mode="exact")
    assert (len(book.sessions), book.gone) == (1, [])


def test_another_epoch_is_a_reset(book: Book) -> None:
    """Whole, whichever epoch it is; the caution is a robot's, not an episode's."""
    session = book.sessions.at(SessionRef("a"))
    session.cause = None
    session.caution.record(1.0)
    fresh = book.sessions.at(SessionRef("a", epoch=2))

    assert fresh.cause is KeyframeReason.RESET
    assert fresh.caution.level > 0
    assert fresh.caution.budget == BUDGET


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_reset_leaves_nothing_of_the_episode(book: Book, epoch: int) -> None:
    """Later or earlier, another epoch is another: no guesses and no older frames, for whatever reason it was whole."""
    session = book.sessions.at(SessionRef("a", epoch=1))
    drafts, session.cause = session.drafts, KeyframeReason.INTEGRITY
    session.history = object()  # type: ignore[assignment]  # whatever it is, it was the last episode's
    assert book.sessions.at(SessionRef("a", epoch=epoch)) is session

    assert session.cause is KeyframeReason.RESET
    assert session.history is None
    assert session.drafts is not drafts


@pytest.mark.parametrize("opening", [KeyframeReason.FIRST_FRAME, KeyframeReason.EVICTED])
def test_the_first_frame_opens(book: Book, opening: KeyframeReason) -> None:
    """For the reason it brings, though its robot should have been reset before it ever drove."""
    session = book.sessions.at(SessionRef("a", epoch=3, opening=opening))

    assert session.cause is opening


def test_another_serial_is_another_session(book: Book) -> None:
    """The earlier one of that id is gone, whatever it held; nothing of it is left in the new one."""
    (old,) = book.see("a")
    old.cause, old.pending = None, "something"
    old.caution.record(1.0)
    new = book.sessions.at(SessionRef("a", serial=1, opening=KeyframeReason.EVICTED))

    assert book.gone == [old]
    assert (new.cause, new.pending, new.caution.level) == (KeyframeReason.EVICTED, None, 0)
    assert book.sessions.known("a") is new


def test_the_longest_idle_goes_where_there_are_too_many(book: Book) -> None:
    """Three may stay; each frame counts, not only the first. One that comes back begins anew."""
    book.see(*"abcad")
    assert [session.ref.id for session in book.gone] == ["b"]
    (back,) = book.see("b")

    assert back.cause is KeyframeReason.FIRST_FRAME
    assert [session.ref.id for session in book.gone] == ["b", "c"]
    assert len(book.sessions) == 3


def test_who_is_forgotten_was_never_here(book: Book) -> None:
    """Once is enough, and nobody minds to forget a stranger."""
    (session,) = book.see("a")
    for robot in "aax":
        book.sessions.remove(robot)

    assert book.gone == [session]
    assert len(book.sessions) == 0
    assert book.sessions.known("a") is None


def test_who_has_something_left_to_do_is_found(book: Book) -> None:
    """The longest idle of those that do; none where none does."""
    known = dict(zip("abc", book.see(*"abc"), strict=True))
    assert book.sessions.pending() is None
    known["c"].pending = "something"
    known["b"].pending = "something"

    assert book.sessions.pending() is known["b"]
    book.see("b")
    assert book.sessions.pending() is known["c"]
    assert book.sessions.longest_idle() is None
    assert book.sessions.holding == 0


def test_who_holds_something_and_is_not_busy_is_idle(book: Book) -> None:
    """The longest idle of those; of the others none, however long ago they were here."""
    known = dict(zip("abc", book.see(*"abc"), strict=True))
    for robot in "bc":
        known[robot].reuse = object()  # type: ignore[assignment]  # whatever it is, it is held

    assert book.sessions.longest_idle() is known["b"]
    assert book.sessions.longest_idle(but="b") is known["c"]
    assert book.sessions.longest_idle(but="bc") is None
    assert book.sessions.holding == 2


ROWS = torch.zeros(6, 2)


def shown(words: tuple[int, ...] = (1, 7), **views: int) -> Prepared:
    """A frame whose pictures are of one grey each, and its text."""
    pictures = {camera: np.full((2, 2, 3), grey, np.uint8) for camera, grey in views.items()}
    layout = TokenLayout({"front": range(1, 5)}, (2, 2), text=range(5, 6), action=range(6, 13))
    return Prepared(pictures, torch.empty(0), torch.tensor(words), layout, "toy", np.zeros(7, np.int64))


@pytest.mark.parametrize(
    ("frame", "alike"),
    [
        (shown(front=3), True),
        (shown(front=4), False),
        (shown(wrist=3), False),
        (shown(front=3, wrist=3), False),
        (shown((1, 8), front=3), False),
        (shown((1, 7, 7), front=3), False),
    ],
    ids=["same", "pixels", "camera", "cameras", "word", "words"],
)
def test_a_frame_is_recognised_by_all_that_it_shows(frame: Prepared, *, alike: bool) -> None:
    """Cameras, pixels and text, all of them and no others."""
    seen = VisionCache.of(shown(front=3), ROWS)

    assert (seen.rows_of(frame) is ROWS) is alike


def test_fewer_cameras_are_others() -> None:
    """One that was there is missing, the other is as it was."""
    seen = VisionCache.of(shown(front=3, wrist=3), ROWS)

    found = seen.rows_of(shown(front=3))

    assert isinstance(found, Prepared)
    assert [*found.known] == ["front"]
    assert torch.equal(found.known["front"], ROWS[1:5])


def test_what_was_seen_is_nothing_that_is_drawn_over() -> None:
    """A simulator may render the next picture into the same memory."""
    frame = shown(front=3)
    seen = VisionCache.of(frame, ROWS)
    frame.views["front"][:] = 4

    assert isinstance(seen.rows_of(frame), Prepared)
    assert seen.rows_of(shown(front=3)) is ROWS


def test_a_picture_is_recognised_once(book: Book) -> None:
    """Until its frame has been answered: what failed is looked at again."""
    (session,) = book.see("a")
    frame = shown(front=3)
    assert session.take_vision_rows(frame) is frame
    session.vision = VisionCache.of(shown(front=3), ROWS)

    assert session.take_vision_rows(frame) is ROWS
    assert session.take_vision_rows(frame) is frame


def test_a_picture_is_known_beside_other_words() -> None:
    """Its patches' rows are taken over, those of another picture are not; the text is embedded anew."""
    seen = VisionCache.of(shown(front=3), ROWS)
    words, moved = seen.rows_of(shown((1, 8), front=3)), seen.rows_of(shown((1, 8), front=4))

    assert isinstance(words, Prepared)
    assert isinstance(moved, Prepared)
    assert ([*words.known], [*moved.known]) == (["front"], [])


@pytest.mark.parametrize(("has_row", "alike"), [(True, False), (False, True)])
def test_a_state_counts_where_it_has_a_row(*, has_row: bool, alike: bool) -> None:
    """Where the prompt has none for it, another state leaves the prompt as it was."""
    frame = shown(front=3)
    layout = replace(frame.layout, state=range(5, 6) if has_row else range(0))
    before, after = (replace(frame, layout=layout, state=torch.tensor([number])) for number in (0.0, 1.0))

    assert (VisionCache.of(before, ROWS).rows_of(after) is ROWS) is alike


def test_pixels_count_where_views_are_rounded() -> None:
    """Two pictures may round to the same bytes."""
    one = replace(shown(front=3), pixels=torch.zeros(1, 3, 2, 2), rounded_views=True)
    other = replace(one, pixels=torch.full((1, 3, 2, 2), 1e-4))
    seen = VisionCache.of(one, ROWS)

    assert seen.rows_of(replace(one, pixels=one.pixels.clone())) is ROWS
    assert isinstance(found := seen.rows_of(other), Prepared)
    assert not found.known


frames = st.tuples(st.sampled_from("abcde"), st.integers(0, 2), st.integers(0, 2))


@given(st.lists(frames | st.sampled_from("abcde"), max_size=40))
def test_everybody_is_known_or_gone(calls: list[tuple[str, int, int] | str]) -> None:
    """Whatever comes: three at most, who was just here among them, and who went was handed over once."""
    book, begun = Book(), []
    for call in calls:
        if isinstance(call, str):
            book.sessions.remove(call)
            assert book.sessions.known(call) is None
            continue
        robot, epoch, serial = call
        ref = SessionRef(robot, epoch=epoch, serial=serial)
        session = book.sessions.at(ref)
        begun += [session] if not any(session is one for one in begun) else []
        assert (session.ref, book.sessions.known(robot)) == (ref, session)
        assert len(book.sessions) <= 3
    known = [session for robot in "abcde" if (session := book.sessions.known(robot)) is not None]

    assert sorted(map(id, [*book.gone, *known])) == sorted(map(id, begun))
    assert len(known) == len(book.sessions)


def test_a_thousand_strangers_leave_three(book: Book) -> None:
    """A daemon whose sessions nobody ends does not grow."""
    for number in range(1000):
        book.see(f"stranger {number}")

    assert len(book.sessions) == 3
    assert len(book.gone) == 997

from __future__ import annotations

from dataclasses import dataclass

import pytest

from stillframe.transport.connections import Connections, Stage


@dataclass(eq=False)
class Line:
    """A connection that only says how it stands."""

    address: str = "10.0.0.1"
    stage: Stage = Stage.SILENT
    since_s: float = 0.0
    was_cut: bool = False

    def cut(self) -> None:
        """Note it."""
        self.was_cut = True


def filled(*lines: Line, most_bytes: int = 100) -> Connections:
    """A book that these lines fill."""
    book = Connections(most=len(lines), most_bytes=most_bytes)
    assert all(book.enter(line) for line in lines)
    return book


def test_there_are_as_many_as_may_be() -> None:
    """One more finds no room where all are answered for; when one has gone, it does."""
    lines = [Line(stage=Stage.ANSWERED_FOR) for _ in range(3)]
    book = filled(*lines)

    assert not book.enter(Line())
    assert (len(book), book.refused, book.displaced) == (3, 1, 0)
    book.leave(lines[1])
    assert book.enter(Line())
    assert len(book) == 3


@pytest.mark.parametrize("lower", list(Stage)[:-1])
def test_the_lowest_stage_gives_way(lower: Stage) -> None:
    """Silent before idle, idle before a body under way; what is answered for never."""
    others = [Line(stage=stage, since_s=-9.0) for stage in Stage if stage > lower]
    yielding = Line(stage=lower)
    book = filled(*others, yielding)

    assert book.enter(Line())
    assert [line.was_cut for line in [*others, yielding]] == [False] * len(others) + [True]
    assert book.displaced == 1


def test_of_one_stage_the_oldest_gives_way() -> None:
    """By how long it has been in that stage, not by when it came."""
    lines = [Line(since_s=s) for s in (5.0, 1.0, 3.0)]
    book = filled(*lines)
    book.enter(Line(since_s=9.0))

    assert [line.was_cut for line in lines] == [False, True, False]


def test_the_address_that_has_most_gives_way() -> None:
    """A flood displaces itself: a robot's idle connection stays, though it is older and further down."""
    robot = Line("10.0.0.9", Stage.SILENT, since_s=-100.0)
    flood = [Line(stage=Stage.IDLE, since_s=float(n)) for n in range(4)]
    book = filled(robot, *flood)
    for _ in range(20):
        assert book.enter(Line(stage=Stage.IDLE, since_s=50.0))

    assert not robot.was_cut
    assert all(line.was_cut for line in flood)


def test_where_the_fullest_address_has_nothing_to_give_another_does() -> None:
    """All of its connections wait for answers: the newcomer gets the place of somebody's silent one."""
    busy = [Line(stage=Stage.ANSWERED_FOR) for _ in range(3)]
    silent = Line("10.0.0.2")
    book = filled(*busy, silent)

    assert book.enter(Line("10.0.0.3"))
    assert silent.was_cut


def test_over_the_limit_of_bytes_the_largest_is_cut() -> None:
    """What a connection holds now counts, not what it held; the others go on."""
    small, growing = Line(), Line()
    book = filled(small, growing, most_bytes=100)
    book.holds(growing, 90)
    book.holds(growing, 10)
    book.holds(small, 40)
    assert not growing.was_cut
    book.holds(growing, 61)

    assert (small.was_cut, growing.was_cut) == (False, True)
    assert len(book) == 1
    book.holds(growing, 1000)  # a word from one that has left changes nothing
    assert not small.was_cut
    assert (len(book), book.displaced) == (1, 1)


def test_as_many_bytes_as_may_be_are_held() -> None:
    """By all together; one more is too many."""
    one, other = Line(), Line()
    book = filled(one, other, most_bytes=100)
    book.holds(one, 60)
    book.holds(other, 40)
    assert book.displaced == 0
    book.holds(other, 41)

    assert (one.was_cut, other.was_cut) == (True, False)

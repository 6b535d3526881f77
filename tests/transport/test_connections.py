from __future__ import annotations

from dataclasses import dataclass

import pytest

from stillframe.transport.connections import ConnectionTable, Stage


@dataclass(eq=False)
class Line:
    """A connection that only says how it stands."""

    address: str = "10.0.0.1"
    stage: Stage = Stage.NEW
    since_s: float = 0.0
    was_cut: bool = False

    def abort(self) -> None:
        """Note it."""
        self.was_cut = True


def filled(*lines: Line, max_bytes: int = 100) -> ConnectionTable:
    """A table that these lines fill."""
    table = ConnectionTable(capacity=len(lines), max_bytes=max_bytes)
    assert all(table.add(line) for line in lines)
    return table


def test_there_are_as_many_as_may_be() -> None:
    """One more finds no room where all are answered for; when one has gone, it does."""
    lines = [Line(stage=Stage.BUSY) for _ in range(3)]
    table = filled(*lines)

    assert not table.add(Line())
    assert (len(table), table.refused, table.displaced) == (3, 1, 0)
    table.remove(lines[1])
    assert table.add(Line())
    assert len(table) == 3


@pytest.mark.parametrize("lower", list(Stage)[:-1])
def test_the_lowest_stage_gives_way(lower: Stage) -> None:
    """Silent before idle, idle before a body under way; what is answered for never."""
    others = [Line(stage=stage, since_s=-9.0) for stage in Stage if stage > lower]
    yielding = Line(stage=lower)
    table = filled(*others, yielding)

    assert table.add(Line())
    assert [line.was_cut for line in [*others, yielding]] == [False] * len(others) + [True]
    assert table.displaced == 1


def test_of_one_stage_the_oldest_gives_way() -> None:
    """By how long it has been in that stage, not by when it came."""
    lines = [Line(since_s=s) for s in (5.0, 1.0, 3.0)]
    table = filled(*lines)
    table.add(Line(since_s=9.0))

    assert [line.was_cut for line in lines] == [False, True, False]


def test_the_address_that_has_most_gives_way() -> None:
    """A flood displaces itself: a robot's idle connection stays, though it is older and further down."""
    robot = Line("10.0.0.9", Stage.NEW, since_s=-100.0)
    flood = [Line(stage=Stage.IDLE, since_s=float(n)) for n in range(4)]
    table = filled(robot, *flood)
    for _ in range(20):
        assert table.add(Line(stage=Stage.IDLE, since_s=50.0))

    assert not robot.was_cut
    assert all(line.was_cut for line in flood)


def test_where_the_fullest_address_has_nothing_to_give_another_does() -> None:
    """All of its connections wait for answers: the newcomer gets the place of somebody's silent one."""
    busy = [Line(stage=Stage.BUSY) for _ in range(3)]
    silent = Line("10.0.0.2")
    table = filled(*busy, silent)

    assert table.add(Line("10.0.0.3"))
    assert silent.was_cut


def test_over_the_limit_of_bytes_the_largest_is_cut() -> None:
    """What a connection holds now counts, not what it held; the others go on."""
    small, growing = Line(), Line()
    table = filled(small, growing, max_bytes=100)
    table.set_buffered(growing, 90)
    table.set_buffered(growing, 10)
    table.set_buffered(small, 40)
    assert not growing.was_cut
    table.set_buffered(growing, 61)

    assert (small.was_cut, growing.was_cut) == (False, True)
    assert len(table) == 1
    table.set_buffered(growing, 1000)  # a word from one that has left changes nothing
    assert not small.was_cut
    assert (len(table), table.displaced) == (1, 1)


def test_as_many_bytes_as_may_be_are_held() -> None:
    """By all together; one more is too many."""
    one, other = Line(), Line()
    table = filled(one, other, max_bytes=100)
    table.set_buffered(one, 60)
    table.set_buffered(other, 40)
    assert table.displaced == 0
    table.set_buffered(other, 41)

    assert (one.was_cut, other.was_cut) == (True, False)

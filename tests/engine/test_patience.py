"""Robots with actions left to play let frames go first whose robots have fewer, and none of them waits in vain."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.engine.queue import FairQueue

KEYS = "abcdef"


@dataclass(eq=False)
class Item:
    """A frame whose robot has actions until then."""

    key: str
    until_s: float = 0.0


class Line:
    """A queue and its clock; an item takes a second."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.fair: FairQueue[Item] = FairQueue(64, patience_s=lambda item: item.until_s - self.now_s)

    def put(self, key: str, slack_s: float = 0.0, share: str | None = None) -> None:
        """A frame comes, of a robot with so much slack."""
        self.fair.put(key, Item(key, self.now_s + slack_s), share)

    def take(self, count: int = 1) -> str:
        """Who is served in the next seconds."""
        served = ""
        for _ in range(count):
            served += self.fair.next()[0].key
            self.now_s += 1.0
        return served


def test_less_slack_goes_first() -> None:
    """Whatever came first: none, then little, then much."""
    line = Line()
    line.put("a", 30.0)
    line.put("b", 20.0)
    line.put("c")
    line.put("d", 10.0)

    assert line.take(4) == "cdba"


def test_alone_slack_costs_nothing() -> None:
    """What can be computed now is, whoever could wait."""
    line = Line()
    line.put("a", 1000.0)

    assert line.take() == "a"


def test_a_flood_of_frames_without_slack_delays_one_by_its_slack_at_most() -> None:
    """As its slack is over it is the one that waits longest, and goes next."""
    line = Line()
    line.put("a", 5.0)
    served = ""
    for _ in range(8):
        line.put("b")
        line.put("c")
        served += line.take()

    assert served.index("a") == 5


def test_it_is_true_of_a_callers_share_too() -> None:
    """Under one share's many keys, a robot of another goes as its slack is over."""
    line = Line()
    line.put("a", 3.0, "other")
    served = ""
    for number in range(6):
        line.put(str(number), 0.0, "flood")
        served += line.take()

    assert served.index("a") == 3


@given(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=30), shares=st.integers(1, 3))
def test_without_slack_nothing_changes(keys: list[str], shares: int) -> None:
    """Clients that say nothing are served in the order in which they always were."""
    line, plain = Line(), FairQueue[Item](64)
    for key in keys:
        share = str(KEYS.index(key) % shares)
        line.put(key, 0.0, share)
        plain.put(key, Item(key), share)

    assert line.take(len(keys)) == "".join(plain.next()[0].key for _ in keys)


@given(slacks=st.lists(st.floats(0, 20), min_size=1, max_size=len(KEYS)), flood=st.integers(1, 3))
def test_none_is_starved(slacks: list[float], flood: int) -> None:
    """Each is served within its slack and a turn of every other, though others ask again as they are served."""
    line = Line()
    for key, slack_s in zip(KEYS, slacks, strict=False):
        line.put(key, slack_s)
    waiting, others = set(KEYS[: len(slacks)]), [f"{number}" for number in range(flood)]
    for other in others:
        line.put(other)
    served_s: dict[str, float] = {}
    while waiting - served_s.keys():
        began_s, key = line.now_s, line.take()
        if key in others:
            line.put(key)
        else:
            served_s[key] = began_s

    for key, slack_s in zip(KEYS, slacks, strict=False):
        assert served_s[key] <= slack_s + len(slacks) + len(others) + 1


@pytest.mark.parametrize("claim_s", [-1.0, 0.0])
def test_to_claim_no_slack_gains_nothing(claim_s: float) -> None:
    """It is what a client says that says nothing: turns go round."""
    line = Line()
    for key in "aab":
        line.put(key, claim_s if key == "a" else 0.0)

    assert line.take(3) == "aba"

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.engine.queue import LATELY, MOST_KNOWN, OFTEN, Line
from stillframe.errors import NotReady, Overloaded

WAIT_S = 20  # for what has to happen; no test waits this long unless it fails
KEYS = "abcd"


@dataclass(eq=False)
class Item:
    """Something that waits."""

    key: Hashable
    name: str = ""

    def __str__(self) -> str:
        return f"{self.key}{self.name}"


def lined_up(line: Line[Item], order: str) -> list[Item]:
    """Enter one after another, by key; each is named by its number among its key's."""
    items = [Item(key, str(order[:at].count(key))) for at, key in enumerate(order)]
    for item in items:
        assert line.enter(item.key, item) is None
    return items


def give_up(line: Line[Item], item: Item) -> bool:
    """Do not wait any more; say whether it still had a place."""
    return line.leave(item.key, lambda one: one is item)


def taken(line: Line[Item], count: int | None = None) -> str:
    """Who is due, one after another; all that wait, unless so many."""
    names = []
    while line.wanted and not (line.closed and not line.waiting) and count != 0:
        names.append(str(line.next()[0]))
        count = None if count is None else count - 1
    return " ".join(names)


def test_one_key_is_served_in_order() -> None:
    """First come, first served."""
    line: Line[Item] = Line(8)
    lined_up(line, "aaaa")

    assert taken(line) == "a0 a1 a2 a3"


def test_keys_take_turns() -> None:
    """However many one has, and however early it came."""
    line: Line[Item] = Line(16)
    lined_up(line, "aaaaabbc")

    assert taken(line) == "a0 b0 c0 a1 b1 a2 a3 a4"


def test_a_newcomer_comes_before_the_next_of_who_is_being_served() -> None:
    """A robot that sends its next frame at once does not pass one that came while it was served."""
    line: Line[Item] = Line(8)
    lined_up(line, "aaa")
    assert taken(line, 1) == "a0"
    lined_up(line, "b")

    assert taken(line) == "b0 a1 a2"


def test_ever_new_keys_hold_nobody_up() -> None:
    """A client that comes as somebody else each time is served behind who waited already, each time."""
    line: Line[Item] = Line(8)
    lined_up(line, "xa")
    served = []
    for number in range(8):
        line.enter(number, Item(number))
        served.append(taken(line, 1))
        if served[-1].startswith("a"):
            lined_up(line, "a")

    assert served == ["x0", "a0", "0", "1", "2", "a0", "3", "4"]


def test_a_new_frame_takes_the_turn_of_one_given_up() -> None:
    """A robot whose newest frame replaces the one that waits is not sent back to the end each time."""
    line: Line[Item] = Line(8)
    lined_up(line, "x")
    assert taken(line) == "x0"
    older, _ = lined_up(line, "ab")
    for number in range(5):
        give_up(line, older)
        older = Item("a", f" newer {number}")
        line.enter("a", older)

    assert taken(line) == "a newer 4 b0"


def test_who_gave_up_leaves_room_at_once() -> None:
    """Its place, and nothing else of it, is free; whoever was behind it moves up."""
    line: Line[Item] = Line(3)
    first, second, _ = lined_up(line, "aab")
    with pytest.raises(Overloaded):
        line.enter("b", Item("b"))
    give_up(line, first)
    assert [str(item) for item in line.waiting] == ["a1", "b0"]
    line.enter("c", Item("c"))
    give_up(line, second)

    assert taken(line) == "b0 c"
    assert not line.wanted


def test_who_was_called_cannot_give_its_place_up() -> None:
    """It has none."""
    line: Line[Item] = Line(2)
    first, _ = lined_up(line, "aa")
    assert line.next() == [first]
    assert not give_up(line, first)

    assert taken(line) == "a1"


def test_a_full_line_refuses_whoever_has_most() -> None:
    """And says how many wait, when to come again, and that nobody is displaced for it."""
    line: Line[Item] = Line(3)
    lined_up(line, "aab")
    with pytest.raises(Overloaded, match="3 frames wait already") as refused:
        line.enter("a", Item("a"))

    assert refused.value.code == "overloaded"
    assert refused.value.retry_after_s is not None
    assert taken(line) == "a0 b0 a1"


def test_who_has_most_makes_room_in_a_full_line() -> None:
    """Its last goes, for one that has none; where everybody has one, one more is refused."""
    line: Line[Item] = Line(4)
    _, second, third, _ = lined_up(line, "aaab")

    assert line.enter("c", Item("c")) is third
    with pytest.raises(Overloaded):
        line.enter("b", Item("b"))
    assert line.enter("d", Item("d")) is second
    with pytest.raises(Overloaded):
        line.enter("e", Item("e"))
    assert taken(line) == "a0 b0 c d"


def test_an_errand_comes_behind_what_waits_of_its_key() -> None:
    """In its order among them; it needs no place and costs no turn."""
    line: Line[Item] = Line(4)
    lined_up(line, "aab")
    line.errand("a", Item("a", " errand"))
    lined_up(line, "a")

    assert taken(line) == "a0 b0 a1 a errand a0"


def test_an_errand_with_nothing_before_it_is_done_at_once() -> None:
    """Before all frames, also those of its key that come later; a full line takes it."""
    line: Line[Item] = Line(2)
    lined_up(line, "bb")
    line.errand("a", Item("a", " errand"))
    assert line.wanted

    assert taken(line, 2) == "a errand b0"
    lined_up(line, "a")
    assert taken(line) == "a0 b1"


def test_an_errand_outlives_what_was_before_it() -> None:
    """Whoever it waited for gave up: it moves up to the one before, and to the front where there is none."""
    line: Line[Item] = Line(4)
    *_, one, two = lined_up(line, "baa")
    line.errand("a", Item("a", " errand"))
    give_up(line, two)
    assert taken(line, 1) == "b0"
    give_up(line, one)

    assert taken(line) == "a errand"


def test_a_closed_line_is_served_to_its_end() -> None:
    """Nobody enters, who waits is called, then nobody is."""
    line: Line[Item] = Line(4)
    lined_up(line, "ab")
    line.errand("b", Item("b", " errand"))
    line.close()
    with pytest.raises(NotReady) as refused:
        line.enter("a", Item("a"))

    assert refused.value.code == "draining"
    assert line.closed
    assert [[str(item) for item in line.next()] for _ in range(5)] == [["a0"], ["b0"], ["b errand"], [], []]


def test_a_key_of_which_something_waits_is_not_forgotten() -> None:
    """Its turn stays as it is: before those that came later."""
    line: Line[Item] = Line(4)
    lined_up(line, "ab")
    line.forget("a")

    assert line.keys == 2
    assert taken(line) == "a0 b0"


class Watched(Line[Item]):
    """Tells when it has been looked whether anything waits: who looked has the lock until it waits itself."""

    def __init__(self, most: int):
        super().__init__(most)
        self.looked = threading.Event()

    @property
    def wanted(self) -> bool:
        """As it is."""
        self.looked.set()
        return super().wanted


@pytest.mark.parametrize("how", ["enter", "errand", "close"])
def test_whoever_asks_waits_until_there_is_somebody(how: str) -> None:
    """And is woken by a frame, an errand and the end."""
    line, item, called = Watched(2), Item("a"), queue.SimpleQueue[list[Item]]()
    threading.Thread(target=lambda: called.put(line.next()), daemon=True).start()
    assert line.looked.wait(WAIT_S)
    if how == "close":
        line.close()
    else:
        getattr(line, how)("a", item)

    assert called.get(timeout=WAIT_S) == ([] if how == "close" else [item])


def test_ten_thousand_keys_are_not_all_remembered() -> None:
    """Of those that are forgotten nothing is left; of the others the last turns, up to a bound."""
    line: Line[Item] = Line(4)
    for number in range(10_000):
        item = Item(number)
        line.enter(number, item)
        if number % 100 < 50:
            give_up(line, item)
        else:
            assert line.next() == [item]
        assert line.keys <= MOST_KNOWN + 4
    for number in range(10_000):
        line.forget(number)

    assert line.keys == 0
    assert not line.wanted


def test_what_waits_is_known_however_many_come() -> None:
    """Keys are forgotten of which nothing waits; who has waited through all of them has its turn, and the first one."""
    line: Line[Item] = Line(3)
    lined_up(line, "ab")
    for number in range(MOST_KNOWN + 10):
        item = Item(number)
        line.enter(number, item)
        give_up(line, item)

    assert line.keys == MOST_KNOWN + 3
    assert taken(line) == "a0 b0"


def test_whoever_asks_seldom_goes_before_whoever_asks_always() -> None:
    """The key whose last turn is longest ago is next, whoever lined up first; a new key's counts from its coming."""
    line: Line[Item] = Line(8)
    seldom, *often = [Item("seldom"), *(Item("often") for _ in range(4))]
    line.enter("seldom", seldom)
    assert line.next() == [seldom]
    for item in often[:2]:
        line.enter("often", item)
        assert line.next() == [item]
    line.enter("often", often[2])
    late, new = Item("seldom"), Item("new")
    line.enter("new", new)
    line.enter("seldom", late)

    assert [line.next()[0] for _ in range(3)] == [late, new, often[2]]


def test_threads_that_enter_at_once_are_all_called() -> None:
    """Four keys on four threads and one that calls: each once, each key's in its order."""
    line: Line[Item] = Line(1000)
    got: list[Item] = []

    def call() -> None:
        while items := line.next(lambda taken, _: len(taken) < 3):
            got.extend(items)

    device = threading.Thread(target=call)
    device.start()
    with ThreadPoolExecutor(4) as robots:
        for _ in robots.map(lambda key: lined_up(line, key * 200), KEYS):
            pass
    line.close()
    device.join(WAIT_S)

    assert not device.is_alive()
    for key in KEYS:
        assert [item.name for item in got if item.key == key] == [str(number) for number in range(200)]


def check(items: list[Item], inside: list[Item], frames: set[Item], plural: str) -> None:
    """What was called together is due: take it out of `inside`."""
    assert items
    assert len(items) == 1 or frames.issuperset(items)
    assert max(Counter(item.key for item in items if item.key not in plural).values(), default=1) == 1
    for item in items:
        assert item is next(one for one in inside if one.key == item.key)
        inside.remove(item)


calls = st.lists(
    st.tuples(st.just("enter"), st.sampled_from(KEYS))
    | st.tuples(st.just("errand"), st.sampled_from(KEYS))
    | st.tuples(st.just("give up"), st.integers(0, 100))
    | st.just(("take", 0)),
    max_size=60,
)


@settings(max_examples=3 * settings().max_examples)
@given(calls, st.integers(1, 6), st.integers(1, 4), st.sampled_from(["", "b"]))
def test_everything_that_stays_is_called_once_and_in_order(
    script: list[tuple[str, str | int]], most: int, together: int, plural: str
) -> None:
    """Against a plain list: within a key in the order of entry, errands between; no more wait than may.

    Of what is called together one is of each key, but of a plural one; errands come alone.
    """
    line: Line[Item] = Line(most, plural.__contains__)
    inside: list[Item] = []
    frames: set[Item] = set()

    def take() -> None:
        items = line.next(lambda taken, _: len(taken) < together)
        check(items, inside, frames, plural)
        assert len(items) <= together
        frames.difference_update(items)

    for what, whom in script:
        if what == "enter":
            item = Item(whom)
            try:
                displaced = line.enter(whom, item)
            except Overloaded:
                assert len(frames) == most
                continue
            if displaced is not None:
                inside.remove(displaced)
                frames.remove(displaced)
            inside.append(item)
            frames.add(item)
        elif what == "errand":
            inside.append(Item(whom))
            line.errand(whom, inside[-1])
        elif what == "give up" and frames:
            waiting = [item for item in inside if item in frames]
            chosen = waiting[int(whom) % len(waiting)]
            give_up(line, chosen)
            inside.remove(chosen)
            frames.remove(chosen)
        elif what == "take" and inside:
            take()
        assert {id(item) for item in line.waiting} == {id(item) for item in frames}
        assert line.wanted is bool(inside)
        assert len(frames) <= most
    while inside:
        take()

    assert not line.wanted


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(st.sampled_from([*KEYS, *KEYS, "flood", "flood", "take"]), max_size=80))
def test_nobody_is_held_up_by_anothers_many(script: list[str]) -> None:
    """A frame waits for at most one of each other key, and for one more behind each of its own that waited already."""
    line: Line[Item] = Line(1000)
    since: dict[Item, Counter[Hashable]] = {}  # what was called since somebody lined up
    before: dict[Item, int] = {}  # how many of its own waited then

    def take() -> None:
        (item,) = line.next()
        ahead = since.pop(item)
        assert all(count <= 1 + before[item] for key, count in ahead.items() if key != item.key)
        for counts in since.values():
            counts[item.key] += 1

    for what in script:
        if what == "take" and since:
            take()
        elif what != "take":
            for _ in range(5 if what == "flood" else 1):
                item = Item(what)
                before[item] = sum(other.key == what for other in since)
                since[item] = Counter()
                line.enter(what, item)
    while since:
        take()

    assert not line.wanted


def test_who_joins_comes_in_turn() -> None:
    """Those whose turn is next, one of a key, for as long as each joins those before it."""
    line: Line[Item] = Line(8)
    lined_up(line, "aabbc")
    asked: list[str] = []

    def joins(taken: Sequence[Item], due: Item) -> bool:
        asked.append(f"{' '.join(map(str, taken))} + {due}")
        return due.key != "c"

    assert [str(item) for item in line.next(joins)] == ["a0", "b0"]
    assert asked == ["a0 + b0", "a0 b0 + c0"]
    assert [str(item) for item in line.next(joins)] == ["c0", "a1", "b1"]


def test_a_plural_key_fills_what_others_leave() -> None:
    """Its first comes in turn, its others when everybody has had one; the line goes on as after one turn each."""
    line: Line[Item] = Line(8, plural="n".__contains__)
    lined_up(line, "nnnnab")

    assert [str(item) for item in line.next(lambda taken, _: len(taken) < 5)] == ["n0", "a0", "b0", "n1", "n2"]
    assert taken(line) == "n3"


def test_a_plural_key_passes_no_errand() -> None:
    """What waits behind an errand of its key is taken when that is done."""
    line: Line[Item] = Line(8, plural="n".__contains__)
    lined_up(line, "na")
    line.errand("n", Item("n", " errand"))
    lined_up(line, "n")

    together = []
    while line.wanted:
        together.append([str(item) for item in line.next(lambda *_: True)])
    assert together == [["n0", "a0"], ["n errand"], ["n0"]]


@pytest.mark.parametrize(("rounds", "expected"), [(OFTEN, ["b0"]), (OFTEN - 1, ["b0", "a"]), (1, ["b0", "a"])])
def test_who_floods_goes_by_itself(rounds: int, expected: list[str]) -> None:
    """Beside somebody who has not been served for long it does not go; beside one who asks as often it does."""
    line: Line[Item] = Line(8)
    line.enter("b", Item("b", "-1"))
    line.next()
    for _ in range(rounds):
        line.enter("a", Item("a"))
        line.next()
    line.enter("a", Item("a"))
    lined_up(line, "b")

    assert [str(item) for item in line.next(lambda *_: True)] == expected


def test_who_floods_does_not_go_behind_others_with_who_is_seldom_served() -> None:
    """However many come between them whom it may go along with."""
    line: Line[Item] = Line(8)
    lined_up(line, "b")
    line.next()
    for _ in range(OFTEN):
        lined_up(line, "a")
        line.next()
    lined_up(line, "cab")

    assert [str(item) for item in line.next(lambda *_: True)] == ["b0", "c0"]
    assert taken(line) == "a0"


def shared(line: Line[Item], order: str) -> None:
    """Enter one after another: a key's share is its letter in upper case where it is one of 'f', else its own."""
    for at, key in enumerate(order):
        share = "flood" if key.isdigit() else key
        assert line.enter(key, Item(key, str(order[:at].count(key))), share) is None


def test_turns_go_round_by_share() -> None:
    """However many keys a share has, another's one has every second turn; its keys take its turns in their order."""
    line: Line[Item] = Line(16)
    shared(line, "1234a1a2a")

    assert taken(line) == "10 a0 20 a1 30 a2 40 11 21"


def test_ever_new_keys_of_a_share_pass_nobody() -> None:
    """A share that comes under one more key for every turn gets no more turns by that."""
    line: Line[Item] = Line(64)
    shared(line, "12a34")
    names = []
    for number in range(5, 9):
        names.append(str(line.next()[0]))
        shared(line, str(number) + "a")

    assert names == ["10", "a0", "20", "a0"]


def test_together_one_of_each_share_comes_first() -> None:
    """Then a second of each: a share with one frame is not behind all of another's."""
    line: Line[Item] = Line(16)
    shared(line, "1234ab")

    assert " ".join(map(str, line.next(lambda taken, _: len(taken) < 4))) == "10 a0 b0 20"


def test_nothing_of_a_flooding_share_goes_along_with_one_that_asks_seldom() -> None:
    """Under whatever key: it would make the other's turn longer."""
    line: Line[Item] = Line(64)
    shared(line, "a")
    line.next()
    for turn in range(OFTEN + 2):
        shared(line, str(turn))
        line.next()
    shared(line, "789a")

    assert [str(item) for item in line.next(lambda *_: True)] == ["a0"]
    assert [str(item) for item in line.next(lambda *_: True)] == ["70", "80", "90"]


def test_in_a_full_line_the_share_with_most_gives_way() -> None:
    """Of its keys the one with most, and of that the last; where the newcomer's share has as many, it is refused."""
    line: Line[Item] = Line(6)
    shared(line, "112334")
    first = Item("a")
    displaced = line.enter("a", first, "robot")
    assert displaced is not None
    assert str(displaced) in {"11", "31"}
    displaced = line.enter("b", Item("b"), "robot")
    assert str(displaced) in {"11", "31"}
    with pytest.raises(Overloaded):
        line.enter("5", Item("5"), "flood")
    line.enter("c", Item("c"), "robot")  # three of each
    with pytest.raises(Overloaded):
        line.enter("d", Item("d"), "robot")
    assert line.enter("e", Item("e"), "another") is not None

    assert len(line.waiting) == 6


def test_a_key_keeps_its_share() -> None:
    """What is said of it later changes nothing as long as it is known."""
    line: Line[Item] = Line(16)
    line.enter("1", Item("1", "0"), "flood")
    line.enter("2", Item("2", "0"), "flood")
    line.enter("a", Item("a", "0"), "a")
    line.enter("2", Item("2", "1"), "somebody else")

    assert taken(line) == "10 a0 20 21"


def test_shares_are_forgotten_too() -> None:
    """Memory stays within bounds however many come and go."""
    line: Line[Item] = Line(4)
    for number in range(3 * MOST_KNOWN):
        line.enter(f"k{number}", Item("k"), f"s{number}")
        line.next()

    assert line.keys <= MOST_KNOWN + 4
    assert len(line._last_of) <= MOST_KNOWN + 4
    assert len(line._share) == line.keys


def test_it_is_shared_as_long_as_others_were_there_lately() -> None:
    """Two shares that had turns within the last takes; one that has been away for longer is not waited for."""
    line: Line[Item] = Line(64)
    assert not line.shared
    for _ in range(3):
        shared(line, "a")
        line.next()
    assert not line.shared
    shared(line, "b")
    assert line.shared
    line.next()
    for _ in range(LATELY + 2):
        shared(line, "a")
        line.next()

    assert not line.shared


@pytest.mark.parametrize("share", [None, "flood"], ids=["a share of its own", "a known share"])
def test_a_newcomer_counts_as_just_served(share: str | None) -> None:
    """It has not waited for long, so one that asks all the time goes along with it; of a known share, too."""
    line: Line[Item] = Line(8)
    line.enter("z", Item("z"), "flood")
    line.next()
    for _ in range(OFTEN + 1):
        line.enter("a", Item("a"))
        line.next()
    line.enter("n", Item("n"), share)
    line.enter("a", Item("a"))

    assert sorted(str(item) for item in line.next(lambda *_: True)) == ["a", "n"]


def test_within_its_share_a_key_keeps_its_turn() -> None:
    """One that gave up and asks anew comes before its share's others that came after it."""
    line: Line[Item] = Line(8)
    first, second = Item("1", "0"), Item("2", "0")
    line.enter("1", first, "flood")
    line.enter("2", second, "flood")
    give_up(line, first)
    line.enter("1", Item("1", "1"), "flood")

    assert taken(line) == "11 20"


def test_a_key_makes_room_as_its_own_share() -> None:
    """In a full line one of the fullest share gets no place by being called another's."""
    line: Line[Item] = Line(4)
    shared(line, "112a")
    with pytest.raises(Overloaded):
        line.enter("2", Item("2", "1"), "somebody else")

    assert len(line.waiting) == 4


def test_a_new_key_costs_its_share_no_turn() -> None:
    """What waits of the share is not put behind others because more of it comes."""
    line: Line[Item] = Line(8)
    shared(line, "1a2")

    assert taken(line) == "10 a0 20"


def test_a_forgotten_key_is_of_the_share_it_comes_with() -> None:
    """It is new then, whatever it was once; the turn that it had was its share's of then."""
    line: Line[Item] = Line(8)
    line.enter("1", Item("1"), "flood")
    line.next()
    line.forget("1")
    line.enter("1", Item("1", "0"), "robot")
    line.enter("2", Item("2", "0"), "flood")
    line.enter("3", Item("3", "0"), "robot")

    assert taken(line) == "10 20 30"


def test_a_turn_counts_though_its_key_is_forgotten() -> None:
    """A share whose sessions end with each frame does not come before those that waited meanwhile."""
    line: Line[Item] = Line(8)
    names = []
    shared(line, "1a")
    for number in range(2, 6):
        (item,) = line.next()
        line.forget(item.key)
        names.append(str(item.key))
        shared(line, f"{number}" if item.key != "a" else "a")

    assert names == ["1", "a", "2", "a"]


def test_what_goes_along_is_known_though_its_key_is_forgotten() -> None:
    """A share that floods under keys that are over at once does not go along with one that asks seldom."""
    line: Line[Item] = Line(8)
    shared(line, "a")
    line.next()
    for number in range(OFTEN + 1):
        shared(line, str(number))
        line.next()
        line.forget(str(number))
    shared(line, "9a")

    assert [str(item) for item in line.next(lambda *_: True)] == ["a0"]


def test_in_a_full_line_the_share_with_two_more_gives_way() -> None:
    """Afterwards both have as many."""
    line: Line[Item] = Line(4)
    shared(line, "123a")
    displaced = line.enter("b", Item("b"), "a")

    assert displaced is not None
    assert displaced.key in {"1", "2", "3"}


def test_in_a_full_line_a_key_gives_way_within_its_share() -> None:
    """To a newcomer of the fullest share, the last of that share's fullest key: no other share's."""
    line: Line[Item] = Line(8)
    shared(line, "1112aaaa")

    assert str(line.enter("3", Item("3"), "flood")) == "12"


def test_beside_its_shares_one_that_asks_seldom_only_who_floods_waits() -> None:
    """A share's key that has not been served for long takes others of its share along, but not the one that floods."""
    line: Line[Item] = Line(64)
    shared(line, "23")
    taken(line)
    for _ in range(OFTEN + 1):
        shared(line, "1")
        line.next()
    shared(line, "231")

    assert [str(item) for item in line.next(lambda *_: True)] == ["20", "30"]
    assert taken(line) == "10"

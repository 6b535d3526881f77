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

from stillframe.engine.fair_order import FREQUENT_WITHIN, MOST_KNOWN, RECENT_WITHIN
from stillframe.engine.queue import FairQueue
from stillframe.errors import NotReady, Overloaded

WAIT_S = 60  # for what has to happen; no test waits this long unless it fails
KEYS = "abcd"


@dataclass(eq=False)
class Item:
    """Something that waits."""

    key: Hashable
    name: str = ""

    def __str__(self) -> str:
        return f"{self.key}{self.name}"


def queued(fair: FairQueue[Item], order: str) -> list[Item]:
    """Enter one after another, by key; each is named by its number among its key's."""
    items = [Item(key, str(order[:at].count(key))) for at, key in enumerate(order)]
    for item in items:
        assert fair.put(item.key, item) is None
    return items


def give_up(fair: FairQueue[Item], item: Item) -> bool:
    """Do not wait any more; say whether it still had a place."""
    return fair.remove(item.key, lambda one: one is item)


def taken(fair: FairQueue[Item], count: int | None = None) -> str:
    """Who is due, one after another; all that wait, unless so many."""
    names = []
    while fair.has_work and not (fair.closed and not fair.waiting) and count != 0:
        names.append(str(fair.next()[0]))
        count = None if count is None else count - 1
    return " ".join(names)


def test_one_key_is_served_in_order() -> None:
    """First come, first served."""
    fair: FairQueue[Item] = FairQueue(8)
    queued(fair, "aaaa")

    assert taken(fair) == "a0 a1 a2 a3"


def test_keys_take_turns() -> None:
    """However many one has, and however early it came."""
    fair: FairQueue[Item] = FairQueue(16)
    queued(fair, "aaaaabbc")

    assert taken(fair) == "a0 b0 c0 a1 b1 a2 a3 a4"


def test_a_newcomer_comes_before_the_next_of_who_is_being_served() -> None:
    """A robot that sends its next frame at once does not pass one that came while it was served."""
    fair: FairQueue[Item] = FairQueue(8)
    queued(fair, "aaa")
    assert taken(fair, 1) == "a0"
    queued(fair, "b")

    assert taken(fair) == "b0 a1 a2"


def test_ever_new_keys_hold_nobody_up() -> None:
    """A client that comes as somebody else each time is served behind who waited already, each time."""
    fair: FairQueue[Item] = FairQueue(8)
    queued(fair, "xa")
    served = []
    for number in range(8):
        fair.put(number, Item(number))
        served.append(taken(fair, 1))
        if served[-1].startswith("a"):
            queued(fair, "a")

    assert served == ["x0", "a0", "0", "1", "2", "a0", "3", "4"]


def test_a_new_frame_takes_the_turn_of_one_given_up() -> None:
    """A robot whose newest frame replaces the one that waits is not sent back to the end each time."""
    fair: FairQueue[Item] = FairQueue(8)
    queued(fair, "x")
    assert taken(fair) == "x0"
    older, _ = queued(fair, "ab")
    for number in range(5):
        give_up(fair, older)
        older = Item("a", f" newer {number}")
        fair.put("a", older)

    assert taken(fair) == "a newer 4 b0"


def test_who_gave_up_leaves_room_at_once() -> None:
    """Its place, and nothing else of it, is free; whoever was behind it moves up."""
    fair: FairQueue[Item] = FairQueue(3)
    first, second, _ = queued(fair, "aab")
    with pytest.raises(Overloaded):
        fair.put("b", Item("b"))
    give_up(fair, first)
    assert [str(item) for item in fair.waiting] == ["a1", "b0"]
    fair.put("c", Item("c"))
    give_up(fair, second)

    assert taken(fair) == "b0 c"
    assert not fair.has_work


def test_who_was_called_cannot_give_its_place_up() -> None:
    """It has none."""
    fair: FairQueue[Item] = FairQueue(2)
    first, _ = queued(fair, "aa")
    assert fair.next() == [first]
    assert not give_up(fair, first)

    assert taken(fair) == "a1"


def test_a_full_queue_refuses_whoever_has_most() -> None:
    """And says how many wait, when to come again, and that nobody is displaced for it."""
    fair: FairQueue[Item] = FairQueue(3)
    queued(fair, "aab")
    with pytest.raises(Overloaded, match="3 frames wait already") as refused:
        fair.put("a", Item("a"))

    assert refused.value.code == "overloaded"
    assert refused.value.retry_after_s is not None
    assert taken(fair) == "a0 b0 a1"


def test_who_has_most_makes_room_in_a_full_queue() -> None:
    """Its last goes, for one that has none; where everybody has one, one more is refused."""
    fair: FairQueue[Item] = FairQueue(4)
    _, second, third, _ = queued(fair, "aaab")

    assert fair.put("c", Item("c")) is third
    with pytest.raises(Overloaded):
        fair.put("b", Item("b"))
    assert fair.put("d", Item("d")) is second
    with pytest.raises(Overloaded):
        fair.put("e", Item("e"))
    assert taken(fair) == "a0 b0 c d"


def test_a_control_item_comes_behind_what_waits_of_its_key() -> None:
    """In its order among them; it needs no place and costs no turn."""
    fair: FairQueue[Item] = FairQueue(4)
    queued(fair, "aab")
    fair.put_control("a", Item("a", " control"))
    queued(fair, "a")

    assert taken(fair) == "a0 b0 a1 a control a0"


def test_a_control_item_with_nothing_before_it_is_done_at_once() -> None:
    """Before all frames, also those of its key that come later; a full queue takes it."""
    fair: FairQueue[Item] = FairQueue(2)
    queued(fair, "bb")
    fair.put_control("a", Item("a", " control"))
    assert fair.has_work

    assert taken(fair, 2) == "a control b0"
    queued(fair, "a")
    assert taken(fair) == "a0 b1"


def test_a_control_item_outlives_what_was_before_it() -> None:
    """Whoever it waited for gave up: it moves up to the one before, and to the front where there is none."""
    fair: FairQueue[Item] = FairQueue(4)
    *_, one, two = queued(fair, "baa")
    fair.put_control("a", Item("a", " control"))
    give_up(fair, two)
    assert taken(fair, 1) == "b0"
    give_up(fair, one)

    assert taken(fair) == "a control"


def test_a_closed_queue_is_served_to_its_end() -> None:
    """Nobody enters, who waits is called, then nobody is."""
    fair: FairQueue[Item] = FairQueue(4)
    queued(fair, "ab")
    fair.put_control("b", Item("b", " control"))
    fair.close()
    with pytest.raises(NotReady) as refused:
        fair.put("a", Item("a"))

    assert refused.value.code == "draining"
    assert fair.closed
    assert [[str(item) for item in fair.next()] for _ in range(5)] == [["a0"], ["b0"], ["b control"], [], []]


def test_a_key_of_which_something_waits_is_not_forgotten() -> None:
    """Its turn stays as it is: before those that came later."""
    fair: FairQueue[Item] = FairQueue(4)
    queued(fair, "ab")
    fair.forget("a")

    assert fair.keys == 2
    assert taken(fair) == "a0 b0"


class Watched(FairQueue[Item]):
    """Tells when it has been looked whether anything waits: who looked has the lock until it waits itself."""

    def __init__(self, most: int):
        super().__init__(most)
        self.looked = threading.Event()

    @property
    def has_work(self) -> bool:
        """As it is."""
        self.looked.set()
        return super().has_work


@pytest.mark.parametrize("how", ["put", "put_control", "close"])
def test_whoever_asks_waits_until_there_is_somebody(how: str) -> None:
    """And is woken by a frame, a control item and the end."""
    fair, item, called = Watched(2), Item("a"), queue.SimpleQueue[list[Item]]()
    threading.Thread(target=lambda: called.put(fair.next()), daemon=True).start()
    assert fair.looked.wait(WAIT_S)
    if how == "close":
        fair.close()
    else:
        getattr(fair, how)("a", item)

    assert called.get(timeout=WAIT_S) == ([] if how == "close" else [item])


def test_ten_thousand_keys_are_not_all_remembered() -> None:
    """Of those that are forgotten nothing is left; of the others the last turns, up to a bound."""
    fair: FairQueue[Item] = FairQueue(4)
    for number in range(10_000):
        item = Item(number)
        fair.put(number, item)
        if number % 100 < 50:
            give_up(fair, item)
        else:
            assert fair.next() == [item]
        assert fair.keys <= MOST_KNOWN + 4
    for number in range(10_000):
        fair.forget(number)

    assert fair.keys == 0
    assert not fair.has_work


def test_what_waits_is_known_however_many_come() -> None:
    """Keys are forgotten of which nothing waits; who has waited through all of them has its turn, and the first one."""
    fair: FairQueue[Item] = FairQueue(3)
    queued(fair, "ab")
    for number in range(MOST_KNOWN + 10):
        item = Item(number)
        fair.put(number, item)
        give_up(fair, item)

    assert fair.keys == MOST_KNOWN + 3
    assert taken(fair) == "a0 b0"


def test_whoever_asks_seldom_goes_before_whoever_asks_always() -> None:
    """The key whose last turn is longest ago is next, whoever lined up first; a new key's counts from its coming."""
    fair: FairQueue[Item] = FairQueue(8)
    seldom, *often = [Item("seldom"), *(Item("often") for _ in range(4))]
    fair.put("seldom", seldom)
    assert fair.next() == [seldom]
    for item in often[:2]:
        fair.put("often", item)
        assert fair.next() == [item]
    fair.put("often", often[2])
    late, new = Item("seldom"), Item("new")
    fair.put("new", new)
    fair.put("seldom", late)

    assert [fair.next()[0] for _ in range(3)] == [late, new, often[2]]


def test_threads_that_enter_at_once_are_all_called() -> None:
    """Four keys on four threads and one that calls: each once, each key's in its order."""
    fair: FairQueue[Item] = FairQueue(1000)
    got: list[Item] = []

    def call() -> None:
        while items := fair.next(lambda taken, _: len(taken) < 3):
            got.extend(items)

    device = threading.Thread(target=call)
    device.start()
    with ThreadPoolExecutor(4) as robots:
        for _ in robots.map(lambda key: queued(fair, key * 200), KEYS):
            pass
    fair.close()
    device.join(WAIT_S)

    assert not device.is_alive()
    for key in KEYS:
        assert [item.name for item in got if item.key == key] == [str(number) for number in range(200)]


def check(items: list[Item], inside: list[Item], frames: set[Item], parallel: str) -> None:
    """What was called together is due: take it out of `inside`."""
    assert items
    assert len(items) == 1 or frames.issuperset(items)
    assert max(Counter(item.key for item in items if item.key not in parallel).values(), default=1) == 1
    for item in items:
        assert item is next(one for one in inside if one.key == item.key)
        inside.remove(item)


calls = st.lists(
    st.tuples(st.just("put"), st.sampled_from(KEYS))
    | st.tuples(st.just("control"), st.sampled_from(KEYS))
    | st.tuples(st.just("give up"), st.integers(0, 100))
    | st.just(("take", 0)),
    max_size=60,
)


@settings(max_examples=3 * settings().max_examples)
@given(calls, st.integers(1, 6), st.integers(1, 4), st.sampled_from(["", "b"]))
def test_everything_that_stays_is_called_once_and_in_order(
    script: list[tuple[str, str | int]], most: int, together: int, parallel: str
) -> None:
    """Against a plain list: within a key in the order of entry, control items between; no more wait than may.

    Of what is called together one is of each key, but of a parallel one; control items come alone.
    """
    fair: FairQueue[Item] = FairQueue(most, parallel.__contains__)
    inside: list[Item] = []
    frames: set[Item] = set()

    def take() -> None:
        items = fair.next(lambda taken, _: len(taken) < together)
        check(items, inside, frames, parallel)
        assert len(items) <= together
        frames.difference_update(items)

    for what, whom in script:
        if what == "put":
            item = Item(whom)
            try:
                displaced = fair.put(whom, item)
            except Overloaded:
                assert len(frames) == most
                continue
            if displaced is not None:
                inside.remove(displaced)
                frames.remove(displaced)
            inside.append(item)
            frames.add(item)
        elif what == "control":
            inside.append(Item(whom))
            fair.put_control(whom, inside[-1])
        elif what == "give up" and frames:
            waiting = [item for item in inside if item in frames]
            chosen = waiting[int(whom) % len(waiting)]
            give_up(fair, chosen)
            inside.remove(chosen)
            frames.remove(chosen)
        elif what == "take" and inside:
            take()
        assert {id(item) for item in fair.waiting} == {id(item) for item in frames}
        assert fair.has_work is bool(inside)
        assert len(frames) <= most
    while inside:
        take()

    assert not fair.has_work


@settings(max_examples=3 * settings().max_examples)
@given(st.lists(st.sampled_from([*KEYS, *KEYS, "flood", "flood", "take"]), max_size=80))
def test_nobody_is_held_up_by_anothers_many(script: list[str]) -> None:
    """A frame waits for at most one of each other key, and for one more behind each of its own that waited already."""
    fair: FairQueue[Item] = FairQueue(1000)
    since: dict[Item, Counter[Hashable]] = {}  # what was called since it was put
    before: dict[Item, int] = {}  # how many of its own waited then

    def take() -> None:
        (item,) = fair.next()
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
                fair.put(what, item)
    while since:
        take()

    assert not fair.has_work


def test_who_joins_comes_in_turn() -> None:
    """Those whose turn is next, one of a key, for as long as each joins those before it."""
    fair: FairQueue[Item] = FairQueue(8)
    queued(fair, "aabbc")
    asked: list[str] = []

    def admits(taken: Sequence[Item], due: Item) -> bool:
        asked.append(f"{' '.join(map(str, taken))} + {due}")
        return due.key != "c"

    assert [str(item) for item in fair.next(admits)] == ["a0", "b0"]
    assert asked == ["a0 + b0", "a0 b0 + c0"]
    assert [str(item) for item in fair.next(admits)] == ["c0", "a1", "b1"]


def test_a_parallel_key_fills_what_others_leave() -> None:
    """Its first comes in turn, its others when everybody has had one; the queue goes on as after one turn each."""
    fair: FairQueue[Item] = FairQueue(8, parallel="n".__contains__)
    queued(fair, "nnnnab")

    assert [str(item) for item in fair.next(lambda taken, _: len(taken) < 5)] == ["n0", "a0", "b0", "n1", "n2"]
    assert taken(fair) == "n3"


def test_a_parallel_key_passes_no_control_item() -> None:
    """What waits behind a control item of its key is taken when that is done."""
    fair: FairQueue[Item] = FairQueue(8, parallel="n".__contains__)
    queued(fair, "na")
    fair.put_control("n", Item("n", " control"))
    queued(fair, "n")

    together = []
    while fair.has_work:
        together.append([str(item) for item in fair.next(lambda *_: True)])
    assert together == [["n0", "a0"], ["n control"], ["n0"]]


@pytest.mark.parametrize(
    ("rounds", "expected"), [(FREQUENT_WITHIN, ["b0"]), (FREQUENT_WITHIN - 1, ["b0", "a"]), (1, ["b0", "a"])]
)
def test_who_floods_goes_by_itself(rounds: int, expected: list[str]) -> None:
    """Beside somebody who has not been served for long it does not go; beside one who asks as often it does."""
    fair: FairQueue[Item] = FairQueue(8)
    fair.put("b", Item("b", "-1"))
    fair.next()
    for _ in range(rounds):
        fair.put("a", Item("a"))
        fair.next()
    fair.put("a", Item("a"))
    queued(fair, "b")

    assert [str(item) for item in fair.next(lambda *_: True)] == expected


def test_who_floods_does_not_go_behind_others_with_who_is_seldom_served() -> None:
    """However many come between them whom it may go along with."""
    fair: FairQueue[Item] = FairQueue(8)
    queued(fair, "b")
    fair.next()
    for _ in range(FREQUENT_WITHIN):
        queued(fair, "a")
        fair.next()
    queued(fair, "cab")

    assert [str(item) for item in fair.next(lambda *_: True)] == ["b0", "c0"]
    assert taken(fair) == "a0"


def shared(fair: FairQueue[Item], order: str) -> None:
    """Enter one after another: a key's share is its letter in upper case where it is one of 'f', else its own."""
    for at, key in enumerate(order):
        share = "flood" if key.isdigit() else key
        assert fair.put(key, Item(key, str(order[:at].count(key))), share) is None


def test_turns_go_round_by_share() -> None:
    """However many keys a share has, another's one has every second turn; its keys take its turns in their order."""
    fair: FairQueue[Item] = FairQueue(16)
    shared(fair, "1234a1a2a")

    assert taken(fair) == "10 a0 20 a1 30 a2 40 11 21"


def test_ever_new_keys_of_a_share_pass_nobody() -> None:
    """A share that comes under one more key for every turn gets no more turns by that."""
    fair: FairQueue[Item] = FairQueue(64)
    shared(fair, "12a34")
    names = []
    for number in range(5, 9):
        names.append(str(fair.next()[0]))
        shared(fair, str(number) + "a")

    assert names == ["10", "a0", "20", "a0"]


def test_together_one_of_each_share_comes_first() -> None:
    """Then a second of each: a share with one frame is not behind all of another's."""
    fair: FairQueue[Item] = FairQueue(16)
    shared(fair, "1234ab")

    assert " ".join(map(str, fair.next(lambda taken, _: len(taken) < 4))) == "10 a0 b0 20"


def test_nothing_of_a_flooding_share_goes_along_with_one_that_asks_seldom() -> None:
    """Under whatever key: it would make the other's turn longer."""
    fair: FairQueue[Item] = FairQueue(64)
    shared(fair, "a")
    fair.next()
    for turn in range(FREQUENT_WITHIN + 2):
        shared(fair, str(turn))
        fair.next()
    shared(fair, "789a")

    assert [str(item) for item in fair.next(lambda *_: True)] == ["a0"]
    assert [str(item) for item in fair.next(lambda *_: True)] == ["70", "80", "90"]


def test_in_a_full_queue_the_share_with_most_gives_way() -> None:
    """Of its keys the one with most, and of that the last; where the newcomer's share has as many, it is refused."""
    fair: FairQueue[Item] = FairQueue(6)
    shared(fair, "112334")
    first = Item("a")
    displaced = fair.put("a", first, "robot")
    assert displaced is not None
    assert str(displaced) in {"11", "31"}
    displaced = fair.put("b", Item("b"), "robot")
    assert str(displaced) in {"11", "31"}
    with pytest.raises(Overloaded):
        fair.put("5", Item("5"), "flood")
    fair.put("c", Item("c"), "robot")  # three of each
    with pytest.raises(Overloaded):
        fair.put("d", Item("d"), "robot")
    assert fair.put("e", Item("e"), "another") is not None

    assert len(fair.waiting) == 6


def test_a_key_keeps_its_share() -> None:
    """What is said of it later changes nothing as long as it is known."""
    fair: FairQueue[Item] = FairQueue(16)
    fair.put("1", Item("1", "0"), "flood")
    fair.put("2", Item("2", "0"), "flood")
    fair.put("a", Item("a", "0"), "a")
    fair.put("2", Item("2", "1"), "somebody else")

    assert taken(fair) == "10 a0 20 21"


def test_shares_are_forgotten_too() -> None:
    """Memory stays within bounds however many come and go."""
    fair: FairQueue[Item] = FairQueue(4)
    for number in range(3 * MOST_KNOWN):
        fair.put(f"k{number}", Item("k"), f"s{number}")
        fair.next()

    assert fair.keys <= MOST_KNOWN + 4
    assert len(fair._order._last_of) <= MOST_KNOWN + 4
    assert len(fair._order._share) == fair.keys


def test_it_is_shared_as_long_as_others_were_there_lately() -> None:
    """Two shares that had turns within the last takes; one that has been away for longer is not waited for."""
    fair: FairQueue[Item] = FairQueue(64)
    assert not fair.shared
    for _ in range(3):
        shared(fair, "a")
        fair.next()
    assert not fair.shared
    shared(fair, "b")
    assert fair.shared
    fair.next()
    for _ in range(RECENT_WITHIN + 2):
        shared(fair, "a")
        fair.next()

    assert not fair.shared


@pytest.mark.parametrize("share", [None, "flood"], ids=["a share of its own", "a known share"])
def test_a_newcomer_counts_as_just_served(share: str | None) -> None:
    """It has not waited for long, so one that asks all the time goes along with it; of a known share, too."""
    fair: FairQueue[Item] = FairQueue(8)
    fair.put("z", Item("z"), "flood")
    fair.next()
    for _ in range(FREQUENT_WITHIN + 1):
        fair.put("a", Item("a"))
        fair.next()
    fair.put("n", Item("n"), share)
    fair.put("a", Item("a"))

    assert sorted(str(item) for item in fair.next(lambda *_: True)) == ["a", "n"]


def test_within_its_share_a_key_keeps_its_turn() -> None:
    """One that gave up and asks anew comes before its share's others that came after it."""
    fair: FairQueue[Item] = FairQueue(8)
    first, second = Item("1", "0"), Item("2", "0")
    fair.put("1", first, "flood")
    fair.put("2", second, "flood")
    give_up(fair, first)
    fair.put("1", Item("1", "1"), "flood")

    assert taken(fair) == "11 20"


def test_a_key_makes_room_as_its_own_share() -> None:
    """In a full queue one of the fullest share gets no place by being called another's."""
    fair: FairQueue[Item] = FairQueue(4)
    shared(fair, "112a")
    with pytest.raises(Overloaded):
        fair.put("2", Item("2", "1"), "somebody else")

    assert len(fair.waiting) == 4


def test_a_new_key_costs_its_share_no_turn() -> None:
    """What waits of the share is not put behind others because more of it comes."""
    fair: FairQueue[Item] = FairQueue(8)
    shared(fair, "1a2")

    assert taken(fair) == "10 a0 20"


def test_a_forgotten_key_is_of_the_share_it_comes_with() -> None:
    """It is new then, whatever it was once; the turn that it had was its share's of then."""
    fair: FairQueue[Item] = FairQueue(8)
    fair.put("1", Item("1"), "flood")
    fair.next()
    fair.forget("1")
    fair.put("1", Item("1", "0"), "robot")
    fair.put("2", Item("2", "0"), "flood")
    fair.put("3", Item("3", "0"), "robot")

    assert taken(fair) == "10 20 30"


def test_a_turn_counts_though_its_key_is_forgotten() -> None:
    """A share whose sessions end with each frame does not come before those that waited meanwhile."""
    fair: FairQueue[Item] = FairQueue(8)
    names = []
    shared(fair, "1a")
    for number in range(2, 6):
        (item,) = fair.next()
        fair.forget(item.key)
        names.append(str(item.key))
        shared(fair, f"{number}" if item.key != "a" else "a")

    assert names == ["1", "a", "2", "a"]


def test_what_goes_along_is_known_though_its_key_is_forgotten() -> None:
    """A share that floods under keys that are over at once does not go along with one that asks seldom."""
    fair: FairQueue[Item] = FairQueue(8)
    shared(fair, "a")
    fair.next()
    for number in range(FREQUENT_WITHIN + 1):
        shared(fair, str(number))
        fair.next()
        fair.forget(str(number))
    shared(fair, "9a")

    assert [str(item) for item in fair.next(lambda *_: True)] == ["a0"]


def test_in_a_full_queue_the_share_with_two_more_gives_way() -> None:
    """Afterwards both have as many."""
    fair: FairQueue[Item] = FairQueue(4)
    shared(fair, "123a")
    displaced = fair.put("b", Item("b"), "a")

    assert displaced is not None
    assert displaced.key in {"1", "2", "3"}


def test_in_a_full_queue_a_key_gives_way_within_its_share() -> None:
    """To a newcomer of the fullest share, the last of that share's fullest key: no other share's."""
    fair: FairQueue[Item] = FairQueue(8)
    shared(fair, "1112aaaa")

    assert str(fair.put("3", Item("3"), "flood")) == "12"


def test_beside_its_shares_one_that_asks_seldom_only_who_floods_waits() -> None:
    """A share's key that has not been served for long takes others of its share along, but not the one that floods."""
    fair: FairQueue[Item] = FairQueue(64)
    shared(fair, "23")
    taken(fair)
    for _ in range(FREQUENT_WITHIN + 1):
        shared(fair, "1")
        fair.next()
    shared(fair, "231")

    assert [str(item) for item in fair.next(lambda *_: True)] == ["20", "30"]
    assert taken(fair) == "10"

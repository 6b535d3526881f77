from __future__ import annotations

import gc
import signal
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from stillframe.errors import RequestError
from stillframe.web.openapi.problem_codes import PROBLEM_CODES

MANY = settings().max_examples > 100
MESSAGES = (120 if MANY else 20) * settings().max_examples  # through each of twelve doors; most are refused
ROUND = 500 if MANY else 150  # messages
LEFT_BYTES, PEAK_BYTES = 256, 8 * 2**20  # what each may leave on average, what all may take
HANGS_S = 60  # no message takes a thousandth of it
NAMES = [
    *("act-json", "v1-json", "v1-msgpack", "v1-form", "cogact-form", "openpi", "stream-msgpack", "stream-json"),
    *("session", "head", "picture", "picture-text"),
]


@pytest.fixture(scope="session")
def doors(load: Callable[[str], ModuleType]) -> Any:
    """What fuzz/doors.py has to give."""
    return load("hard/fuzz/doors.py")


@contextmanager
def no_hang(data: list[bytes]) -> Iterator[None]:
    """Fail, with what is being read, when the block takes too long."""

    def ring(*_: object) -> None:
        pytest.fail(f"hangs on {data[-1][:400]!r}")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HANGS_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def endings(door: Any, messages: Iterator[bytes]) -> Counter[str]:
    """How each message ended: taken, or the code of its refusal. Whatever else comes out fails, with the message."""
    met: Counter[str] = Counter()
    current: list[bytes] = [b""]
    with no_hang(current):
        for message in messages:
            current[0] = message
            try:
                door.enter(message)
                met["taken"] += 1
            except RequestError as error:
                met[error.code] += 1
            except Exception as error:
                raise AssertionError(f"{type(error).__name__} comes out of {message[:2000]!r}") from error
    return met


def test_every_door_is_tried(doors: Any) -> None:
    """The list of this file is that of the doors."""
    assert list(doors.DOORS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_good_come_in(doors: Any, name: str) -> None:
    """What the malformed are made of is well itself, all but pictures in modes that are refused."""
    door = doors.DOORS[name]
    met = endings(door, iter(door.good))

    assert met["taken"] >= 0.6 * len(door.good), met


@pytest.mark.parametrize("name", NAMES)
def test_the_malformed_are_refused_in_our_words(doors: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of spoilt messages a door: an answer or a problem from the catalogue, and no word in the log."""
    door = doors.DOORS[name]
    met = endings(door, islice(doors.malformed(np.random.default_rng(NAMES.index(name)), door), MESSAGES))
    codes = set(met) - {"taken"}

    assert codes <= set(PROBLEM_CODES)
    assert all(PROBLEM_CODES[code].status < 500 for code in codes), met
    assert len(codes) >= 2
    assert met["taken"] < 0.6 * MESSAGES  # or they are not spoilt
    assert caplog.records == []  # or anybody could fill it


def left_and_peak(door: Any, messages: list[bytes]) -> tuple[int, int]:
    """How many bytes messages leave behind, and how many they take while they last."""
    gc.collect()
    tracemalloc.start()
    try:
        endings(door, iter(messages))
        gc.collect()  # an error and where it came from hold each other
        return tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()


@pytest.mark.few(4)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_is_not_kept(doors: Any, name: str) -> None:
    """After some spoilt messages the next leave nothing behind, and take little while they last.

    What messages leave, every round leaves; what is loaded once, or taken by another thread meanwhile, shows once.
    """
    door = doors.DOORS[name]
    spoilt = doors.malformed(np.random.default_rng(99), door)
    endings(door, islice(spoilt, ROUND))
    rounds = (left_and_peak(door, list(islice(spoilt, ROUND))) for _ in range(4))

    assert any(left < ROUND * LEFT_BYTES and peak < PEAK_BYTES for left, peak in rounds)

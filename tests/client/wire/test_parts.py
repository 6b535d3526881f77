from __future__ import annotations

import contextlib
import sys
import tracemalloc

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe_client.errors import WireError
from stillframe_client.wire import PackLimits, unpack

MIB = 2**20
EXAMPLES = settings(max_examples=3 * settings().max_examples, derandomize=True)


WHOLE = [0, 127, 128, 2**8, 2**16, 2**32, 2**64 - 1, -1, -32, -33, -129, -(2**15) - 1, -(2**31) - 1, -(2**63)]
STRINGS = ["", "a" * 31, "a" * 32, "é" * 200, "a" * 70_000, b"", b"a" * 300, b"a" * 70_000]
NESTS = [[], [1] * 15, [1] * 16, {}, {str(i): i for i in range(15)}, {str(i): i for i in range(16)}]


@pytest.mark.parametrize("value", [None, True, False, 0.5, -1e300, *WHOLE, *STRINGS, *NESTS], ids=lambda v: repr(v)[:8])
def test_every_head_is_read(value):
    """Each of msgpack's forms, at each of its widths, is read as the library wrote it."""
    back = unpack(msgpack.packb(value))

    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("kind", ["array", "map"])
def test_the_widest_heads_are_read(kind):
    """Lists and maps with 32-bit counts are read; msgpack writes them for over 65 535 parts only."""
    n = 70_000
    data = msgpack.packb([0] * n if kind == "array" else {str(i): 0 for i in range(n)})

    assert len(unpack(data, limits=PackLimits(max_parts=3 * n))) == n


def test_single_floats_are_read():
    """A 32-bit float is read as the number it is."""
    assert unpack(msgpack.packb(0.1, use_single_float=True)) == pytest.approx(0.1, rel=1e-7)


@EXAMPLES
@given(data=st.binary(max_size=60))
def test_any_bytes(data):
    """Any bytes are refused, or read as the library reads them."""
    try:
        value = unpack(data)
    except WireError:
        return
    assert repr(value) == repr(as_ours(msgpack.unpackb(data)))


def as_ours(value):
    """The library's value, with our keys."""
    if isinstance(value, list):
        return [as_ours(item) for item in value]
    if isinstance(value, dict):
        return {key.decode() if isinstance(key, bytes) else key: as_ours(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut short"),
        (b"\x81", "promises 2 parts"),
        (b"\x81\xa1a", "cut short"),
        (b"\x92\x01\xa4abc", "cut short"),
        (b"\xcb\x00\x00", "cut short"),
        (b"\xcd\x00", "cut short"),
        (b"\xc5\x00", "cut short"),
        (b"\xc6\xff\xff\xff\xff", "cut short"),
        (b"\xdb\xff\xff\xff\xff", "cut short"),
        (b"\xdc\x00\x05\x01", "promises 5 parts"),
        (b"\x92\x01", "promises 2 parts"),
        (b"\x92\x93\x01\x02", "promises 3 parts"),
        (b"\xdd\xff\xff\xff\xff", "over 10000 parts"),
        (b"\xdf\xff\xff\xff\xff", "over 10000 parts"),
        (b"\xdf\x80\x00\x00\x00", "over 10000 parts"),
        (b"\x01\x02", "1 bytes follow"),
        (b"\xc1", "0xc1"),
        (b"\xa1\xff", "UTF-8"),
        (b"\xa3\xed\xa0\x80", "UTF-8"),
        (b"\x81\xc4\x01\xff\x01", "UTF-8"),
        (b"\x81\x01\x01", "neither a string nor bytes"),
        (b"\x81\xc0\x01", "neither a string nor bytes"),
        (b"\x81\x90\x01", "neither a string nor bytes"),
        (b"\x82\xa1a\x01\xa1a\x02", "twice"),
        (b"\x82\xa1a\x01\xc4\x01a\x02", "twice"),
        (b"\x81\xda\x01\x01" + b"a" * 257 + b"\x01", "key is 257 long"),
    ],
)
def test_what_is_not_read(data, words):
    """What is cut short, lies about its length, or is no map of names is refused in words that say so."""
    with pytest.raises(WireError, match=words):
        unpack(data)


@pytest.mark.parametrize("head", [0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)])
def test_extensions_are_not_read(head):
    """No extension type, whatever its number; a timestamp is one."""
    with pytest.raises(WireError, match="extensions and timestamps"):
        unpack(bytes([head]) + bytes(40))


def test_timestamps_are_not_read():
    """The library's own timestamp is refused."""
    with pytest.raises(WireError, match="timestamps"):
        unpack(msgpack.packb([msgpack.Timestamp(1, 2)]))


def test_the_bounds_are_kept():
    """The last depth, part and key length under a bound is read; the next one is not."""
    limits = PackLimits(max_parts=20, max_depth=3, max_key_length=4)
    good = [[[[]]][0], [0] * 19, {"k" * 4: 0}]
    bad = [[[[[]]]], [0] * 20, {"k" * 5: 0}, [[0] * 10, [0] * 10]]

    assert [unpack(msgpack.packb(value), limits=limits) for value in good] == good
    for value in bad:
        with pytest.raises(WireError):
            unpack(msgpack.packb(value), limits=limits)


@pytest.mark.parametrize("value", [{"a": 1}, [], 0], ids=str)
def test_parts_are_counted_with_the_whole(value):
    """The value itself is a part, and so is each key."""
    n_parts = {dict: 3, list: 1, int: 1}[type(value)]

    assert unpack(msgpack.packb(value), limits=PackLimits(max_parts=n_parts)) == value


NO_BYTES = {"__ndarray__": True, "data": b"", "dtype": "<f8"}
LONG_HEADER = b"\x93NUMPY\x02\x00\xff\xff\xff\x7f"
HOSTILE = {
    "promised maps": b"\xdd\x01\x00\x00\x00" + b"\x80" * 16 * MIB,
    "lists of many": (b"\xdc\x27\x00" + b"\x90" * 0x2700) * 100,
    "list of lists": b"\xdc\x00\x40" + (b"\xdc\x08\x00" + b"\x80" * 0x800) * 0x40,
    "deep lists": b"\x91" * MIB,
    "deep maps": b"\x81\xa1a" * MIB,
    "deep keys": b"\x81" * MIB,
    "promised list": b"\xdd\xff\xff\xff\xff",
    "promised map": b"\xdf\x7f\xff\xff\xff",
    "promised bytes": b"\x91\xc6\xff\xff\xff\xff" + b"a" * 100,
    "promised text": b"\x91\xdb\xff\xff\xff\xff" + b"a" * 100,
    "one wide letter": b"\xdb\x00\x40\x00\x04" + "😀".encode() + b"a" * 4 * MIB,
    "a huge array": msgpack.packb({"__ndarray__": True, "data": b"", "dtype": "<f8", "shape": [2**40, 2**40]}),
    "an empty huge array": msgpack.packb(
        {"__ndarray__": True, "data": b"", "dtype": "<f8", "shape": [0, 2**62, 2**62]}
    ),
    "a huge npy": msgpack.packb(
        {"__ndarray_class__": True, "as_npy": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"(" * MIB}
    ),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_memory_is_bounded(data):
    """Reading takes at most seven times the message and 4 MiB, whatever it promises; wide letters take the most."""
    tracemalloc.start()
    with contextlib.suppress(WireError):
        unpack(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 7 * len(data) + 4 * MIB


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "one wide letter"])
def test_lies_are_refused(name):
    """Each of the hostile shapes is refused; the wide letter is just text."""
    with pytest.raises(WireError):
        unpack(HOSTILE[name])


def test_keys_are_not_kept():
    """A key that a client made up goes with its message: it is not interned, which Python 3.12 would keep for ever."""
    words = ["made", "up", "by", "a", "client"]
    (key,) = unpack(msgpack.packb({"_".join(words): 1}))

    assert sys.intern("_".join(words)) is not key

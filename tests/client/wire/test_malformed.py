from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import islice

import msgpack
import numpy as np
import pytest

from stillframe_client.wire import JSON, MSGPACK, Codec, PackLimits, WireError, encode_array, parts

MESSAGES = 16_000  # of each seed and codec: 160 000 in all, of which some 145 000 are refused; two seeds of five daily
SEEDS = range(5)
MIB = 2**20
LIMITS = PackLimits(max_parts=80, max_depth=6, max_array_bytes=4096)
PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
NPY = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }".ljust(127) + b"\n" + bytes(8)
SMALL = [
    {"type": "open", "session_id": "arm", "service": "realtime", "secret": None},
    {"type": "frame", "session_id": "arm", "epoch": 1, "seq": 2**40, "instruction": "pick é", "max_age_ms": 99.5},
    {"type": "ping", "nested": [[1, [2, [-3, {"a": [True, None, 0.25]}]]], {"b": {"c": {}}}]},
    {"type": "action", "actions": np.ones((2, 7), "<f4"), "timing_ms": {"total": 9.5}, "late": True},
]
PACKED = [MSGPACK.dump(message) for message in SMALL] + [
    msgpack.packb({"image": PICTURE.tobytes(), "x": b"", "y": "a" * 40}),
    MSGPACK.dump({"image": PICTURE, "s": np.float32(1)}),
    msgpack.packb({"a": {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2], b"data": bytes(8)}}),
    msgpack.packb({"a": {"__ndarray_class__": True, "as_npy": NPY}}),
    msgpack.packb({"a": {"__image__": True, "format": "raw", "data": bytes(8), "dtype": "<f4", "shape": [2]}}),
]
TEXTS = [JSON.dump(message).encode() for message in (*SMALL, {"image": encode_array(PICTURE)})]
# Heads and words that promise much, nest, or mean something.
LENGTHS = ["c6ffffffff", "dbffffffff", "ddffffffff", "dfffffffff", "dd00000fff", "c7ff", "d8", "81", "91", "c1"]
MSGPACK_LIES = [bytes.fromhex(head) for head in LENGTHS]
MSGPACK_WORDS = [
    b"\xc4\x0b__ndarray__\xc3",
    b"\xa4data",
    b"\xa5dtype\xa3<f8",
    b"\xa5shape\x91\xce\xff\xff\xff\xff",
    b"\x91" * 7,
]
JSON_LIES = [b"[" * 30, b'{"a":' * 9, b"NaN", b"1e999", b"-", b"9" * 70, b"\\ud800", b"\\u", b'"', b"\x00", b"\xff"]
JSON_WORDS = [b'{"__numpy__":"', b'"dtype":"<f8",', b'"shape":[4294967295,4294967295]', b'"actions":[', b"," * 90]


def malformed(rng: np.random.Generator, whole: list[bytes], words: list[bytes]) -> Iterator[bytes]:
    """Valid messages with bits flipped, cut short, lied into, spliced, repeated; now and then mere noise."""
    while True:
        message, other = (whole[i] for i in rng.integers(len(whole), size=2))
        at, to = sorted(int(i) for i in rng.integers(len(message), size=2))
        word = words[rng.integers(len(words))]
        yield message[:at] + bytes([message[at] ^ (1 << int(rng.integers(8)))]) + message[at + 1 :]
        yield message[:at]
        yield message[:at] + word + message[at:]
        yield message[:at] + word + message[at + len(word) :]
        yield message[:at] + other[int(rng.integers(len(other))) :]
        yield message[:to] + message[at:]
        yield message[:at] + message[to + 1 :]
        yield message[:at] + rng.bytes(int(rng.integers(1, 5))) + message[at:]
        yield message + word
        yield rng.bytes(int(rng.integers(64)))


def is_read(codec: Codec, data: bytes, limits: PackLimits = LIMITS) -> bool:
    """Whether a message is read. Any error but WireError ends the test, with the message in its notes."""
    try:
        assert_sane(codec.load(data, limits=limits))
    except WireError:
        return False
    except BaseException as error:
        error.add_note(f"message: {data!r}")
        raise
    return True


def assert_sane(value: object) -> None:
    """Hold that a value is made of nothing but plain values, names, and arrays of plain numbers."""
    if isinstance(value, dict):
        assert {type(name) for name in value} <= {str}
        for item in value.values():
            assert_sane(item)
    elif isinstance(value, list):
        for item in value:
            assert_sane(item)
    elif isinstance(value, np.ndarray):
        assert value.dtype.kind in "biuf"
        assert value.nbytes <= LIMITS.max_array_bytes
    else:
        assert type(value) in (type(None), bool, int, float, str, bytes)


@pytest.fixture
def steps(monkeypatch):
    """How many values the msgpack reader has begun since the list was cleared."""
    begun: list[int] = []
    value = parts._Reader.value

    def counted(reader: parts._Reader, depth: int) -> object:
        begun.append(depth)
        return value(reader, depth)

    monkeypatch.setattr(parts._Reader, "value", counted)
    return begun


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", SEEDS)
def test_malformed_msgpack(seed, steps):
    """Any message is read or refused as WireError; no more values are begun than may come, none deeper than allowed."""
    messages = malformed(np.random.default_rng(seed), PACKED, MSGPACK_LIES + MSGPACK_WORDS)
    n_read = 0
    for data in islice(messages, MESSAGES):
        steps.clear()
        n_read += is_read(MSGPACK, data)

        assert len(steps) <= min(LIMITS.max_parts, len(data) + 1)
        assert max(steps) <= LIMITS.max_depth
    assert 0 < n_read < MESSAGES / 4  # else it is not the reader that is tested


@pytest.mark.few(2)
@pytest.mark.parametrize("seed", SEEDS)
def test_malformed_json(seed):
    """Any text is read or refused as WireError."""
    messages = malformed(np.random.default_rng(seed), TEXTS, JSON_LIES + JSON_WORDS)
    n_read = sum(is_read(JSON, data) for data in islice(messages, MESSAGES))

    assert 0 < n_read < MESSAGES / 4


@pytest.mark.parametrize(("codec", "whole", "words"), [(MSGPACK, PACKED, MSGPACK_LIES), (JSON, TEXTS, JSON_LIES)])
def test_malformed_messages_cost_little(codec, whole, words):
    """No malformed message of some hundred bytes takes more than half a MiB, under the limits as they are."""
    is_read(codec, whole[0], PackLimits())  # what is imported or cached once
    peaks = []
    tracemalloc.start()
    for data in islice(malformed(np.random.default_rng(99), whole, words), 3000):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        is_read(codec, data, PackLimits())
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()

    assert max(peaks) < MIB // 2

"""Reads one msgpack value, bounded in parts and depth before anything is built.

Knows no array and no message. Ours rather than the library's: its unpacker keeps every map key as an interned string,
and Python 3.12 never frees those, so a client that makes up keys would fill the memory.
Source: github.com/msgpack/msgpack, spec.md.
"""

from __future__ import annotations

import reprlib
import struct
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Tuple

from stillframe_client.errors import WireError


@dataclass(frozen=True)
class PackLimits:
    """How much one message may make us build; its length is bounded where it is received."""

    max_parts: int = 10_000  # values, keys included (in JSON: commas and brackets): a list of pixels is refused
    max_depth: int = 16  # maps and lists inside each other
    max_array_bytes: int = 64 * 2**20
    max_key_length: int = 256  # characters


Meaning = Callable[[Dict[str, Any]], Any]  # what a map stands for; may raise WireError


def read_value(data: bytes, limits: PackLimits, meaning: Meaning) -> Any:
    """Read the one value that `data` holds; every map in it becomes what `meaning` makes of it. Raises WireError."""
    reader = _Reader(data, limits, meaning)
    value = reader.value(depth=0)
    if reader.at != len(data):
        raise WireError(f"{len(data) - reader.at} bytes follow the end of the msgpack value; send one value alone.")
    return value


class _Reader:
    """A place in the bytes, and how many parts may still come."""

    def __init__(self, data: bytes, limits: PackLimits, meaning: Meaning):
        self.data, self.limits, self.meaning = data, limits, meaning
        self.at = 0
        self.parts_left = limits.max_parts - 1

    def value(self, depth: int) -> Any:
        head = self.take(1)[0]
        if head < 0x80:
            return head
        if head >= 0xE0:
            return head - 0x100
        read = _BY_HEAD.get(head)
        if read is None:
            raise WireError(f"Byte {self.at - 1} is 0x{head:02x}: msgpack extensions and timestamps are not accepted.")
        return read(self, depth)

    def take(self, n_bytes: int) -> bytes:
        start, self.at = self.at, self.at + n_bytes
        if self.at > len(self.data):
            raise WireError(f"The msgpack value is cut short: byte {len(self.data)} is missing.")
        return self.data[start : self.at]

    def inside(self, n_parts: int, depth: int) -> int:
        """Enter a map or a list of `n_parts`: each of them takes a byte at least. Return the depth in there."""
        self.parts_left -= n_parts
        if self.parts_left < 0:
            raise WireError(f"The message has over {self.limits.max_parts} parts; send arrays and pictures as bytes.")
        if n_parts > len(self.data) - self.at:
            raise WireError(f"The msgpack value is cut short: it promises {n_parts} parts at byte {self.at}.")
        if depth >= self.limits.max_depth:
            raise WireError(f"Maps and lists are nested over {self.limits.max_depth} deep.")
        return depth + 1

    def blob(self, n_bytes: int, _: int) -> bytes:
        return self.take(n_bytes)

    def text(self, n_bytes: int, _: int) -> str:
        return _utf8(self.take(n_bytes))

    def items(self, n_items: int, depth: int) -> List[Any]:
        depth = self.inside(n_items, depth)
        return [self.value(depth) for _ in range(n_items)]

    def pairs(self, n_pairs: int, depth: int) -> Any:
        depth = self.inside(2 * n_pairs, depth)
        found: Dict[str, Any] = {}
        for _ in range(n_pairs):
            key = self.key(depth)
            if key in found:
                raise WireError(f"A map holds the key {reprlib.repr(key)} twice.")
            found[key] = self.value(depth)
        return self.meaning(found)

    def key(self, depth: int) -> str:
        key = self.value(depth)
        if not isinstance(key, (str, bytes)):
            raise WireError("A map's key is neither a string nor bytes.")
        if len(key) > self.limits.max_key_length:
            raise WireError(f"A map's key is {len(key)} long; at most {self.limits.max_key_length} are accepted.")
        return _utf8(key) if isinstance(key, bytes) else key


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise WireError("A string is not valid UTF-8; send bytes as bin.")


_Read = Callable[[_Reader, int], Any]  # the reader, just behind the head byte; the depth
_Take = Callable[[_Reader, int, int], Any]  # as well: how many bytes or parts


def _constant(value: Any) -> _Read:
    return lambda _, __: value


def _number(form: str) -> _Read:
    wire = struct.Struct(form)
    return lambda reader, _: wire.unpack(reader.take(wire.size))[0]


def _short(take: _Take, size: int) -> _Read:
    return lambda reader, depth: take(reader, size, depth)


def _sized(take: _Take, width: int) -> _Read:
    return lambda reader, depth: take(reader, int.from_bytes(reader.take(width), "big"), depth)


# What is not here (0xc1, the extensions) is refused; small numbers are their own head byte and are read above.
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = dict(enumerate((">f", ">d", ">B", ">H", ">I", ">Q", ">b", ">h", ">i", ">q"), 0xCA))
_SHORT: Tuple[Tuple[int, _Take, int], ...] = (  # first head byte, what it holds, how many head bytes
    (0x80, _Reader.pairs, 16),
    (0x90, _Reader.items, 16),
    (0xA0, _Reader.text, 32),
)
_SIZED: Tuple[Tuple[_Take, Mapping[int, int]], ...] = (  # what it holds; head byte -> width of its size
    (_Reader.blob, {0xC4: 1, 0xC5: 2, 0xC6: 4}),
    (_Reader.text, {0xD9: 1, 0xDA: 2, 0xDB: 4}),
    (_Reader.items, {0xDC: 2, 0xDD: 4}),
    (_Reader.pairs, {0xDE: 2, 0xDF: 4}),
)
_BY_HEAD: Mapping[int, _Read] = {
    **{head: _constant(value) for head, value in _CONSTANTS.items()},
    **{head: _number(form) for head, form in _NUMBERS.items()},
    **{first + size: _short(take, size) for first, take, n_heads in _SHORT for size in range(n_heads)},
    **{head: _sized(take, width) for take, heads in _SIZED for head, width in heads.items()},
}

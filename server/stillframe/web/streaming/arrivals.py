"""A message as it came off a stream, and what it is read into: fields, then a frame.

Knows no session. Both ways of reading are work for another thread than the event loop's.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from stillframe.stopwatch import Stopwatch
from stillframe.web.dialects.native import BINARY_NATIVE, JSON_NATIVE
from stillframe.web.reading.frames import Frame, Reader
from stillframe.web.reading.objects import Fields, parse_map, parse_object
from stillframe.web.reading.whose import Addressed
from stillframe.web.streaming.connection import Message


@dataclass(frozen=True)
class Arrival:
    """A message: its fields, the data they were read from, and a watch that runs since it came."""

    fields: Fields
    data: Message
    watch: Stopwatch

    @property
    def binary(self) -> bool:
        """Whether it came, and is answered, as msgpack."""
        return isinstance(self.data, bytes)


def parse(data: Message, max_parts: int) -> Fields:
    """From a message to its fields. Raises BadRequest."""
    return parse_object(data, max_parts) if isinstance(data, str) else parse_map(data, max_parts)


def read_frame(reader: Reader, arrival: Arrival) -> Frame:
    """From fields to a frame. Raises RequestError."""
    data = arrival.data.encode() if isinstance(arrival.data, str) else arrival.data
    dialect = BINARY_NATIVE if arrival.binary else JSON_NATIVE
    return reader.read(arrival.fields, dialect, Addressed(), blake2b(data, digest_size=16).digest())

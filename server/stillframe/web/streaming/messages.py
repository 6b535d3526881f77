"""What a native stream says to its client, in msgpack or JSON.

Knows no session's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from stillframe import __version__
from stillframe.domain import PolicyInfo
from stillframe.errors import RequestError
from stillframe.stopwatch import Stopwatch
from stillframe.web.dialects.native import BINARY_NATIVE, JSON_NATIVE
from stillframe.web.http.limits import Limits
from stillframe.web.http.objects import Fields, parse_map, parse_object
from stillframe.web.http.problems import problem_document, request_id_of
from stillframe.web.http.session_fields import Addressed
from stillframe.web.service.frame_parser import Frame, Reader
from stillframe.web.service.model_card import model_card
from stillframe.web.streaming.connection import Connection, Message
from stillframe_client.wire import JSON, MAX_COUNT, MSGPACK, is_session_id

Place = Mapping[str, Any]  # the members that say which frame of which session a message is about

_COUNTS = ("epoch", "seq")
_MAX_NS = 2**63


class Outbox:
    """One connection's outgoing side. Whatever it sends may raise Cut."""

    def __init__(self, connection: Connection, path: str, *, binary: bool):
        self._connection = connection
        self._path = path
        self.binary = binary  # how messages that answer none are written

    async def send(self, message: Mapping[str, Any], *, binary: bool | None = None) -> None:
        """Send one message: msgpack in a binary frame, or JSON in a text frame. Raises WireError."""
        codec = MSGPACK if (self.binary if binary is None else binary) else JSON
        await self._connection.send(codec.dump(message))

    async def refuse(self, error: RequestError, place: Place, *, binary: bool | None = None) -> None:
        """Say what became of a message instead of what it asked for, and which one it was."""
        message: dict[str, Any]
        if error.code == "superseded":
            message = {"type": "superseded", **place, "by": getattr(error, "by", None)}
        else:
            request_id = request_id_of(self._connection.websocket)
            document = problem_document(error, request_id=request_id, instance=self._path)
            message = {"type": "problem", "problem": document, **place}
        await self.send(message, binary=binary)

    async def hello(self, info: PolicyInfo, limits: Limits, state: str) -> None:
        """Say who serves what, and how much a message may hold."""
        bounds = {
            "max_message_bytes": limits.max_body_bytes,
            "max_images": limits.max_images,
            "max_image_pixels": limits.max_image_pixels,
            "max_instruction_bytes": limits.max_instruction_bytes,
            "default_max_age_ms": limits.default_max_age_ms,
        }
        model = model_card(info).model_dump(mode="json")
        server = f"stillframe/{__version__}"
        await self.send(
            {"type": "hello", "protocol": 1, "server": server, "state": state, "model": model, "limits": bounds}
        )


def place_of(fields: Mapping[str, Any]) -> Place:
    """What a message says of its place, as far as that makes sense: whoever waits for its answer knows it by that."""
    place: dict[str, Any] = {}
    session_id, stamp = fields.get("session_id"), fields.get("t_obs_ns")
    if is_session_id(session_id):
        counts = {name: fields[name] for name in _COUNTS if _is_count(fields.get(name))}
        place["session"] = {"id": session_id, **counts}
    if type(stamp) is int and -_MAX_NS <= stamp < _MAX_NS:
        place["t_obs_ns"] = stamp
    return place


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


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

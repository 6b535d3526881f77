"""The wire between bridge and streamer: fixed-size packets over a socket pair of one machine.

Knows no policy and no arm. A packet is whole or it is not there; neither side ever waits for the other: what does not
fit is dropped by the sender, and the streamer takes all there is at each tick. Times are of time.monotonic, which all
processes of a machine share.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, List, Optional, Tuple, Union

import numpy as np

from stillframe_client.jaco2.core.messages import ORDERS, Inbox, Order
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.domain import Step

MAGIC = b"SJ01"
_STEP = struct.Struct("<4sBQ9d")  # magic, kind, seq, delta [6], gripper, lasts_s, deadline_s
_ORDER = struct.Struct("<4sBB")  # magic, kind, number of the order
_HEARTBEAT = struct.Struct("<4sB")
_STATUS = struct.Struct("<4sQdB?d15d200s")
_KINDS = {1: _STEP, 2: _ORDER, 3: _HEARTBEAT}
_LONGEST = 1024
MOST_PER_TICK = 200  # packets; a bridge that sends more is not listened to beyond them until the next tick
_STATES = tuple(State)


@dataclass(frozen=True)
class Status:
    """What the streamer says of itself, some fifty times a second."""

    tick: int
    time_s: float
    state: State
    at_rest: bool  # nothing is sent any more
    late_ms: float  # of this tick
    pose: Tuple[float, ...]  # [7] position and orientation x, y, z, w; NaN: not reported
    pose_age_s: float
    closure: float  # reported; NaN: not reported
    sent: Tuple[float, ...]  # [6] linear in the base frame, angular in the tool's
    reason: str


def pair() -> Tuple[socket.socket, socket.socket]:
    """Both ends: the bridge's and the streamer's, which does not block. Raises OSError where the system has none."""
    ours, streamers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, streamers):
        end.settimeout(0)
    return ours, streamers


class BridgeEnd:
    """The bridge's end: sends steps and orders, reads what the streamer says."""

    def __init__(self, end: socket.socket):
        self._end = end
        self._seq = 0
        self.is_closed = False  # the streamer has ended

    def heartbeat(self) -> None:
        """Say that the bridge is well."""
        self._send(_HEARTBEAT.pack(MAGIC, 3))

    def order(self, name: str) -> None:
        """Send an order. Raises ValueError for one that is none of ORDERS."""
        if name not in ORDERS:
            raise ValueError(f"the order is {name!r}; expected one of {', '.join(ORDERS)}")
        self._send(_ORDER.pack(MAGIC, 2, ORDERS.index(name)))

    def step(self, delta: Any, gripper: float, lasts_s: float, deadline_s: float) -> int:
        """Send a step; return its number."""
        self._seq += 1
        self._send(_STEP.pack(MAGIC, 1, self._seq, *delta, gripper, lasts_s, deadline_s))
        return self._seq

    def newest(self) -> Optional[Status]:
        """The newest status since the last call; None where there is no new one."""
        said = self.statuses()
        return said[-1] if said else None

    def statuses(self) -> List[Status]:
        """All since the last call, in order."""
        packets, gone, _ = _drain(self._end)
        self.is_closed |= gone
        return [_status(packet) for packet in packets if len(packet) == _STATUS.size and packet.startswith(MAGIC)]

    def fileno(self) -> int:
        """For select and event loops."""
        return self._end.fileno()

    def close(self) -> None:
        """Hang up: the streamer stops the arm."""
        self._end.close()

    def _send(self, packet: bytes) -> None:
        self.is_closed |= not _sent(self._end, packet)


class StreamerEnd:
    """The streamer's end: takes everything as untrusted."""

    def __init__(self, end: socket.socket):
        self._end = end
        end.settimeout(0)

    def receive(self) -> Inbox:
        """All that came since the last call."""
        packets, gone, more = _drain(self._end, MOST_PER_TICK)
        messages: List[Union[Step, Order]] = []
        garbage = f"the bridge sends over {MOST_PER_TICK} messages in 10 ms" if more else ""
        for packet in packets:
            try:
                message = _message(packet)
            except ValueError as error:
                garbage = str(error)
            else:
                messages += [] if message is None else [message]
        return Inbox(tuple(messages), heartbeat=bool(packets), gone=gone, garbage=garbage)

    def say(self, status: Status) -> None:
        """Send a status; dropped where the bridge does not read."""
        numbers = (*status.pose, status.closure, *status.sent, status.late_ms)
        state = _STATES.index(status.state)
        reason = status.reason.encode("utf-8")[:200].ljust(200)
        _sent(
            self._end,
            _STATUS.pack(MAGIC, status.tick, status.time_s, state, status.at_rest, status.pose_age_s, *numbers, reason),
        )

    def close(self) -> None:
        """Hang up."""
        self._end.close()


def _message(packet: bytes) -> Optional[Union[Step, Order]]:
    """The packet's message; None for a heartbeat. Raises ValueError for what is none."""
    layout = _KINDS.get(packet[4]) if len(packet) > 4 else None
    if layout is None or len(packet) != layout.size or not packet.startswith(MAGIC):
        raise ValueError(f"the bridge sent {len(packet)} bytes that are no message of this version")
    fields = layout.unpack(packet)
    if layout is _STEP:
        seq, *numbers = fields[2:]
        return Step(seq, np.array(numbers[:6]), *numbers[6:])
    if layout is _ORDER:
        if fields[2] >= len(ORDERS):
            raise ValueError(f"the bridge sent order {fields[2]}; expected one of {', '.join(ORDERS)}")
        return Order(ORDERS[fields[2]])
    return None


def _status(packet: bytes) -> Status:
    _, tick, time_s, state, at_rest, pose_age_s, *rest = _STATUS.unpack(packet)
    numbers, reason = rest[:15], rest[15]
    return Status(
        tick=tick,
        time_s=time_s,
        state=_STATES[min(state, len(_STATES) - 1)],
        at_rest=at_rest,
        late_ms=numbers[14],
        pose=tuple(numbers[:7]),
        pose_age_s=pose_age_s,
        closure=numbers[7],
        sent=tuple(numbers[8:14]),
        reason=reason.rstrip(b" ").decode("utf-8", "replace"),
    )


def _drain(end: socket.socket, most: int = 10_000) -> Tuple[List[bytes], bool, bool]:
    """What has arrived, whether the peer is gone, and whether there is more."""
    packets: List[bytes] = []
    while len(packets) < most:
        try:
            packet = end.recv(_LONGEST)
        except BlockingIOError:
            return packets, False, False
        except OSError:
            return packets, True, False
        if not packet:
            return packets, True, False
        packets.append(packet)
    return packets, False, True


def _sent(end: socket.socket, packet: bytes) -> bool:
    """Send without waiting; False where the peer is gone."""
    try:
        end.send(packet)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def now_s() -> float:
    """The time that both sides go by."""
    return time.monotonic()

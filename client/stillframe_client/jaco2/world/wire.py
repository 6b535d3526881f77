"""The wire to a simulated world: fixed-size packets of one Unix socket, and msgpack for questions about episodes.

Knows no physics. A packet is whole or not there. The first packet of a connection says what it is for: an arm, a
camera or episodes. Times are of time.monotonic, which all processes of a machine share.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Optional, Tuple, Union

import msgpack
import numpy as np

from stillframe_client.jaco2.domain import ArmState, ToolPose, Twist

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.base import Picture

MAGIC = b"SW01"
ARM, CAMERA, EPISODES = b"A", b"C", b"E"
STOP, START, HOME = 2, 3, 4
LONGEST = 65536  # bytes of a packet
PIECE = 60_000  # bytes of a picture that go into one packet
POLL_S = 0.02

_HELLO = struct.Struct("<4sc16sHd")  # magic, role, camera's name, pixels of a side, pictures a second
_COMMAND = struct.Struct("<4sB7d")  # magic, kind, linear [3], angular [3], closure
_ORDER = struct.Struct("<4sB")
_REPORT = struct.Struct("<4sQ14d")  # magic, seq, pose [7], closure, joints [6]
_PICTURE = struct.Struct("<4sQHHI")  # magic, seq, height, width, bytes that follow in pieces


class WorldError(Exception):
    """The world cannot be reached, or said what it should not; the text says what to do."""


@dataclass(frozen=True)
class Hello:
    """What a connection is for."""

    role: bytes  # ARM, CAMERA or EPISODES
    camera: str = ""
    px: int = 0  # of a side
    fps: float = 0.0


def dial(path: str, hello: Hello, timeout_s: float) -> socket.socket:
    """Connect to the world at `path` and say what for; waits for a world that is still starting. Raises WorldError."""
    give_up_s = time.monotonic() + timeout_s
    packet = _HELLO.pack(MAGIC, hello.role, hello.camera.encode("ascii", "replace"), hello.px, hello.fps)
    while True:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            end.connect(path)
            end.send(packet)
        except OSError as error:
            end.close()
            if time.monotonic() >= give_up_s:
                raise WorldError(
                    f"no simulated world answers at {path!r} ({error.strerror}): start one with "
                    "`python -m stillframe_client.jaco2.world --socket PATH`, and set arm.socket to its path"
                ) from error
            time.sleep(POLL_S)
        else:
            return end


def read_hello(packet: bytes) -> Hello:
    """The first packet of a connection. Raises ValueError for what is none."""
    if len(packet) != _HELLO.size or not packet.startswith(MAGIC):
        raise ValueError(f"{len(packet)} bytes that are no greeting of this version")
    _, role, camera, px, fps = _HELLO.unpack(packet)
    if role not in (ARM, CAMERA, EPISODES):
        raise ValueError(f"role {role!r}; expected {ARM!r}, {CAMERA!r} or {EPISODES!r}")
    return Hello(role, camera.rstrip(b"\0").decode("ascii", "replace"), px, fps)


def pack_command(twist: Twist) -> bytes:
    """One 10 ms point."""
    return _COMMAND.pack(MAGIC, 1, *twist.linear_m_s, *twist.angular_rad_s, twist.closure)


def pack_order(kind: int) -> bytes:
    """STOP, START or HOME."""
    return _ORDER.pack(MAGIC, kind)


def read_command(packet: bytes) -> Union[Twist, int]:
    """A command, or the number of an order. Raises ValueError for what is neither."""
    if packet.startswith(MAGIC) and len(packet) == _COMMAND.size:
        numbers = np.array(_COMMAND.unpack(packet)[2:])
        if np.isfinite(numbers).all():
            return Twist(numbers[:3], numbers[3:6], float(numbers[6]))
        raise ValueError("a command with numbers that are not finite")
    if packet.startswith(MAGIC) and len(packet) == _ORDER.size and packet[4] in (STOP, START, HOME):
        return packet[4]
    raise ValueError(f"{len(packet)} bytes that are no command of this version")


def pack_report(state: ArmState) -> bytes:
    """What the arm reports; all of it is known."""
    joints = state.joints_rad or (0.0,) * 6
    return _REPORT.pack(MAGIC, state.seq, *state.pose.position_m, *state.pose.orientation, state.closure, *joints)


def read_report(packet: bytes, now_s: float) -> ArmState:
    """A report that arrived now. Raises ValueError for what is none."""
    if len(packet) != _REPORT.size or not packet.startswith(MAGIC):
        raise ValueError(f"{len(packet)} bytes that are no report of this version")
    seq, *numbers = _REPORT.unpack(packet)[1:]
    pose = ToolPose(np.array(numbers[:3]), np.array(numbers[3:7]))
    return ArmState(seq, now_s, pose, numbers[7], tuple(numbers[8:]))


def pack_picture(seq: int, picture: Picture) -> List[bytes]:
    """A picture [height, width, 3] as packets: a head, then pieces."""
    height, width, _ = picture.shape
    body = picture.tobytes()
    pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
    return [_PICTURE.pack(MAGIC, seq, height, width, len(body)), *pieces]


def read_picture_head(packet: bytes) -> Tuple[int, int, int]:
    """Height, width and bytes of the picture that follows. Raises ValueError."""
    if len(packet) != _PICTURE.size or not packet.startswith(MAGIC):
        raise ValueError(f"{len(packet)} bytes that begin no picture of this version")
    height, width, nbytes = _PICTURE.unpack(packet)[2:]
    if nbytes != height * width * 3:
        raise ValueError(f"{nbytes} bytes for a picture of {height} by {width}")
    return height, width, nbytes


def pack_message(message: object) -> bytes:
    """A question about the episode, or its answer."""
    return bytes(msgpack.packb(message))


def read_message(packet: bytes) -> dict:  # type: ignore[type-arg]  # of plain values, whatever they are
    """A question or an answer: a map with names. Raises ValueError for what is none."""
    try:
        message = msgpack.unpackb(packet)
    except Exception as error:
        raise ValueError(f"{len(packet)} bytes that are no message") from error
    if not isinstance(message, dict) or not all(isinstance(name, str) for name in message):
        raise ValueError("a message that is no map with names")
    return message


def drain(end: socket.socket) -> Tuple[List[bytes], bool]:
    """What has arrived at a socket that does not block, and whether the peer is gone."""
    packets: List[bytes] = []
    while True:
        try:
            packet = end.recv(LONGEST)
        except BlockingIOError:
            return packets, False
        except OSError:
            return packets, True
        if not packet:
            return packets, True
        packets.append(packet)


def try_send(end: socket.socket, packet: bytes) -> Optional[bool]:
    """Send without waiting: True; False where it does not fit now; None where the peer is gone."""
    try:
        end.send(packet)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True

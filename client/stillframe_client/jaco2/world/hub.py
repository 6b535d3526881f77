"""The world's socket and its beat: takes commands and questions, lets time go by, tells the arm's reports.

Knows no physics and no picture. Nothing here waits but for the next 10 ms; what a peer does not read is dropped, and a
peer that sends what is no packet is hung up on.
"""

from __future__ import annotations

import selectors
import socket
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.domain import Twist
from stillframe_client.jaco2.world import wire

if TYPE_CHECKING:
    from stillframe_client.jaco2.world.room import Room

SENT_BYTES = 4_000_000  # asked of the system for a camera's pictures
REMEMBERED = 60_000  # beats: ten minutes


class Lateness:
    """How late the world's beats came, in milliseconds."""

    def __init__(self) -> None:
        self._late_ms: List[float] = []

    def add(self, late_s: float) -> None:
        """Note one beat."""
        if len(self._late_ms) < REMEMBERED:
            self._late_ms.append(late_s * 1e3)

    def report(self) -> Dict[str, float]:
        """Count, median, 99th percentile and worst, and begin anew."""
        late, self._late_ms = sorted(self._late_ms), []
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        told = {
            name: round(late[min(int(share * len(late)), len(late) - 1)], 3) for name, share in shares.items() if late
        }
        return {"beats": len(late), **told}


class Hub:
    """One listening socket and its peers, served by one thread."""

    def __init__(self, listener: socket.socket, room: Room, add_camera: Callable[[socket.socket, wire.Hello], None]):
        self._listener, self._room, self._add_camera = listener, room, add_camera
        self._lateness, self._told = Lateness(), -1
        self._arms: List[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        listener.settimeout(0)
        self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def run(self, is_over: Callable[[], bool]) -> None:
        """Serve until it is over."""
        due_s = time.monotonic()
        while not is_over():
            self._serve_until(due_s)
            now_s = time.monotonic()
            self._lateness.add(now_s - due_s)
            self._room.advance(now_s)
            self._report()
            due_s += TICK_S * max(1, -int(-(now_s - due_s) // TICK_S))
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]  # all of them are sockets
        self._selector.close()

    def _serve_until(self, due_s: float) -> None:
        """Hear the peers until that time, and once at least."""
        while True:
            left_s = due_s - time.monotonic()
            for key, _ in self._selector.select(max(left_s, 0.0)):
                key.data(key.fileobj)
            if left_s <= 0:
                return

    def _accept(self, listener: socket.socket) -> None:
        peer, _ = listener.accept()
        peer.settimeout(0)
        self._selector.register(peer, selectors.EVENT_READ, self._greet)

    def _greet(self, peer: socket.socket) -> None:
        try:
            hello = wire.read_hello(peer.recv(wire.LONGEST))
        except (OSError, ValueError):
            self._hang_up(peer)
            return
        self._selector.unregister(peer)
        if hello.role == wire.CAMERA:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_BYTES)
            self._add_camera(peer, hello)
            return
        if hello.role == wire.ARM:
            self._arms.append(peer)
            wire.try_send(peer, wire.pack_report(self._room.state))
        self._selector.register(peer, selectors.EVENT_READ, self._command if hello.role == wire.ARM else self._question)

    def _command(self, peer: socket.socket) -> None:
        packets, gone = wire.drain(peer)
        try:
            for packet in packets:
                self._obey(wire.read_command(packet))
        except ValueError:
            gone = True
        if gone:
            self._arms.remove(peer)
            self._hang_up(peer)

    def _obey(self, told: Any) -> None:
        if isinstance(told, Twist):
            self._room.command(told)
        else:
            {wire.STOP: self._room.stop, wire.START: self._room.start, wire.HOME: self._room.home}[told]()

    def _question(self, peer: socket.socket) -> None:
        packets, gone = wire.drain(peer)
        for packet in packets:
            gone |= wire.try_send(peer, wire.pack_message(self._answer(packet))) is None
        if gone:
            self._hang_up(peer)

    def _answer(self, packet: bytes) -> Dict[str, Any]:
        try:
            message = wire.read_message(packet)
            return self._about(message.get("ask"), message)
        except ValueError as error:
            return {"error": str(error)}

    def _about(self, ask: Any, message: Dict[str, Any]) -> Dict[str, Any]:
        if ask == "reset":
            seed, options = message.get("seed"), message.get("options", {})
            if not isinstance(seed, int) or not isinstance(options, dict):
                raise ValueError(f"seed is {seed!r} and options {options!r}; expected a whole number and names")
            return self._room.reset(seed, options)
        if ask == "report":
            return {"late_ms": self._lateness.report(), **self._room.counts()}
        asked: Optional[Callable[[], Dict[str, Any]]] = {
            "verdict": self._room.verdict, "expert": self._room.expert
        }.get(str(ask))  # fmt: skip
        if asked is None:
            raise ValueError(f"ask is {ask!r}; expected reset, verdict, expert or report")
        return asked()

    def _report(self) -> None:
        if self._room.seq == self._told:
            return
        self._told = self._room.seq
        packet = wire.pack_report(self._room.state)
        for peer in self._arms:
            wire.try_send(peer, packet)

    def _hang_up(self, peer: socket.socket) -> None:
        self._selector.unregister(peer)
        peer.close()

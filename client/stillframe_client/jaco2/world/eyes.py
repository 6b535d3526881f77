"""Draws pictures for those who look, on the thread that owns OpenGL, from copies: the physics never waits for them.

Knows no arm and no episode. A viewer that does not read its pictures misses them; one that reads half a picture gets
the rest of it first.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Deque, Dict, List

import numpy as np

from stillframe_client.jaco2.world import wire
from stillframe_client.sim.camera import Cameras
from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.laser import PalmLaser
from stillframe_client.sim.scene import CAMERAS
from stillframe_client.sim.sensors import SensorNoise

if TYPE_CHECKING:
    from stillframe_client.jaco2.world.room import Room

IDLE_S = 0.02
LEAST_PX, MOST_PX = 16, 1024
MOST_FPS = 60.0
PERFECT = SensorNoise()


@dataclass(eq=False)
class _Viewer:
    peer: socket.socket
    camera: str
    px: int
    period_s: float
    due_s: float
    seq: int = 0
    waiting: Deque[bytes] = field(default_factory=deque)  # packets of a picture that has begun


class Eyes:
    """The viewers of one room."""

    def __init__(self, room: Room, noise: SensorNoise = PERFECT, seed: int = 0):
        self._room, self._noise, self._rng = room, noise, np.random.default_rng(seed)
        self._data = mujoco.MjData(room.model)
        self._laser = PalmLaser(room.model, self._data)
        self._cameras: Dict[int, Cameras] = {}  # pixels of a side -> what draws them
        self._viewers: List[_Viewer] = []
        self._new: queue.SimpleQueue[_Viewer] = queue.SimpleQueue()

    def add(self, peer: socket.socket, hello: wire.Hello) -> None:
        """Take a viewer, from any thread; one that asks for what is not there is hung up on."""
        fits = hello.camera in CAMERAS and LEAST_PX <= hello.px <= MOST_PX and 0 < hello.fps <= MOST_FPS
        if not fits:
            peer.close()
            return
        self._new.put(_Viewer(peer, hello.camera, hello.px, 1 / hello.fps, time.monotonic()))

    def run(self, is_over: Callable[[], bool]) -> None:
        """Draw until it is over, in the calling thread."""
        while not is_over():
            with contextlib.suppress(queue.Empty):
                while True:
                    self._viewers.append(self._new.get_nowait())
            now_s = time.monotonic()
            for viewer in [viewer for viewer in self._viewers if viewer.waiting or viewer.due_s <= now_s]:
                self._serve(viewer, now_s)
            nearest_s = min((viewer.due_s for viewer in self._viewers), default=now_s + IDLE_S)
            unsent = any(viewer.waiting for viewer in self._viewers)
            time.sleep(min(max(nearest_s - time.monotonic(), 0.001), 0.002 if unsent else IDLE_S))
        for viewer in self._viewers:
            viewer.peer.close()
        for cameras in self._cameras.values():
            cameras.close()

    def _serve(self, viewer: _Viewer, now_s: float) -> None:
        if viewer.due_s <= now_s:
            viewer.due_s = max(viewer.due_s + viewer.period_s, now_s)
            if not viewer.waiting:
                viewer.seq += 1
                viewer.waiting.extend(wire.pack_picture(viewer.seq, self._picture(viewer)))
        while viewer.waiting:
            sent = wire.try_send(viewer.peer, viewer.waiting[0])
            if sent is None:
                self._viewers.remove(viewer)
                viewer.peer.close()
                return
            if not sent:
                return
            viewer.waiting.popleft()

    def _picture(self, viewer: _Viewer) -> Any:
        """[px, px, 3] of the scene as it is now."""
        if viewer.px not in self._cameras:
            self._cameras[viewer.px] = Cameras(self._room.model, self._data, self._laser, viewer.px)
        shapes = self._room.copy_into(self._data)
        return self._noise.spoil(self._cameras[viewer.px].picture(viewer.camera, shapes), self._rng)

"""The simulator's process: answers requests over one socket until the other side closes it.

Knows the requests and a scene that carries them out; the real one is imported as the first is opened.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from stillframe_lab.libero.simulator.messages import receive, send

REQUESTS = ("reset", "step", "pictures", "masks", "camera")  # of an open task


class Scene(Protocol):
    """One task of a suite; scene.LiberoScene is the real one."""

    def describe(self) -> dict[str, Any]:
        """What the task is: instruction, number of initial states, bounds of its objects, versions."""
        ...

    def reset(self, init_state: int | None, seed: int) -> dict[str, Any]:
        """Begin an episode -> what is read of it."""
        ...

    def step(self, action: Any) -> dict[str, Any]:
        """Apply an action [7] for one control step -> what is read after it."""
        ...

    def pictures(self, cameras: Sequence[str]) -> dict[str, Any]:
        """Draw these of agentview and wrist -> name -> uint8 [height, width, 3] as OpenGL has them, rows upwards."""
        ...

    def masks(self, cameras: Sequence[str]) -> dict[str, Any]:
        """Which pixels of these cameras' pictures matter to the task -> name -> bool [height, width], rows upwards."""
        ...

    def camera(self, name: str) -> dict[str, Any]:
        """Where a camera is now, and how wide it sees."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


Open = Callable[..., Scene]  # of the fields of the request


def serve(connection: socket.socket, open_scene: Open) -> None:
    """Answer every request in order; one that fails is answered with `error`, and the next is read."""
    desk = _Desk(open_scene)
    try:
        while (request := receive(connection)) is not None:
            try:
                reply = desk.answer(**request)
            except Exception as error:  # noqa: BLE001 -- whatever it is, the lab has to hear of it
                reply = {"error": f"{type(error).__name__}: {error}"}
            send(connection, reply)
    finally:
        desk.close()


class _Desk:
    """At most one open scene, and what is asked of it."""

    def __init__(self, open_scene: Open):
        self._open_scene = open_scene
        self._scene: Scene | None = None

    def answer(self, do: str, **fields: Any) -> dict[str, Any]:
        """Carry out one request. Raises ValueError for one that is none, or comes before a task is open."""
        if do == "open":
            self.close()
            self._scene = self._open_scene(**fields)
            return self._scene.describe()
        if do not in REQUESTS:
            raise ValueError(f"do is {do!r}; expected open or one of {', '.join(REQUESTS)}")
        if self._scene is None:
            raise ValueError(f"{do!r} before a task is open; open one first")
        reply: dict[str, Any] = getattr(self._scene, do)(**fields)
        return reply

    def close(self) -> None:
        """Close the scene, if one is open."""
        scene, self._scene = self._scene, None
        if scene is not None:
            scene.close()


def _open(**fields: Any) -> Scene:
    """The real scene, imported here: that takes seconds and another environment."""
    from stillframe_lab.libero.simulator.scene import LiberoScene

    return LiberoScene(**fields)


def main(descriptor: int) -> None:
    """Serve the socket that this process was started with. What the simulator prints goes to stderr."""
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    with socket.socket(fileno=descriptor) as connection:
        serve(connection, _open)

"""The simulator's process with a scene that counts instead of simulating: `python fake_simulator.py FD`."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from stillframe_lab.libero.simulator.serve import serve

FAILS, DIES, HANGS = 7.0, 8.0, 9.0  # in an action's first number


def say(words: str) -> None:
    """Into the process's log."""
    sys.stderr.write(words + "\n")
    sys.stderr.flush()


class CountingScene:
    """A hand that goes where it is told; the task is done once it has gone a metre along x."""

    def __init__(self, suite: str, task: int, *, draw: str):
        if suite != "libero_spatial":
            raise KeyError(suite)
        self.task, self.draw, self.closed = task, draw, False

    def describe(self) -> dict[str, Any]:
        """Of the task's number."""
        bounds = {"bowl": np.array([[-0.05, -0.05, 0.0], [0.05, 0.05, 0.05]])}
        return {
            "instruction": f"do {self.task}",
            "init_states": 50,
            "interest": ["bowl", "plate"],
            "bounds": bounds,
            "versions": {"fake": "1", "drawn": self.draw},
        }

    def reset(self, init_state: int | None, seed: int) -> dict[str, Any]:
        """The bowl's place says what was asked for."""
        self.place = np.zeros(3)
        self.bowl = np.array([-1.0 if init_state is None else init_state, seed, self.task, 0.0, 0.0, 0.0, 1.0])
        return self.reading()

    def step(self, action: Any) -> dict[str, Any]:
        """Move; or fail, die or hang."""
        if action[0] == FAILS:
            raise ValueError("executing action in terminated episode")
        if action[0] == DIES:
            say("out of memory")
            os._exit(3)
        if action[0] == HANGS:
            say("thinking")
            time.sleep(60)
        self.place = self.place + action[:3]
        return self.reading()

    def pictures(self, cameras: Sequence[str]) -> dict[str, Any]:
        """Grey as far as the hand has gone, the wrist's a little lighter."""
        grey = np.full((4, 4, 3), int(10 * self.place[0]), np.uint8)
        return {name: grey + (name == "wrist") for name in cameras}

    def masks(self, cameras: Sequence[str]) -> dict[str, Any]:
        """The picture's first pixel, and all of the wrist's."""
        first = np.zeros((4, 4), bool)
        first[0, 0] = True
        return {name: first | (name == "wrist") for name in cameras}

    def camera(self, name: str) -> dict[str, Any]:
        """As many metres away as its name has letters, and as wide in degrees."""
        return {"position": np.array([len(name), 0, 0]), "turn": np.eye(3), "fovy_deg": float(len(name))}

    def reading(self) -> dict[str, Any]:
        """Where the hand and the bowl are."""
        return {
            "position": self.place,
            "quaternion": np.array([1.0, 0.0, 0.0, 0.0]),
            "fingers": np.array([0.04, -0.04]),
            "success": bool(self.place[0] >= 1.0),
            "objects": {"bowl": self.bowl},
        }

    def close(self) -> None:
        """Say so on stderr."""
        say(f"closed {self.task}")


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        serve(connection, CountingScene)

"""Loads MuJoCo with a way to draw that works on this machine, or says what is missing.

Knows no scene: every other room takes `mujoco` from here, so that the choice of OpenGL always comes first.
"""

from __future__ import annotations

import os

from stillframe_client.sim import gl
from stillframe_client.sim.assets import INSTALL

try:
    _backend = gl.choose(os.environ)
except gl.NoOpenGLError:
    _backend = "disable"  # physics still works; `require_drawing` raises when a camera is asked for
if _backend:
    os.environ["MUJOCO_GL"] = _backend  # mujoco reads it while it is imported, and takes no argument instead

try:
    import mujoco
except ImportError as missing:
    raise ImportError(f"the simulated Jaco2 needs MuJoCo: {INSTALL}") from missing

__all__ = ["mujoco", "require_drawing"]


def require_drawing() -> None:
    """Raise NoOpenGLError, with advice, where no camera can be rendered."""
    if os.environ.get("MUJOCO_GL") == "disable":
        raise gl.NoOpenGLError(gl.NOTHING_WORKS)

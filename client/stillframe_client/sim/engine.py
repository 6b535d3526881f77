"""Loads MuJoCo with a way to draw that works on this machine, or says what is missing.

Knows no scene: every other room takes `mujoco` from here, so that the choice of OpenGL always comes first.
"""

from __future__ import annotations

import os
import sys

from stillframe_client.sim import gl
from stillframe_client.sim.assets import INSTALL
from stillframe_client.sim.drawing import read_backend

_early = "mujoco" in sys.modules  # imported before this module: it has read MUJOCO_GL already
try:
    _backend = gl.choose(os.environ)
except gl.NoOpenGLError:
    _backend = "disable"  # physics still works; `require_drawing` raises when a camera is asked for
BACKEND = read_backend(os.environ, _backend, early=_early)
if _backend:
    os.environ["MUJOCO_GL"] = _backend  # mujoco reads it while it is imported, and takes no argument instead

try:
    import mujoco
except ImportError as missing:
    raise ImportError(f"the simulated Jaco2 needs MuJoCo: {INSTALL}") from missing
except RuntimeError as invalid:
    raise gl.NoOpenGLError(
        f"MUJOCO_GL is {_backend!r}, which MuJoCo does not know: unset it, or set it to egl, osmesa or glfw."
    ) from invalid

__all__ = ["BACKEND", "mujoco", "require_drawing"]


def require_drawing() -> None:
    """Raise NoOpenGLError, with advice, where no camera can be rendered."""
    BACKEND.check(os.environ)

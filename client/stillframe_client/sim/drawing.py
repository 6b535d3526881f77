"""Rules of rendering and their errors: which OpenGL MuJoCo uses, which thread an OpenGL context belongs to.

Knows no MuJoCo and makes no context.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from stillframe_client.sim import gl

OFF = ("disable", "disabled", "off", "false", "0")
_WINDOW = ("", "enable", "enabled", "on", "true", "1", "glfw", "glx")  # MuJoCo's default on Linux is a window's
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY")
_CHOICES = "unset MUJOCO_GL, or set it to egl or osmesa, before the program starts"


class WrongThreadError(RuntimeError):
    """An OpenGL context was used in another thread than its own."""


@dataclass(frozen=True)
class Backend:
    """What MuJoCo draws with in this process: it reads MUJOCO_GL once, as it is imported."""

    name: str  # MUJOCO_GL's value as MuJoCo read it
    early: bool  # MuJoCo was there before us, so our choice came too late

    def check(self, environ: Mapping[str, str], platform: str = sys.platform) -> None:
        """Raise NoOpenGLError where it cannot draw, as far as can be told without trying."""
        if self.name.lower().strip() in OFF:
            raise gl.NoOpenGLError(self._too_late() if self.early else gl.NOTHING_WORKS)
        if self.needs_screen(platform) and not any(environ.get(name) for name in _SCREENS):
            raise gl.NoOpenGLError(self._too_late() if self.early else self._no_screen())

    def needs_screen(self, platform: str = sys.platform) -> bool:
        """Whether it draws into a window."""
        return platform.startswith("linux") and self.name.lower().strip() in _WINDOW

    def failed(self, error: Exception) -> gl.NoOpenGLError:
        """The error text for a context that could not be made although the checks passed."""
        hint = self._too_late() if self.early else f"to choose another way to draw, {_CHOICES}."
        return gl.NoOpenGLError(
            f"MuJoCo could not draw with {self.name or 'its default'} ({type(error).__name__}): {hint}"
        )

    def _too_late(self) -> str:
        return (
            f"MuJoCo was imported before stillframe_client.sim, with MUJOCO_GL={self.name!r}, and cannot draw with "
            "that here: import stillframe_client.sim first (it chooses one that works), or set MUJOCO_GL to egl or "
            "osmesa before the program starts."
        )

    def _no_screen(self) -> str:
        return f"MUJOCO_GL={self.name} draws into a window, and there is no screen (no DISPLAY): {_CHOICES}."


def read_backend(environ: Mapping[str, str], chosen: str | None, *, early: bool) -> Backend:
    """What MuJoCo draws with: what was `chosen` for it, or, where it was there before, what it had found."""
    found = environ.get("MUJOCO_GL", "")
    return Backend(found if early else chosen or found, early=early and found != (chosen or found))


def check_thread(owner: threading.Thread, what: str) -> None:
    """Raise WrongThreadError unless this is the thread that a context belongs to, or that one has ended."""
    here = threading.current_thread()
    if here is not owner and owner.is_alive():
        raise wrong_thread(owner, what)


def wrong_thread(owner: threading.Thread, what: str) -> WrongThreadError:
    """The error text."""
    return WrongThreadError(
        f"This scene was first drawn in thread {owner.name!r} and is to be {what} in "
        f"{threading.current_thread().name!r}: an OpenGL context belongs to one thread. Draw and close a scene in the "
        "thread that drew first, or make one JacoEnv in each thread."
    )

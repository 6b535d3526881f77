from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

from stillframe_client.sim import JacoEnv, gl
from stillframe_client.sim.drawing import Backend, WrongThreadError, read_backend


@pytest.mark.parametrize(
    ("found", "chosen", "early", "backend"),
    [
        ({}, "egl", False, Backend("egl", early=False)),
        ({"MUJOCO_GL": "osmesa"}, "osmesa", False, Backend("osmesa", early=False)),
        ({"MUJOCO_GL": "osmesa"}, "osmesa", True, Backend("osmesa", early=False)),
        ({}, "egl", True, Backend("", early=True)),
        ({}, None, True, Backend("", early=False)),
        ({}, None, False, Backend("", early=False)),
    ],
)
def test_what_mujoco_has_read(found: dict[str, str], chosen: str | None, early: bool, backend: Backend) -> None:  # noqa: FBT001 # parameters of a test
    """Our choice, unless MuJoCo was there before it and had made another one."""
    assert read_backend(found, chosen, early=early) == backend


@pytest.mark.parametrize("name", ["egl", "osmesa", "EGL"])
def test_what_needs_no_screen(name: str) -> None:
    """It is tried."""
    Backend(name, early=False).check({}, "linux")


@pytest.mark.parametrize("name", ["glfw", "GLFW ", "glx", "", "on"])
@pytest.mark.parametrize("screen", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_window_needs_a_screen(name: str, screen: str) -> None:
    """Without one the text says so, and what to set; other systems have theirs."""
    Backend(name, early=False).check({screen: ":0"}, "linux")
    Backend(name, early=False).check({}, "darwin")
    for environ in ({}, {screen: ""}):
        with pytest.raises(gl.NoOpenGLError, match=r"no screen.*set it to egl or osmesa"):
            Backend(name, early=False).check(environ, "linux")


@pytest.mark.parametrize("name", ["disable", "off", "0"])
def test_drawing_that_is_switched_off(name: str) -> None:
    """It is told which packages are missing."""
    with pytest.raises(gl.NoOpenGLError, match="apt-get install"):
        Backend(name, early=False).check({"DISPLAY": ":0"}, "linux")


def test_mujoco_before_us() -> None:
    """The order of the imports is what to change."""
    with pytest.raises(gl.NoOpenGLError, match=r"imported before.*import stillframe_client.sim first"):
        Backend("", early=True).check({}, "linux")
    words = str(Backend("", early=True).failed(OSError("gladLoadGL error")))
    assert "OSError" in words
    assert "import stillframe_client.sim first" in words
    assert "egl or osmesa" in str(Backend("glx", early=False).failed(OSError("x")))


def in_another_thread(call: Callable[[], object]) -> BaseException | None:
    """Call it there, and say what it raised."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            call()
            raised.append(None)
        except BaseException as error:  # noqa: BLE001 -- looked at by the test
            raised.append(error)

    thread = threading.Thread(target=run, name="other")
    thread.start()
    thread.join(60)
    return raised[0]


@pytest.mark.gl
def test_drawing_belongs_to_a_thread(seeing: JacoEnv) -> None:
    """Drawing and closing in another one is refused with the rule, and harms nothing."""
    seeing.reset(seed=0)
    before = seeing.render("front")
    for call in (lambda: seeing.render("front"), seeing.close):
        error = in_another_thread(call)
        assert isinstance(error, WrongThreadError)
        assert "'MainThread'" in str(error)
        assert "'other'" in str(error)
        assert "one JacoEnv in each thread" in str(error)

    assert np.array_equal(seeing.render("front"), before)


@pytest.mark.gl
def test_a_scene_whose_thread_has_ended(seeing: JacoEnv) -> None:
    """It is drawn anew where it is needed now: its context went with its thread."""
    other = JacoEnv("pick")
    assert in_another_thread(lambda: (other.reset(seed=0), other.render("front"))) is None
    seeing.reset(seed=0)

    assert np.array_equal(other.render("front"), seeing.render("front"))
    other.close()


@pytest.mark.process
@pytest.mark.parametrize("value", ["nonsense", "vulkan"])
def test_a_value_that_mujoco_does_not_know(value: str) -> None:
    """It is told with those that it does."""
    ran = subprocess.run(
        [sys.executable, "-c", "import stillframe_client.sim.engine"],
        env={"MUJOCO_GL": value, "PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ran.returncode == 1
    assert f"MUJOCO_GL is {value!r}" in ran.stderr.splitlines()[-1]
    assert "set it to egl, osmesa or glfw" in ran.stderr.splitlines()[-1]

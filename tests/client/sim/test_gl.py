from __future__ import annotations

import os
import subprocess
import sys

import pytest

from stillframe_client.sim import gl


def test_the_environment_variable_wins() -> None:
    """MUJOCO_GL is respected without probing anything."""
    never = {"egl": lambda: pytest.fail("probed")}

    assert gl.choose({"MUJOCO_GL": "glfw"}, "linux", never) == "glfw"


@pytest.mark.parametrize(
    ("egl", "osmesa", "choice"), [(True, True, "egl"), (True, False, "egl"), (False, True, "osmesa")]
)
def test_egl_comes_before_osmesa(egl: bool, osmesa: bool, choice: str) -> None:  # noqa: FBT001 # parameters of a test
    """The first backend that works is chosen, EGL being the first asked."""
    probes = {"egl": lambda: egl, "osmesa": lambda: osmesa}

    assert gl.choose({}, "linux", probes) == choice


def test_other_systems_keep_their_own_default() -> None:
    """Off Linux nothing is probed and nothing chosen."""
    assert gl.choose({}, "darwin", {"egl": lambda: pytest.fail("probed")}) is None


@pytest.mark.parametrize("package", ["libegl1", "libegl-mesa0", "libgl1-mesa-dri", "libopengl0", "libosmesa6"])
def test_the_error_names_every_debian_package(package: str) -> None:
    """Where nothing draws, the error says which packages to install."""
    with pytest.raises(gl.NoOpenGLError, match=package):
        gl.choose({}, "linux", {"egl": lambda: False, "osmesa": lambda: False})


@pytest.mark.process
def test_the_command_prints_the_choice() -> None:
    """`python -m stillframe_client.sim.gl` answers with the backend alone, and quietly."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "stillframe_client.sim.gl"],
        env={**os.environ, "MUJOCO_GL": "osmesa"}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "osmesa\n", "")


def test_the_command_fails_with_the_advice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any backend the command exits with 1 and prints the advice on stderr."""
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(gl, "choose", _nothing_works)

    assert gl.main() == 1
    assert "apt-get install" in capsys.readouterr().err


def test_a_missing_library_is_not_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probes answer False, and do not raise, where the libraries are absent."""

    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", absent)

    assert not gl.egl_works()
    assert not gl.osmesa_works()


def _nothing_works(*_: object) -> str:
    raise gl.NoOpenGLError(gl.NOTHING_WORKS)

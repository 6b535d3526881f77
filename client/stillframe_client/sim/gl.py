"""Chooses the OpenGL that MuJoCo draws with on a machine without a screen: EGL, else OSMesa.

Knows no MuJoCo: the choice has to be made before `import mujoco`, which reads MUJOCO_GL once.

`python -m stillframe_client.sim.gl` prints the choice, or why there is none, and then exits with status 1.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping

EGL_PLATFORM_DEVICE = 0x313F  # EGL_EXT_platform_device
EGL_OPENGL_API = 0x30A2
# Renderable type OpenGL, surface type pbuffer, depth of 24 bits: the least that MuJoCo asks for.
EGL_CONFIG = (0x3040, 0x0008, 0x3033, 0x0001, 0x3025, 24, 0x3038)
OSMESA_RGBA = 0x1908

NOTHING_WORKS = (
    "no OpenGL for drawing without a screen: neither EGL nor OSMesa could make a context. "
    "On Debian or Ubuntu install one of them: "
    "`apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri libopengl0` (EGL) or `apt-get install libosmesa6` (OSMesa). "
    "To choose by hand set MUJOCO_GL to egl, osmesa or glfw."
)

Probe = Callable[[], bool]


class NoOpenGLError(RuntimeError):
    """No backend works here; the text names the packages that would help."""


def egl_works() -> bool:
    """Whether some EGL device gives an OpenGL context."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        _load_first("libOpenGL.so.0", "libGL.so.1")
        return any(_context_on(egl, device) for device in _egl_devices(egl))
    except (OSError, AttributeError):
        return False


def osmesa_works() -> bool:
    """Whether Mesa's off-screen library is there and makes a context."""
    try:
        mesa = _load_first("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")
        create = _function(mesa.OSMesaCreateContextExt, ctypes.c_void_p, *[ctypes.c_int] * 4, ctypes.c_void_p)
        destroy = _function(mesa.OSMesaDestroyContext, None, ctypes.c_void_p)
    except (OSError, AttributeError):
        return False
    context = create(OSMESA_RGBA, 24, 8, 0, None)
    if context:
        destroy(context)
    return bool(context)


PROBES: Mapping[str, Probe] = {"egl": egl_works, "osmesa": osmesa_works}


def choose(
    environ: Mapping[str, str], platform: str = sys.platform, probes: Mapping[str, Probe] = PROBES
) -> str | None:
    """Name the backend for MUJOCO_GL; None leaves it to MuJoCo, which needs no advice off Linux.

    MUJOCO_GL in `environ` is respected unseen. Raises NoOpenGLError when no probe succeeds.
    """
    if environ.get("MUJOCO_GL"):
        return environ["MUJOCO_GL"]
    if not platform.startswith("linux"):
        return None
    for name, works in probes.items():
        if works():
            return name
    raise NoOpenGLError(NOTHING_WORKS)


def _load_first(*names: str) -> ctypes.CDLL:
    for name in names[:-1]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return ctypes.CDLL(names[-1])


def _function(symbol: Callable[..., object], result: object, *arguments: object) -> Callable[..., int | None]:
    symbol.restype, symbol.argtypes = result, arguments  # type: ignore[attr-defined] # ctypes types by assignment
    return symbol  # type: ignore[return-value] # the int is a C pointer


def _extension(egl: ctypes.CDLL, name: bytes, *arguments: object) -> Callable[..., int]:
    address = _function(egl.eglGetProcAddress, ctypes.c_void_p, ctypes.c_char_p)(name)
    if not address:
        raise AttributeError(name)
    return ctypes.CFUNCTYPE(ctypes.c_void_p, *arguments)(address)  # type: ignore[arg-type] # ctypes' own types


def _egl_devices(egl: ctypes.CDLL) -> list[int | None]:
    query = _extension(egl, b"eglQueryDevicesEXT", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    devices, count = (ctypes.c_void_p * 10)(), ctypes.c_int()
    query(len(devices), ctypes.byref(devices), ctypes.byref(count))
    return list(devices[: count.value])


def _context_on(egl: ctypes.CDLL, device: int | None) -> bool:
    """Make an OpenGL context on one device and free it again."""
    pointer = ctypes.c_void_p
    get_display = _extension(egl, b"eglGetPlatformDisplayEXT", ctypes.c_uint, pointer, pointer)
    display = get_display(EGL_PLATFORM_DEVICE, device, None)
    if not display or not _function(egl.eglInitialize, ctypes.c_int, pointer, pointer, pointer)(display, None, None):
        return False
    wanted, config, found = (ctypes.c_int * len(EGL_CONFIG))(*EGL_CONFIG), pointer(), ctypes.c_int()
    pick = _function(egl.eglChooseConfig, ctypes.c_int, pointer, pointer, pointer, ctypes.c_int, pointer)
    pick(display, wanted, ctypes.byref(config), 1, ctypes.byref(found))
    _function(egl.eglBindAPI, ctypes.c_int, ctypes.c_uint)(EGL_OPENGL_API)
    context = _function(egl.eglCreateContext, pointer, *[pointer] * 4)(display, config, None, None)
    _function(egl.eglTerminate, ctypes.c_int, pointer)(display)
    return bool(found.value and context)


def main() -> int:
    """Print the backend that would be used; 1 when there is none."""
    try:
        print(choose(os.environ) or "default")  # noqa: T201 # the answer of this command
    except NoOpenGLError as problem:
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

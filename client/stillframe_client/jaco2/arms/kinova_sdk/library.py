"""Loads the vendor's command library and calls it: which symbols, which types, which statuses are errors.

Knows no thread, no order of calls and no motion. The path comes from the settings alone and has to be absolute: the
loader searches nowhere. (The library itself loads its communication library by name; that is the vendor's way.)
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Dict, Sequence, Type

from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.arms.kinova_sdk import structs
from stillframe_client.jaco2.arms.kinova_sdk.errors import SUCCESS, meaning

ETHERNET = "Ethernet_"  # before each name in the library for Ethernet


def _out(kind: Type[Any]) -> Any:
    return ctypes.POINTER(kind)


SYMBOLS: Dict[str, Sequence[Any]] = {
    "InitAPI": (),
    "CloseAPI": (),
    "RefresDevicesList": (),
    "GetDevices": (_out(structs.KinovaDevice), _out(ctypes.c_int)),
    "SetActiveDevice": (structs.KinovaDevice,),
    "GetAPIVersion": (_out(ctypes.c_int),),
    "StartControlAPI": (),
    "StopControlAPI": (),
    "SetCartesianControl": (),
    "SendAdvanceTrajectory": (structs.TrajectoryPoint,),
    "EraseAllTrajectories": (),
    "GetCartesianPosition": (_out(structs.CartesianPosition),),
    "GetGlobalTrajectoryInfo": (_out(structs.TrajectoryFIFO),),
    "GetQuickStatus": (_out(structs.QuickStatus),),
    "GetSensorsInfo": (_out(structs.SensorsInfo),),
    "MoveHome": (),
}
OF_ETHERNET: Dict[str, Sequence[Any]] = {"InitEthernetAPI": (_out(structs.EthernetCommConfig),)}
ARGUMENT = (
    "arm.library is {!r}; expected the absolute path of Kinova.API.USBCommandLayerUbuntu.so or of its EthCommand kin"
)


class Library:
    """The library at one path. Each call waits for the arm."""

    def __init__(self, path: str):
        """Load it. Raises ArmError for a path that is none, a file of another kind, a symbol that is missing."""
        self._handle = _load(path)
        self.ethernet = hasattr(self._handle, f"{ETHERNET}InitAPI")
        self._prefix = ETHERNET if self.ethernet else ""
        wanted = {**SYMBOLS, **(OF_ETHERNET if self.ethernet else {})}
        missing = [name for name in wanted if not hasattr(self._handle, self._prefix + name)]
        if missing:
            raise ArmError(f"{path} is not the vendor's command library: it lacks {', '.join(missing)}")
        self._calls = {name: self._typed(name, types) for name, types in wanted.items()}

    def status(self, name: str, *arguments: Any) -> int:
        """Call; return what it returns: a status, but for GetDevices."""
        return int(self._calls[name](*arguments))

    def must(self, name: str, *arguments: Any) -> None:
        """Call. Raises ArmError for any status but success."""
        status = self.status(name, *arguments)
        if status != SUCCESS:
            raise ArmError(f"{name} failed, {meaning(status)}")

    def read(self, name: str, kind: Type[Any]) -> Any:
        """Call with an empty structure; return it filled. Raises ArmError."""
        answer = kind()
        self.must(name, ctypes.byref(answer))
        return answer

    def _typed(self, name: str, types: Sequence[Any]) -> Any:
        function = getattr(self._handle, self._prefix + name)
        function.argtypes, function.restype = list(types), ctypes.c_int
        return function


def _load(path: str) -> ctypes.CDLL:
    file = Path(path)
    if not (path and file.is_absolute()):
        raise ArmError(ARGUMENT.format(path))
    if not file.is_file():
        raise ArmError(f"{ARGUMENT.format(path)}; there is no such file")
    try:
        return ctypes.CDLL(str(file))
    except OSError as error:
        raise ArmError(
            f"{path} cannot be loaded: {error}. It is made for Linux on x86-64 and needs libusb-1.0-0"
        ) from error

"""The order of calls that finds one arm, describes it, and gives and takes the control of it.

Knows no thread and no command. Nothing moves here but by `home`.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import time
from typing import Callable, Dict

from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.arms.kinova_sdk import structs
from stillframe_client.jaco2.arms.kinova_sdk.errors import NO_DEVICE, SUCCESS, meaning
from stillframe_client.jaco2.arms.kinova_sdk.library import Library

# As the ROS driver does: an arm that was just powered may not obey before the control was taken, given back and taken.
STARTING = ("StartControlAPI", "StopControlAPI", "EraseAllTrajectories", "StartControlAPI", "SetCartesianControl")
STOPPING = ("EraseAllTrajectories", "StopControlAPI")
ROBOT_ADDRESS, ROBOT_PORT = "192.168.100.11", 55000  # of every arm, as the vendor delivers it
COMMAND_PORT, BROADCAST_PORT = 25000, 25025
ANSWER_MS = 1000
LOOK_S = 0.1


def open_arm(library: Library) -> Dict[str, str]:
    """Initialise and choose the one arm; return what it says of itself. Raises ArmError."""
    if library.ethernet:
        library.must("InitEthernetAPI", ctypes.byref(_ethernet()))
    else:
        library.must("InitAPI")
    try:
        library.must("RefresDevicesList")
        device = _only_device(library)
        library.must("SetActiveDevice", device)
        return _details(library, device)
    except ArmError:
        library.status("CloseAPI")
        raise


def start(library: Library) -> None:
    """Take the control, with an empty queue. Raises ArmError."""
    for name in STARTING:
        library.must(name)


def stop(library: Library) -> None:
    """Empty the queue and give the control back; each is tried, whatever the other gave. Raises ArmError."""
    statuses = {name: library.status(name) for name in STOPPING}
    failed = [f"{name} failed, {meaning(status)}" for name, status in statuses.items() if status != SUCCESS]
    if failed:
        raise ArmError("; ".join(failed))


def home(library: Library, timeout_s: float, give_up: Callable[[], bool]) -> None:
    """Move to the arm's home position, wait, and give the control back. Raises ArmError."""
    until_s = time.monotonic() + timeout_s
    start(library)
    try:
        library.must("MoveHome")
        while library.read("GetQuickStatus", structs.QuickStatus).RetractType != structs.READY:
            if give_up() or time.monotonic() > until_s:
                raise ArmError(f"the arm was not at home after {timeout_s:g} s: is its way free, is it powered?")
            time.sleep(LOOK_S)
    finally:
        stop(library)


def _only_device(library: Library) -> structs.KinovaDevice:
    devices, status = (structs.KinovaDevice * structs.MOST_DEVICES)(), ctypes.c_int(0)
    count = library.status("GetDevices", devices, ctypes.byref(status))
    if status.value != SUCCESS:
        raise ArmError(f"GetDevices failed, {meaning(status.value)}")
    if count < 1:
        raise ArmError(f"GetDevices found none, {meaning(NO_DEVICE)}")
    if count > 1:
        serials = ", ".join(device.SerialNumber.decode("ascii", "replace") for device in devices[:count])
        raise ArmError(f"{count} arms are attached ({serials}); expected one: unplug the others")
    return structs.KinovaDevice.from_buffer_copy(devices[0])


def _details(library: Library, device: structs.KinovaDevice) -> Dict[str, str]:
    """What is cheap to ask; an answer that fails is left out."""
    version = (ctypes.c_int * 3)()
    said = {
        "serial": device.SerialNumber.decode("ascii", "replace"),
        "model": device.Model.decode("ascii", "replace"),
        "connection": "Ethernet" if library.ethernet else "USB",
    }
    if library.status("GetAPIVersion", version) == SUCCESS:
        said["library"] = ".".join(map(str, version))
    with contextlib.suppress(ArmError):
        sensors = library.read("GetSensorsInfo", structs.SensorsInfo)
        warmest = max(getattr(sensors, name) for name, *_ in structs.SensorsInfo._fields_ if "Temp" in name)
        said["supply"] = f"{sensors.Voltage:.1f} V, {sensors.Current:.1f} A"
        said["warmest"] = f"{warmest:.0f} degrees Celsius"
    with contextlib.suppress(ArmError):
        status = library.read("GetQuickStatus", structs.QuickStatus)
        said["status"] = ", ".join(f"{name} {getattr(status, name)}" for name, *_ in structs.QuickStatus._fields_)
    return said


def _ethernet() -> structs.EthernetCommConfig:
    """The vendor's addresses; ours is that of the interface through which the arm's is reached."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((ROBOT_ADDRESS, ROBOT_PORT))  # sends nothing
        except OSError as error:
            raise ArmError(
                f"no way to the arm's address {ROBOT_ADDRESS}: {error}; give this computer one beside it"
            ) from error
        ours = probe.getsockname()[0]
    return structs.EthernetCommConfig(
        *(_number(address) for address in (ours, "255.255.255.0", ROBOT_ADDRESS)),
        COMMAND_PORT,
        BROADCAST_PORT,
        ROBOT_PORT,
        ANSWER_MS,
    )


def _number(address: str) -> int:
    return int(struct.unpack("=I", socket.inet_aton(address))[0])

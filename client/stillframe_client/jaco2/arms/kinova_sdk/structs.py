"""The vendor's structures that are used, as ctypes lays them out: names, order and sizes of its KinovaTypes.h.

Knows no library and no unit of ours. C++ references are pointers; TrajectoryPoint and KinovaDevice travel by value.
"""

from __future__ import annotations

import ctypes

CARTESIAN_VELOCITY = 7  # POSITION_TYPE: the point's position fields hold velocities
HAND_STILL, HAND_VELOCITY = 0, 2  # HAND_MODE
READY = 1  # RETRACT_TYPE of an arm in its home position
MOST_DEVICES = 20


class CartesianInfo(ctypes.Structure):
    """Metres and radians, or per second."""

    _fields_ = tuple((name, ctypes.c_float) for name in ("X", "Y", "Z", "ThetaX", "ThetaY", "ThetaZ"))


class AngularInfo(ctypes.Structure):
    """Degrees, or per second."""

    _fields_ = tuple((f"Actuator{number}", ctypes.c_float) for number in range(1, 8))


class FingersPosition(ctypes.Structure):
    """Turns of the fingers' motors, or per second."""

    _fields_ = tuple((f"Finger{number}", ctypes.c_float) for number in range(1, 4))


class CartesianPosition(ctypes.Structure):
    """Where the tool and the fingers are."""

    _fields_ = (("Coordinates", CartesianInfo), ("Fingers", FingersPosition))


class UserPosition(ctypes.Structure):
    """One position, or velocity, and what the hand does meanwhile."""

    _fields_ = (
        ("Type", ctypes.c_int),
        ("Delay", ctypes.c_float),
        ("CartesianPosition", CartesianInfo),
        ("Actuators", AngularInfo),
        ("HandMode", ctypes.c_int),
        ("Fingers", FingersPosition),
    )


class Limitation(ctypes.Structure):
    """Not used: LimitationsActive stays 0."""

    _fields_ = tuple(
        (f"{kind}Parameter{number}", ctypes.c_float)
        for kind in ("speed", "force", "acceleration")
        for number in range(1, 4)
    )


class TrajectoryPoint(ctypes.Structure):
    """10 ms of motion."""

    _fields_ = (
        ("Position", UserPosition),
        ("LimitationsActive", ctypes.c_int),
        ("SynchroType", ctypes.c_int),
        ("Limitations", Limitation),
    )


class TrajectoryFIFO(ctypes.Structure):
    """How full the arm's queue of points is."""

    _fields_ = (("TrajectoryCount", ctypes.c_uint), ("UsedPercentage", ctypes.c_float), ("MaxSize", ctypes.c_uint))


class SensorsInfo(ctypes.Structure):
    """Volts, amperes, g, degrees Celsius."""

    _fields_ = tuple(
        (name, ctypes.c_float)
        for name in (
            *("Voltage", "Current", "AccelerationX", "AccelerationY", "AccelerationZ"),
            *(f"ActuatorTemp{number}" for number in range(1, 8)),
            *(f"FingerTemp{number}" for number in range(1, 4)),
        )
    )


class QuickStatus(ctypes.Structure):
    """Flags of a byte each."""

    _fields_ = tuple(
        (name, ctypes.c_ubyte)
        for name in (
            *("Finger1Status", "Finger2Status", "Finger3Status", "RetractType", "RetractComplexity"),
            *("ControlEnableStatus", "ControlActiveModule", "ControlFrameType", "CartesianFaultState"),
            *("ForceControlStatus", "CurrentLimitationStatus", "RobotType", "RobotEdition", "TorqueSensorsStatus"),
        )
    )


class KinovaDevice(ctypes.Structure):
    """One arm that the library found."""

    _fields_ = (
        ("SerialNumber", ctypes.c_char * 20),
        ("Model", ctypes.c_char * 20),
        *(
            (name, ctypes.c_int)
            for name in ("VersionMajor", "VersionMinor", "VersionRelease", "DeviceType", "DeviceID")
        ),
    )


class EthernetCommConfig(ctypes.Structure):
    """Addresses in the network's byte order, ports, and how long an answer may take."""

    _fields_ = (
        *((name, ctypes.c_ulong) for name in ("localIpAddress", "subnetMask", "robotIpAddress")),
        *((name, ctypes.c_ushort) for name in ("localCmdport", "localBcastPort", "robotPort")),
        ("rxTimeOutInMs", ctypes.c_ulong),
    )

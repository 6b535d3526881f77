"""The command `check`: versions, arm, cameras, daemon, and whether they fit. Nothing moves.

Knows no arm and no camera: each part has a module of its own. What it calls wrong, a run refuses too.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from stillframe_client import __version__
from stillframe_client.jaco2.bridge.episode import step_s
from stillframe_client.jaco2.bridge.first_run import speed_fault
from stillframe_client.jaco2.ceilings import SETPOINT_S
from stillframe_client.jaco2.cli.check_arm import check_arm
from stillframe_client.jaco2.cli.check_cameras import check_cameras
from stillframe_client.jaco2.cli.check_daemon import check_daemon
from stillframe_client.jaco2.cli.findings import WARNING, WRONG, Findings

if TYPE_CHECKING:
    from stillframe_client.jaco2.settings import BridgeSettings

ALWAYS = ("numpy", "httpx", "websockets", "pillow")
BY_KIND = {
    "opencv": "opencv-python-headless",
    "realsense": "pyrealsense2",
    "mujoco": "mujoco",
}  # of an arm or a camera -> the package that it stands on


def check(settings: BridgeSettings, *, seconds: float, calls: int) -> int:
    """Print the table; 1 where something is wrong. `seconds`: how long rates are measured."""
    findings = Findings()
    _versions(settings, findings)
    _speed(settings, findings)
    check_arm(settings, seconds, findings)
    pictures = check_cameras(settings, seconds, findings)
    check_daemon(settings, pictures, calls, findings)
    wrong, warned = findings.count(WRONG), findings.count(WARNING)
    sys.stdout.write(f"{wrong} wrong, {warned} {'warning' if warned == 1 else 'warnings'}\n")
    return 1 if wrong else 0


def _versions(settings: BridgeSettings, findings: Findings) -> None:
    kinds = {settings.arm.kind, *(camera.kind for camera in settings.cameras.values())}
    packages = [*ALWAYS, *(package for kind, package in BY_KIND.items() if kind in kinds)]
    said = [f"Python {platform.python_version()}", f"stillframe-client {__version__}"]
    findings.ok("versions", ", ".join([*said, *map(_version, packages)]))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} not found as a package"


def _speed(settings: BridgeSettings, findings: Findings) -> None:
    limits = settings.limits
    lasts_s = step_s(settings)
    if lasts_s > SETPOINT_S / 2:
        findings.wrong(
            "speed", f"an action would last {lasts_s:.2f} s, more than {SETPOINT_S / 2:g}: raise hz or limits.speed"
        )
        return
    early = speed_fault(settings)
    if early:
        findings.wrong("speed", early)
    else:
        findings.ok(
            "speed",
            f"{limits.speed:.0%}: up to {limits.speed * limits.linear_m_s:.3f} m/s; an action takes {lasts_s:.2f} s",
        )

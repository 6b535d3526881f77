"""The `kinova_sdk` arm: the vendor's command library by ctypes, with no ROS. UNPROVEN ON HARDWARE.

Layouts, by-value calls, their order and the error numbers are tested against a stub that a C compiler makes; no arm has
been driven with it. It has what ROS does not give: how full the arm's queue is, temperatures, supply. One program at a
time can hold the arm: the ROS driver must not run beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillframe_client.jaco2.arms.kinova_sdk.arm import KinovaSdkArm
from stillframe_client.jaco2.link import now_s

if TYPE_CHECKING:
    from stillframe_client.jaco2.settings import BridgeSettings


def make(settings: BridgeSettings) -> KinovaSdkArm:
    """The arm of the settings."""
    return KinovaSdkArm(settings.arm, now_s)

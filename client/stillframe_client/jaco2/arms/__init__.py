"""Arms behind one protocol (base.py); `make_arm` chooses. Nothing of a policy, a picture or a limit is known here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from stillframe_client.jaco2.arms.base_frame import BaseFrameTurns

if TYPE_CHECKING:
    from stillframe_client.jaco2.arms.base import Arm
    from stillframe_client.jaco2.settings import BridgeSettings


def make_arm(settings: BridgeSettings) -> Arm:
    """The arm that the settings name; its module is imported only here. Raises ArmError for what it needs and lacks."""
    arm: Arm = import_module(f"stillframe_client.jaco2.arms.{settings.arm.kind}").make(settings)
    return BaseFrameTurns(arm) if settings.arm.angular_frame == "base" else arm

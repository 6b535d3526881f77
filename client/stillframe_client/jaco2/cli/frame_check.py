"""The command `frame-check`: moves the arm a little along and about each axis, and says what it did.

Knows no frame (frame_verdict.py) and no streamer (nudging.py). The arm ends where it began.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, List

from stillframe_client.jaco2.bridge.operator import Operator
from stillframe_client.jaco2.bridge.run import new_folder
from stillframe_client.jaco2.bridge.streamer_process import StreamerFailed, StreamerProcess
from stillframe_client.jaco2.cli.asking import confirmed
from stillframe_client.jaco2.cli.frame_verdict import verdict
from stillframe_client.jaco2.cli.nudging import NudgeFailed, Nudger
from stillframe_client.jaco2.cli.refusal import Refusal
from stillframe_client.jaco2.config import ConfigError

if TYPE_CHECKING:
    from stillframe_client.jaco2.cli.nudge import Nudge
    from stillframe_client.jaco2.settings import BridgeSettings

SPEED = 0.25
STOPPED = 130
BASE_YAW = (
    "Facing the connector panel, a Jaco2's base has +x to the left, +y towards you, +z up. Did the tool go so? For a "
    "policy whose x leads away from the panel, motion.base_yaw_deg is -90."
)


def frame_check(settings: BridgeSettings, *, shift_m: float, turn_rad: float, ask: bool) -> int:
    """Nudge all axes and judge: 0 all fit, 1 not, 130 stopped. Raises Refusal."""
    slow = _slow(settings)
    warning = (
        f"{slow.arm.name} ({slow.arm.kind}) moves: {1e3 * shift_m:.0f} mm along each axis and {turn_rad:g} rad about "
        f"each, and back, at {slow.limits.speed:.0%} speed. Any key stops it."
    )
    if ask and not confirmed(warning):
        raise Refusal("not told to; nothing has moved")
    try:
        folder = new_folder(Path(slow.record.folder) / "frame-check")
        nudges = asyncio.run(_nudges(slow, folder, shift_m, turn_rad))
    except (OSError, ConfigError) as error:
        raise Refusal(f"{slow.record.folder} cannot be written: {error}") from error
    except (NudgeFailed, StreamerFailed) as error:
        sys.stderr.write(f"stillframe-jaco2: {error}\n")
        return STOPPED if isinstance(error, NudgeFailed) and error.by_operator else 1
    return _judge(nudges, slow.arm.angular_frame)


def _slow(settings: BridgeSettings) -> BridgeSettings:
    """Open loop, in the arm's own frames, at a quarter of the speed at most."""
    motion = replace(
        settings.motion,
        base_yaw_deg=0.0,
        rotation_frame="tool",
        rotation="rotation_vector",
        feedback_1_s=0.0,
        gripper="binary",
    )
    limits = replace(settings.limits, speed=min(SPEED, settings.limits.speed))
    return replace(settings, motion=motion, limits=limits)


async def _nudges(settings: BridgeSettings, folder: Path, shift_m: float, turn_rad: float) -> List[Nudge]:
    streamer = StreamerProcess(settings, folder, dry=False)
    try:
        with Operator(lambda: streamer.link.order("stop")) as operator:
            nudger = Nudger(settings, streamer, operator)
            await nudger.arm(shift_m)
            nudges = []
            for is_turn, size in ((False, shift_m), (True, turn_rad)):
                for axis in range(3):
                    nudges.append(await nudger.nudge(axis, size, is_turn=is_turn))
                    sys.stdout.write(f"{nudges[-1].line()}\n")
                    sys.stdout.flush()
            await nudger.disarm()
            return nudges
    finally:
        streamer.close()


def _judge(nudges: List[Nudge], angular_frame: str) -> int:
    verdicts = [verdict(nudges[:3]), verdict(nudges[3:], angular_frame)]
    for each in verdicts:
        sys.stdout.write(f"{'ok' if each.fits else 'wrong':<8} {each.text}\n")
    sys.stdout.write(f"{BASE_YAW}\n")
    return 0 if all(each.fits for each in verdicts) else 1

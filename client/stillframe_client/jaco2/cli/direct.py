"""The commands `home` and `stop`: the arm's back end itself, without streamer and policy."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from typing import TYPE_CHECKING, Iterator, Optional

from stillframe_client.jaco2.arms import make_arm
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.cli.asking import confirmed
from stillframe_client.jaco2.cli.refusal import Refusal

if TYPE_CHECKING:
    from types import FrameType

    from stillframe_client.jaco2.arms.base import Arm
    from stillframe_client.jaco2.settings import BridgeSettings

CONNECT_S = 10.0
HOME_S = 60.0
DELIVERED_S = 0.5  # a stop never waits for its answer
SWITCH = "switch off its power if it moves"


def home(settings: BridgeSettings, *, ask: bool) -> int:
    """Move the arm home, once the operator has said yes; a signal or a failure on the way stops it. Raises Refusal."""
    name = settings.arm.name
    if ask and not confirmed(
        f"{name} moves to its home position by itself, and its FINGERS OPEN. The box does not hold."
    ):
        raise Refusal("not told to; nothing has moved")
    arm = _arm(settings)
    try:
        with _signals_interrupt():
            arm.connect(CONNECT_S)
            sys.stdout.write("on its way; Ctrl-C stops it\n")
            sys.stdout.flush()
            _home_or_stop(arm)
    except ArmError as error:
        sys.stderr.write(f"stillframe-jaco2: {error}\n")
        return 1
    finally:
        arm.close()
    sys.stdout.write(f"{name} is home\n")
    return 0


def _home_or_stop(arm: Arm) -> None:
    try:
        arm.home(HOME_S)
    except BaseException:
        arm.stop()
        time.sleep(DELIVERED_S)
        raise


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """The signals that end a program are an interrupt, Ctrl-C's own where a shell in the background ignores it too."""
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _interrupt) for number in ending}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: Optional[FrameType]) -> None:  # noqa: ARG001 -- as handlers are called
    raise KeyboardInterrupt


def stop(settings: BridgeSettings) -> int:
    """Tell the arm's driver to stop and to let nothing in until it is armed again."""
    arm = _arm(settings)
    try:
        try:
            arm.connect(CONNECT_S)
        finally:
            arm.stop()  # also where it was not reached: it may be in a moment
            time.sleep(DELIVERED_S)
    except ArmError as error:
        sys.stderr.write(f"stillframe-jaco2: {settings.arm.name} was NOT reached: {error}\n{SWITCH}\n")
        return 1
    finally:
        arm.close()
    sys.stdout.write(f"{settings.arm.name} was told to stop; {SWITCH} all the same\n")
    return 0


def _arm(settings: BridgeSettings) -> Arm:
    try:
        return make_arm(settings)
    except ArmError as error:
        raise Refusal(f"{settings.arm.kind}: {error}") from error

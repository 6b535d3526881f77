"""The Arm of the vendor's library. Unproven on hardware: see __init__.py.

Knows no call of the library but through session.py and talk.py.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Callable, Optional

from stillframe_client.jaco2.arms.base import ArmError, ArmInfo
from stillframe_client.jaco2.arms.kinova_sdk import session
from stillframe_client.jaco2.arms.kinova_sdk.library import Library
from stillframe_client.jaco2.arms.kinova_sdk.talk import POSITION_S, Talk

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ArmState, Twist
    from stillframe_client.jaco2.settings import ArmSettings

UNPROVEN = "unproven on hardware: layouts and calls were checked against a stub only; keep the power switch in reach"
LOOK_S = 0.01


class KinovaSdkArm:
    """One arm on USB or Ethernet, with no ROS between."""

    def __init__(self, settings: ArmSettings, clock: Callable[[], float]):
        self._settings, self._clock = settings, clock
        self._library: Optional[Library] = None
        self._talk: Optional[Talk] = None

    def connect(self, timeout_s: float) -> ArmInfo:
        """Load the library, find the one arm, read its position. Raises ArmError."""
        logging.getLogger(__name__).warning("the kinova_sdk arm is %s", UNPROVEN)
        library = Library(self._settings.library)
        said = session.open_arm(library)
        self._library, self._talk = library, Talk(library, self._settings, self._clock)
        until_s = time.monotonic() + timeout_s
        while self._talk.newest is None:
            if time.monotonic() > until_s:
                why = self._talk.error
                self.close()
                raise ArmError(f"the arm gave no position within {timeout_s:g} s. {why}")
            time.sleep(LOOK_S)
        return ArmInfo(
            kind="kinova_sdk",
            name=self._settings.name,
            has_hand=self._settings.command == "with_fingers",
            reports_hz=1 / POSITION_S,
            details={"proof": UNPROVEN, **said},
        )

    def state(self) -> Optional[ArmState]:
        """The newest reading."""
        return None if self._talk is None else self._talk.newest

    def send(self, twist: Twist) -> None:
        """Leave it for the thread, in place of one that is still there. Raises ArmError: offline, not started."""
        talk = self._connected()
        talk.counts.dropped += not talk.mailbox.twist(twist, self._clock())
        if talk.error:
            raise ArmError(talk.error)

    def start(self) -> None:
        """Take the control."""
        talk = self._connected()
        talk.error = ""
        talk.mailbox.order("start")

    def stop(self) -> None:
        """Empty the arm's queue and give the control back; tried until it succeeds."""
        if self._talk is not None:
            self._talk.mailbox.order("stop")

    def home(self, timeout_s: float) -> None:
        """Move to the arm's home position, wait, give the control back. Raises ArmError."""
        self._connected().home(timeout_s)

    def close(self) -> None:
        """End the thread and close the library, unless a call of it hangs."""
        talk, library = self._talk, self._library
        self._talk = self._library = None
        if talk is not None and library is not None and talk.close():
            library.status("CloseAPI")

    def _connected(self) -> Talk:
        if self._talk is None:
            raise ArmError("the arm is not connected: connect first")
        return self._talk

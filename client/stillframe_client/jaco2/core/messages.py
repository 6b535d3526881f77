"""What reaches the streamer between two ticks. Knows no wire: link.py reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple, Union

from stillframe_client.jaco2.domain import Step


@dataclass(frozen=True)
class Order:
    """What the operator or the bridge asks for."""

    name: str  # one of ORDERS


ORDERS = ("arm", "disarm", "clear", "stop")


@dataclass(frozen=True)
class Inbox:
    """All that came since the last tick, in order."""

    messages: Tuple[Union[Step, Order], ...] = ()
    heartbeat: bool = False  # the bridge said something
    gone: bool = False  # its end of the link is closed
    garbage: str = ""  # what was wrong with a message that could not be read
    stop: str = ""  # why the streamer itself is to stop: a signal


NOTHING = Inbox()

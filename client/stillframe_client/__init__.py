"""Talk to a stillframe daemon. Knows no torch.

Each name is loaded when it is first asked for: a part that needs no HTTP, such as jaco2's streamer, loads none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from stillframe_client.chunks import ChunkPlayer
    from stillframe_client.client import PolicyClient
    from stillframe_client.errors import (
        BadReply,
        BadRequest,
        Conflict,
        DeadlineExceeded,
        Forbidden,
        NotReady,
        Overloaded,
        PolicyError,
        Refused,
        ServerFault,
        SessionGone,
        StaleAnswer,
        Starved,
        Superseded,
        TimedOut,
        TooLarge,
        TooMany,
        Unauthorized,
        UnknownSession,
        Unprocessable,
        Unreachable,
        UnsupportedDtype,
        WireError,
    )
    from stillframe_client.openpi import WebsocketClientPolicy
    from stillframe_client.replies import ActionReply, ModelInfo, StateSpec
    from stillframe_client.rtc import Rtc
    from stillframe_client.sessions import CacheReport, HistoryReport, RtcReport, SessionPlace
    from stillframe_client.streaming.blocking import PolicyStream
    from stillframe_client.streaming.stream import AsyncPolicyStream

__version__ = "0.1.0"

_HOME_OF = {
    "ActionReply": "replies",
    "AsyncPolicyStream": "streaming.stream",
    "CacheReport": "sessions",
    "ChunkPlayer": "chunks",
    "HistoryReport": "sessions",
    "ModelInfo": "replies",
    "PolicyClient": "client",
    "PolicyStream": "streaming.blocking",
    "Rtc": "rtc",
    "RtcReport": "sessions",
    "SessionPlace": "sessions",
    "StateSpec": "replies",
    "WebsocketClientPolicy": "openpi",
}  # every other name is an error

__all__ = [
    "ActionReply",
    "AsyncPolicyStream",
    "BadReply",
    "BadRequest",
    "CacheReport",
    "ChunkPlayer",
    "Conflict",
    "DeadlineExceeded",
    "Forbidden",
    "HistoryReport",
    "ModelInfo",
    "NotReady",
    "Overloaded",
    "PolicyClient",
    "PolicyError",
    "PolicyStream",
    "Refused",
    "Rtc",
    "RtcReport",
    "ServerFault",
    "SessionGone",
    "SessionPlace",
    "StaleAnswer",
    "Starved",
    "StateSpec",
    "Superseded",
    "TimedOut",
    "TooLarge",
    "TooMany",
    "Unauthorized",
    "UnknownSession",
    "Unprocessable",
    "Unreachable",
    "UnsupportedDtype",
    "WebsocketClientPolicy",
    "WireError",
]


def __getattr__(name: str) -> Any:
    """Load a public name's module, and keep what it gives."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"stillframe_client.{_HOME_OF.get(name, 'errors')}")
    value = globals()[name] = getattr(home, name)
    return value


def __dir__() -> List[str]:
    return [*globals(), *__all__]

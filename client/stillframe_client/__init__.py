"""Talk to a stillframe daemon. Knows no torch."""

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
from stillframe_client.replies import ActionReply, ModelInfo
from stillframe_client.sessions import CacheReport, HistoryReport, SessionPlace
from stillframe_client.streaming.blocking import PolicyStream
from stillframe_client.streaming.stream import AsyncPolicyStream

__version__ = "0.1.0"

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
    "ServerFault",
    "SessionGone",
    "SessionPlace",
    "StaleAnswer",
    "Starved",
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

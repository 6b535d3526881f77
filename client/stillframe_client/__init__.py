"""Talk to a stillframe daemon. Knows no torch."""

from stillframe_client.client import PolicyClient
from stillframe_client.errors import (
    BadReply,
    BadRequest,
    DeadlineExceeded,
    NotReady,
    Overloaded,
    PolicyError,
    Refused,
    ServerFault,
    TimedOut,
    TooLarge,
    Unprocessable,
    Unreachable,
    UnsupportedDtype,
    WireError,
)
from stillframe_client.replies import ActionReply, ModelInfo
from stillframe_client.sessions import CacheReport, SessionPlace

__version__ = "0.1.0"

__all__ = [
    "ActionReply",
    "BadReply",
    "BadRequest",
    "CacheReport",
    "DeadlineExceeded",
    "ModelInfo",
    "NotReady",
    "Overloaded",
    "PolicyClient",
    "PolicyError",
    "Refused",
    "ServerFault",
    "SessionPlace",
    "TimedOut",
    "TooLarge",
    "Unprocessable",
    "Unreachable",
    "UnsupportedDtype",
    "WireError",
]

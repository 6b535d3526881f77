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

__version__ = "0.1.0"

__all__ = [
    "ActionReply",
    "BadReply",
    "BadRequest",
    "DeadlineExceeded",
    "ModelInfo",
    "NotReady",
    "Overloaded",
    "PolicyClient",
    "PolicyError",
    "Refused",
    "ServerFault",
    "TimedOut",
    "TooLarge",
    "Unprocessable",
    "Unreachable",
    "UnsupportedDtype",
    "WireError",
]

"""Turns the daemon's answers into values: actions, model information, typed errors.

Knows no connection: it is handed HTTP responses that have arrived; a stream's messages are read in incoming.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple

import httpx
import numpy as np

from stillframe_client.errors import BadReply, FieldFault, Problem, refusal
from stillframe_client.sessions import CacheReport, HistoryReport, SessionPlace, read_cache, read_history, read_place
from stillframe_client.wire import decode_array, is_array

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ActionReply:
    """One answered frame."""

    actions: NDArray[np.float64]  # [horizon, action_dim], first one due now; raw frames are answered with one row
    timing_ms: Mapping[str, float]  # stage -> milliseconds on the daemon, in the order they ran; last: total
    late: bool  # the action came after the frame's max_age_ms
    request_id: Optional[str]
    cache: Optional[CacheReport] = None  # what the frame reused; None: the daemon does not say
    session: Optional[SessionPlace] = None  # which frame of which session it was; None: of none
    replayed: bool = False  # the answer that this frame got before: its connection broke, and it was sent again
    t_obs_ns: Optional[int] = None  # what the frame said of its time, as it was said
    history: Optional[HistoryReport] = None  # what is kept of older frames; None: the daemon does not say

    @property
    def action(self) -> NDArray[np.float64]:
        """The action due now, [action_dim]."""
        first: NDArray[np.float64] = self.actions[0]
        return first


@dataclass(frozen=True)
class ModelInfo:
    """What the daemon serves and what its numbers mean."""

    name: str
    family: str
    cameras: Tuple[str, ...]
    image_size: Tuple[int, int]  # height, width as the model sees them; any size may be sent
    action_names: Tuple[str, ...]
    gripper: str  # which end is open
    chunk_horizon: int
    unnorm_keys: Tuple[str, ...]
    default_unnorm_key: Optional[str]  # None: every frame has to name one of unnorm_keys
    card: Mapping[str, Any] = field(repr=False)  # everything the daemon said


def read_action(response: httpx.Response) -> ActionReply:
    """Read the reply to a frame. Raises the Refused of the daemon's problem, or BadReply."""
    document = read_document(response)
    timing_ms, late = read_server_timing(response.headers.get("server-timing", ""))
    return ActionReply(
        actions=_actions(document),
        timing_ms=MappingProxyType(timing_ms),
        late=late,
        request_id=response.headers.get("x-request-id"),
        cache=read_cache(response, document),
        session=read_place(response, document),
        history=read_history(response, document),
    )


def read_epoch(response: httpx.Response) -> Optional[int]:
    """Read the reply of /reset: the epoch that begins; None from a daemon that knows no sessions.

    Raises the Refused of the daemon's problem, or BadReply.
    """
    if response.status_code in (404, 405):
        return None
    document = read_document(response)
    if not isinstance(document, dict) or type(document.get("epoch")) is not int:
        raise BadReply("The answer of /reset holds no 'epoch'; check the URL.")
    epoch: int = document["epoch"]
    return epoch


def read_model_info(response: httpx.Response) -> ModelInfo:
    """Read the reply of /v1/models: the first model. Raises the Refused of the daemon's problem, or BadReply."""
    document = read_document(response)
    try:
        return model_info(document["models"][0])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadReply("The answer of /v1/models is not a stillframe daemon's; check the URL.") from error


def read_document(response: httpx.Response) -> Any:
    """Return the JSON of a 200; anything else is raised as what it is."""
    document = _json(response)
    if response.status_code == 200:
        return document
    if isinstance(document, dict) and isinstance(document.get("code"), str):
        request_id, retry_after = response.headers.get("x-request-id"), response.headers.get("retry-after", "")
        retry_after_s = float(retry_after) if retry_after.isdigit() else None
        raise refusal(read_problem(document, response.status_code, request_id, retry_after_s))
    raise BadReply(f"HTTP {response.status_code} without a problem document; is {response.url} a stillframe daemon?")


def read_server_timing(header: str) -> Tuple[Dict[str, float], bool]:
    """Read 'queue;dur=0.1, total;dur=9.5, late' into ({'queue': 0.1, 'total': 9.5}, True); skip unknown parts."""
    parts = [part.strip() for part in header.split(",")]
    pairs = [part.split(";dur=", 1) for part in parts if ";dur=" in part]
    return {name: float(text) for name, text in pairs if text.replace(".", "", 1).isdigit()}, "late" in parts


def finite_actions(rows: Any) -> NDArray[np.float64]:
    """Return an answer's actions as float64 [horizon, action_dim]. Raises BadReply for all else, NaN included."""
    try:
        actions: NDArray[np.float64] = np.array(rows, np.float64)
    except (TypeError, ValueError) as error:
        raise BadReply("The answer's 'actions' are not rows of numbers of one length.") from error
    if actions.ndim != 2 or not actions.size or not np.isfinite(actions).all():
        raise BadReply(f"The answer holds actions of shape {actions.shape}; expected finite (horizon, action_dim).")
    return actions


def model_info(card: Mapping[str, Any]) -> ModelInfo:
    """Read a model's card. Raises KeyError, TypeError or ValueError for what is none of ours."""
    observation, action = card["observation"], card["action"]
    height, width = observation["image_size"]
    return ModelInfo(
        name=card["name"],
        family=card["family"],
        cameras=tuple(observation["cameras"]),
        image_size=(int(height), int(width)),
        action_names=tuple(part["name"] for part in action["fields"]),
        gripper=action["gripper"],
        chunk_horizon=int(action["chunk_horizon"]),
        unnorm_keys=tuple(card["norm_stats"]),
        default_unnorm_key=card["default_unnorm_key"],
        card=MappingProxyType(dict(card)),
    )


def read_problem(
    document: Mapping[str, Any], status: int, request_id: Optional[str], retry_after_s: Optional[float]
) -> Problem:
    """Read the members of a problem whose `code` is known to be text."""
    told = document.get("errors")
    faults = [fault for fault in told if isinstance(fault, dict)] if isinstance(told, list) else []
    return Problem(
        status=status,
        code=document["code"],
        detail=str(document.get("detail", "")),
        request_id=request_id,
        retry_after_s=retry_after_s,
        faults=tuple(FieldFault(str(fault.get("pointer", "")), str(fault.get("detail", ""))) for fault in faults),
    )


def _actions(document: Any) -> NDArray[np.float64]:
    if is_array(document):
        return finite_actions(np.atleast_2d(decode_array(document, dtypes=("<f8", "<f4"))))
    if isinstance(document, dict) and "actions" in document:
        return finite_actions(document["actions"])
    raise BadReply("The answer holds no action: expected a json_numpy array or an object with 'actions'.")


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        message = f"HTTP {response.status_code} with a body that is not JSON; is {response.url} a stillframe daemon?"
        raise BadReply(message) from error

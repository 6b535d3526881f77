"""Parses HTTP replies: actions, model cards, problems.

Knows no connection: it is passed responses that have arrived; a stream's messages are parsed in incoming.py.
"""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple

import httpx
import numpy as np

from stillframe_client.actions import finite_actions
from stillframe_client.errors import BadReply, FieldFault, Problem, WireError, refusal
from stillframe_client.sessions import (
    CacheReport,
    HistoryReport,
    RtcReport,
    SessionPlace,
    read_cache,
    read_history,
    read_place,
    read_rtc,
)
from stillframe_client.wire import MAX_COUNT, WARNING_HEADER, PackLimits, decode_array, is_array, read_json

_LIMITS = PackLimits(max_parts=200_000, max_depth=32)  # of a reply: a model's card names every data set's statistics
_LONGEST_TEXT = 4000  # characters of a problem's words
_LONGEST_ID = 200
_MOST_FAULTS = 100
_SECONDS = re.compile("[0-9]{1,9}")  # ASCII: Python takes other scripts' digits for digits
_MILLISECONDS = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?")
# Raised by a card that is not a stillframe daemon's: members missing or of another type, an infinite size.
NO_CARD = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ActionReply:
    """One answered frame."""

    actions: NDArray[np.float64]  # [horizon, action_dim], first one due now
    timing_ms: Mapping[str, float]  # stage -> milliseconds on the daemon, in the order they ran; last: total
    late: bool  # the action came after the frame's max_age_ms
    request_id: Optional[str]
    cache: Optional[CacheReport] = None  # what the frame reused; None: the daemon does not say
    session: Optional[SessionPlace] = None  # which frame of which session it was; None: of none
    replayed: bool = False  # the answer that this frame got before: its connection broke, and it was sent again
    t_obs_ns: Optional[int] = None  # what the frame said of its time, as it was said
    history: Optional[HistoryReport] = None  # what is kept of older frames; None: the daemon does not say
    unnorm_key: Optional[str] = None  # the statistics that it is scaled by; None: the daemon does not say
    model: Optional[str] = None  # that computed it; None: the daemon does not say
    first_step: Optional[int] = None  # control step of actions[0]: the frame's seq; None: the daemon does not say
    warnings: Tuple[str, ...] = ()  # of what is odd about the frame and was taken as it is
    rtc: Optional[RtcReport] = None  # what its chunk was held to; None: the frame did not ask, or the daemon knows none

    @property
    def action(self) -> NDArray[np.float64]:
        """The action due now, [action_dim]."""
        first: NDArray[np.float64] = self.actions[0]
        return first


@dataclass(frozen=True)
class StateSpec:
    """What the policy reads of the robot's state, number by number in its order."""

    names: Tuple[str, ...]
    units: Tuple[Optional[str], ...]  # "m", "rad", "1" for a number without one; None: the checkpoint does not say


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
    execute: int = 1  # actions of a chunk to play before the next is asked for, as the deployment advises
    state: Optional[StateSpec] = None  # None: it reads none
    rtc: Optional[str] = None  # how its chunks can be held to the one before: "flow", "diffusion"; None: they cannot
    camera_slots: Mapping[str, str] = field(default_factory=dict)  # camera -> the checkpoint's own name, if another
    default_instruction: Optional[str] = None  # of frames that have none; None: they are refused
    openpi_metadata: Mapping[str, Any] = field(default_factory=dict)  # what openpi's clients are told beside all this


def read_action(response: httpx.Response) -> ActionReply:
    """Read the reply to a frame. Raises the Refused of the daemon's problem, or BadReply."""
    document = read_document(response)
    timing_ms, late = read_server_timing(response.headers.get("server-timing", ""))
    said = document if isinstance(document, dict) else {}
    return ActionReply(
        actions=_actions(document),
        timing_ms=MappingProxyType(timing_ms),
        late=late,
        request_id=_id(response.headers.get("x-request-id")),
        cache=read_cache(response, document),
        session=read_place(response, document),
        replayed=said.get("replayed") is True or response.headers.get("x-stillframe-replayed") == "true",
        t_obs_ns=whole_or_none(said.get("t_obs_ns")),
        history=read_history(response, document),
        unnorm_key=text_or_none(said.get("unnorm_key")),
        model=text_or_none(said.get("model")),
        first_step=first_step_of(said.get("steps")),
        warnings=_warnings_of(response, said),
        rtc=read_rtc(response, document),
    )


def read_epoch(response: httpx.Response) -> Optional[int]:
    """Read the reply of /reset: the epoch that begins; None from a daemon that knows no sessions.

    Raises the Refused of the daemon's problem, or BadReply.
    """
    if response.status_code in (404, 405):
        return None
    document = read_document(response)
    epoch: Any = document.get("epoch") if isinstance(document, dict) else None
    if type(epoch) is not int or not 0 <= epoch <= MAX_COUNT:
        raise BadReply("The answer of /reset holds no 'epoch'; check the URL.")
    return int(epoch)


def read_model_info(response: httpx.Response) -> ModelInfo:
    """Read the reply of /v1/models: the first model. Raises the Refused of the daemon's problem, or BadReply."""
    document = read_document(response)
    try:
        return model_info(document["models"][0])
    except NO_CARD as error:
        raise BadReply("The answer of /v1/models is not a stillframe daemon's; check the URL.") from error


def read_document(response: httpx.Response) -> Any:
    """Return the JSON of a 200; anything else is raised as what it is."""
    document = _json(response)
    if response.status_code == 200:
        return document
    if isinstance(document, dict) and isinstance(document.get("code"), str):
        request_id, retry_after = _id(response.headers.get("x-request-id")), response.headers.get("retry-after", "")
        retry_after_s = float(retry_after) if _SECONDS.fullmatch(retry_after) else None
        raise refusal(read_problem(document, response.status_code, request_id, retry_after_s))
    raise BadReply(_no_problem(response, "without a problem document"))


def read_server_timing(header: str) -> Tuple[Dict[str, float], bool]:
    """Read 'queue;dur=0.1, total;dur=9.5, late' into ({'queue': 0.1, 'total': 9.5}, True); skip unknown parts."""
    parts = [part.strip() for part in header.split(",")]
    pairs = [part.split(";dur=", 1) for part in parts if ";dur=" in part]
    return {name: float(text) for name, text in pairs if _MILLISECONDS.fullmatch(text)}, "late" in parts


def model_info(card: Mapping[str, Any]) -> ModelInfo:
    """Parse a model card. Raises one of NO_CARD for anything else."""
    observation, action = card["observation"], card["action"]
    height, width = observation["image_size"]
    return ModelInfo(
        name=_text(card["name"]),
        family=_text(card["family"]),
        cameras=tuple(_text(name) for name in _items(observation["cameras"])),
        image_size=(int(height), int(width)),
        action_names=tuple(_text(part["name"]) for part in _items(action["fields"])),
        gripper=_text(action["gripper"]),
        chunk_horizon=int(action["chunk_horizon"]),
        unnorm_keys=tuple(_text(name) for name in card["norm_stats"]),
        default_unnorm_key=None if card["default_unnorm_key"] is None else _text(card["default_unnorm_key"]),
        card=MappingProxyType(dict(card)),
        execute=_execute(action),
        state=_state_spec(observation.get("state")),
        rtc=_process(action.get("rtc")),
        camera_slots=_slots(observation.get("camera_slots")),
        default_instruction=text_or_none(card.get("default_instruction")),
        openpi_metadata=dict(said) if isinstance(said := card.get("openpi_metadata"), dict) else {},
    )


def _execute(action: Mapping[str, Any]) -> int:
    """As the daemon advises; of an older one, or a wrong one, half of a chunk."""
    horizon = max(1, int(action["chunk_horizon"]))
    advised = whole_or_none(action.get("execute"))
    return advised if advised is not None and 1 <= advised <= horizon else max(1, horizon // 2)


def _process(said: Any) -> Optional[str]:
    """Of `action.rtc`; None, or nothing from an older daemon: chunks cannot be held."""
    return text_or_none(said.get("process")) if isinstance(said, dict) else None


def _slots(said: Any) -> Mapping[str, str]:
    """Of `observation.camera_slots`; nothing from an older daemon: all are called as the checkpoint does."""
    return {_text(camera): _text(slot) for camera, slot in said.items()} if isinstance(said, dict) else {}


def _state_spec(said: Any) -> Optional[StateSpec]:
    """Parse `observation.state`; None, or nothing from an older daemon: the policy reads none."""
    if said is None:
        return None
    fields = _items(said["fields"])
    units = tuple(None if part["unit"] is None else _text(part["unit"]) for part in fields)
    return StateSpec(tuple(_text(part["name"]) for part in fields), units)


def read_problem(
    document: Mapping[str, Any], status: int, request_id: Optional[str], retry_after_s: Optional[float]
) -> Problem:
    """Parse a problem document with a `code`."""
    told = document.get("errors")
    faults = [fault for fault in told if isinstance(fault, dict)] if isinstance(told, list) else []
    return Problem(
        status=status,
        code=document["code"][:_LONGEST_ID],
        detail=_said(document, "detail"),
        request_id=request_id,
        retry_after_s=retry_after_s,
        faults=tuple(FieldFault(_said(fault, "pointer"), _said(fault, "detail")) for fault in faults[:_MOST_FAULTS]),
    )


def _warnings_of(response: httpx.Response, said: Mapping[str, Any]) -> Tuple[str, ...]:
    """The member `warnings`, or the header: an array alone has no members."""
    told = said.get("warnings")
    if told is None:
        try:
            told = read_json(response.headers.get(WARNING_HEADER, "[]"), PackLimits(), dict)
        except WireError:
            told = None
    return texts(told)


def _actions(document: Any) -> NDArray[np.float64]:
    if is_array(document):
        return finite_actions(np.atleast_2d(decode_array(document, dtypes=("<f8", "<f4"))))
    if isinstance(document, dict) and "actions" in document:
        return finite_actions(document["actions"])
    raise BadReply("The answer holds no action: expected a json_numpy array or an object with 'actions'.")


def _json(response: httpx.Response) -> Any:
    try:
        return read_json(response.content, _LIMITS, dict)
    except WireError as error:
        raise BadReply(_no_problem(response, "with a body that is not JSON")) from error


def _no_problem(response: httpx.Response, what: str) -> str:
    """The error text for a reply that is not a daemon's: the URL, and what it should have been."""
    text = f"HTTP {response.status_code} {what}; is {response.url} a stillframe daemon?"
    if response.is_redirect:
        to = reprlib.repr(response.headers.get("location", ""))
        return f"{text} It redirects to {to}; redirects are not followed: if that is right, give it as url."
    if response.status_code in (403, 404, 405):
        return f"{text} The url is the daemon's own, such as 'http://127.0.0.1:8000', without the path of a route."
    return text


def _id(text: Optional[str]) -> Optional[str]:
    """A request id, if it is printable."""
    return text[:_LONGEST_ID] if text and text.isprintable() else None


def text_or_none(value: Any) -> Optional[str]:
    """The value, if it is text."""
    return value if isinstance(value, str) else None


def first_step_of(steps: Any) -> Optional[int]:
    """The control step of a reply's first action, of its member `steps`."""
    first = whole_or_none(steps.get("first")) if isinstance(steps, dict) else None
    return first if first is not None and 0 <= first <= MAX_COUNT else None


def texts(value: Any) -> Tuple[str, ...]:
    """The texts in a list of them, the first _MOST_FAULTS; none for anything else."""
    found = value if isinstance(value, list) else []
    return tuple(text[:_LONGEST_TEXT] for text in found[:_MOST_FAULTS] if isinstance(text, str))


def whole_or_none(value: Any) -> Optional[int]:
    """The value, if it is a whole number."""
    return value if type(value) is int else None


def _said(document: Mapping[str, Any], name: str) -> str:
    """A member for messages: text, cut at _LONGEST_TEXT."""
    return str(document.get(name, ""))[:_LONGEST_TEXT]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value


def _items(value: Any) -> List[Any]:
    if not isinstance(value, list):
        raise TypeError(type(value).__name__)
    return value

"""The field `rtc` of a frame: what its chunk is to be held to (real-time chunking).

Knows numbers of steps and a policy's contract; no chunk.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from stillframe.domain import PolicyInfo, RtcRequest
from stillframe.errors import BadRequest, Unprocessable, closest
from stillframe.web.http.session_fields import read_count
from stillframe_client.wire import RTC_FIELDS

NEEDED = ("delay_steps", "executed_steps")


def read_rtc(fields: Mapping[str, Any], info: PolicyInfo, *, in_session: bool) -> RtcRequest | None:
    """Return what a frame asks for; None: its chunk is computed freely.

    Raises BadRequest for what is none, Unprocessable for a policy whose chunks cannot be held, and without a session.
    """
    said = fields.get("rtc")
    if said is None:
        return None
    if info.rtc.process is None:
        detail = f"Chunks of {info.name} cannot be held to the one before: {info.rtc.why}. Leave 'rtc' out."
        raise Unprocessable("rtc-unsupported", detail, pointer="/rtc")
    if not in_session:
        detail = "'rtc' is about a session's last chunk; name the session in 'session_id', or leave 'rtc' out."
        raise Unprocessable("rtc-without-session", detail, pointer="/rtc")
    _check_names(said)
    counts = {name: _count(said, name) for name in RTC_FIELDS}
    delay, executed = counts["delay_steps"], counts["executed_steps"]
    assert delay is not None and executed is not None  # noqa: S101, PT018 (checked: they are needed)
    horizon = counts["horizon"]
    _check_steps(delay, horizon, info.chunk_horizon)
    return RtcRequest(delay, executed, horizon, counts["chunk_seq"])


def _check_names(said: Any) -> None:
    """Raise BadRequest for anything but an object of the known names, with those that are needed."""
    expected = f"expected an object of {', '.join(RTC_FIELDS)}"
    if not isinstance(said, Mapping):
        raise BadRequest("bad-field", f"'rtc' is {reprlib.repr(said)}; {expected}, or null.", pointer="/rtc")
    for name in said:
        if name not in RTC_FIELDS:
            detail = f"'rtc' holds {reprlib.repr(name)}; {expected}.{closest(str(name), RTC_FIELDS)}"
            raise BadRequest("bad-field", detail, pointer="/rtc")
    for name in NEEDED:
        if said.get(name) is None:
            detail = f"'rtc' needs {name!r}: only the robot's side can count its steps."
            raise BadRequest("missing-field", detail, pointer=f"/rtc/{name}")


def _count(said: Mapping[str, Any], name: str) -> int | None:
    try:
        return read_count(said, name)
    except BadRequest as error:
        error.pointer = f"/rtc/{name}"
        raise


def _check_steps(delay: int, horizon: int | None, chunk: int) -> None:
    """Raise BadRequest for steps that no chunk has."""
    if delay >= chunk:
        detail = (
            f"'delay_steps' is {delay}; a chunk has {chunk} actions, so none would be left when it is taken up: "
            f"expected 0 to {chunk - 1}. Control more slowly, or compute faster."
        )
        raise BadRequest("bad-field", detail, pointer="/rtc/delay_steps")
    if horizon is not None and not delay <= horizon <= chunk:
        detail = f"'horizon' is {horizon}; expected 'delay_steps' ({delay}) to the chunk's {chunk} actions, or null."
        raise BadRequest("bad-field", detail, pointer="/rtc/horizon")

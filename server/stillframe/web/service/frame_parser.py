"""Parses and validates a frame: a dialect's fields become an Observation.

Knows no HTTP and no engine: fields in, domain objects out; each error has a JSON pointer into the client's message.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import Observation, PolicyInfo, RtcRequest
from stillframe.errors import BadRequest, RequestError, TooLarge, Unprocessable, closest, unknown_unnorm_key
from stillframe.web.dialects.base import Dialect, NativeFrame
from stillframe.web.dialects.cameras import keys_by_camera
from stillframe.web.http.images import read_picture
from stillframe.web.http.instruction_warnings import instruction_warnings
from stillframe.web.http.limits import Limits
from stillframe.web.http.masks import read_masks
from stillframe.web.http.parsing import Fields
from stillframe.web.http.problems import pointer
from stillframe.web.http.robot_state import missing_state, read_state
from stillframe.web.http.rtc_fields import read_rtc
from stillframe.web.http.session_fields import RequestAddress, SessionFields, is_clock_ns, read_session_fields

_LONGEST_SLACK_MS = 1e9  # of no use beyond the frame's age; a chunk may last as long as it likes
NATIVE = "native"  # the dialect whose field `masks` means ours
NO_INSTRUCTION = ""  # the frame has none: its session's last one applies


@dataclass(frozen=True)
class ParsedFrame:
    """One request to act, validated."""

    observation: Observation
    max_age_ms: float
    dialect: Dialect
    session_fields: SessionFields | None  # None: stateless
    digest: bytes = b""  # of all bytes sent: tells a repeat from another frame under the same seq
    echo: Mapping[str, Any] = field(default_factory=dict)
    cameras: Mapping[str, str] = field(default_factory=dict)  # camera -> the client's key, where it differs
    warnings: tuple[str, ...] = ()  # oddities that were accepted
    slack_ms: float = 0.0  # for how long its robot has actions left
    unread_state: bool = False  # it holds a state, and the policy reads none
    rtc: RtcRequest | None = None  # what its chunk is to be held to
    default_instruction: str | None = None  # where neither it nor its session has one


@dataclass(frozen=True)
class FrameParser:
    """Parses frames for one policy under one set of limits. Any thread."""

    info: PolicyInfo
    limits: Limits

    def parse(self, fields: Fields, dialect: Dialect, head: RequestAddress, digest: bytes = b"") -> ParsedFrame:
        """Translate and validate a frame. Raises RequestError and nothing else."""
        said = dialect.translate(fields, self.info)
        try:
            return self._validated(said, dialect, head, digest)
        except RequestError as error:
            error.pointer = _in_message(error.pointer, said.pointers)
            raise

    def _validated(self, said: NativeFrame, dialect: Dialect, head: RequestAddress, digest: bytes) -> ParsedFrame:
        fields, info = said.fields, self.info
        session_fields = read_session_fields(fields, head)
        state = _state(fields, info)
        pictures = _pictures(fields, info, self.limits)
        keys = {camera: key for camera, (_, key, _) in pictures.items()} | dict(said.keys)
        images = {camera: read_picture(value, self.limits, place) for camera, (value, _, place) in pictures.items()}
        observation = Observation(
            images=images,
            instruction=_instruction(fields, self.limits, info, in_session=session_fields is not None),
            unnorm_key=_unnorm_key(fields, info),
            center_crop=info.center_crop,
            state=state,
            masks=read_masks(fields, images, keys) if dialect.name == NATIVE else {},
        )
        return ParsedFrame(
            observation,
            _max_age_ms(fields, self.limits),
            dialect,
            session_fields,
            digest,
            _echo(fields),
            cameras={camera: key for camera, key in keys.items() if key != camera},
            warnings=instruction_warnings(observation.instruction, info) if observation.instruction else (),
            slack_ms=_slack_ms(fields),
            unread_state=info.state is None and fields.get("state") is not None,
            rtc=read_rtc(fields, info, in_session=session_fields is not None),
            default_instruction=info.default_instruction,
        )


def missing_instruction() -> BadRequest:
    """The error for a frame without an instruction in a session that has none yet."""
    return BadRequest("missing-field", "'instruction' is missing: what the robot is to do.", pointer="/instruction")


def _in_message(place: str | None, pointers: Mapping[str, str]) -> str | None:
    """Translate a pointer into native fields to one into the client's message: its own, or its parent's."""
    above, _, last = (place or "").rpartition("/")
    return pointers.get(place or "", f"{pointers[above]}/{last}" if above in pointers else place)


def _state(fields: Fields, info: PolicyInfo) -> NDArray[np.float64] | None:
    """Return the robot's state in the policy's order. What a policy does not read is not judged."""
    if info.state is None:
        return None
    if fields.get("state") is None:
        raise missing_state(info.state)
    return read_state(fields["state"], info.state)


def _pictures(fields: Fields, info: PolicyInfo, limits: Limits) -> dict[str, tuple[Any, str, str]]:
    """Return camera -> (undecoded picture, its key, its JSON pointer), in the order they were sent."""
    if "images" not in fields:
        return _single_picture(fields, info)
    images = fields["images"]
    if not isinstance(images, dict) or "__numpy__" in images or "image" in fields:
        detail = "'images' has to be an object of camera names and pictures, without 'image' beside it."
        raise BadRequest("bad-field", detail, pointer="/images")
    if len(images) > limits.max_images:
        detail = f"The frame holds {len(images)} pictures; at most {limits.max_images} are accepted."
        raise TooLarge("too-many-images", detail, pointer="/images")
    keys = keys_by_camera(images, info)
    _check_cameras(keys, info)
    return {camera: (images[key], key, pointer("images", key)) for camera, key in keys.items()}


def _single_picture(fields: Fields, info: PolicyInfo) -> dict[str, tuple[Any, str, str]]:
    if "image" not in fields:
        raise BadRequest("missing-field", "'image' is missing: the camera's picture.", pointer="/image")
    if len(info.cameras) > 1:
        detail = f"This policy needs 'images' with a picture for each of {', '.join(info.cameras)}."
        raise Unprocessable("missing-camera", detail, pointer="/image")
    camera = info.cameras[0]
    return {camera: (fields["image"], camera, "/image")}  # this key names no camera


def _check_cameras(images: Mapping[str, str], info: PolicyInfo) -> None:
    known = ", ".join(info.cameras)
    for name in images:
        if name not in info.cameras:
            detail = f"There is no camera {reprlib.repr(name)}; this policy has {known}.{closest(name, info.cameras)}"
            raise Unprocessable("unknown-camera", detail, pointer="/images")
    for name in info.cameras:
        if name not in images:
            detail = f"There is no picture from camera {name!r}; this policy needs {known}."
            raise Unprocessable("missing-camera", detail, pointer="/images")


def _instruction(fields: Fields, limits: Limits, info: PolicyInfo, *, in_session: bool) -> str:
    place = "/instruction"
    if "instruction" not in fields:
        if in_session:
            return NO_INSTRUCTION
        if info.default_instruction is None:
            raise missing_instruction()
        return info.default_instruction
    text = fields["instruction"]
    if not isinstance(text, str) or not _encodable(text):
        raise BadRequest("bad-field", "'instruction' has to be a string of valid Unicode.", pointer=place)
    if not text.strip():
        raise Unprocessable("instruction-empty", "'instruction' is blank; say what to do.", pointer=place)
    if len(text.encode()) > limits.max_instruction_bytes:
        detail = (
            f"'instruction' is {len(text.encode())} bytes long; at most {limits.max_instruction_bytes} are accepted."
        )
        raise Unprocessable("instruction-too-long", detail, pointer=place)
    return text


def _encodable(text: str) -> bool:
    """Whether it can be encoded as UTF-8: JSON may hold half a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _unnorm_key(fields: Fields, info: PolicyInfo) -> str | None:
    key = fields.get("unnorm_key")
    if key is not None and not isinstance(key, str):
        raise BadRequest("bad-field", "'unnorm_key' has to be a string or null.", pointer="/unnorm_key")
    known = info.default_unnorm_key is not None if key is None else key in info.norm_stats
    if not known:
        raise unknown_unnorm_key(key, info.norm_stats)
    return info.fixed_unnorm_key if key is None else key


def _max_age_ms(fields: Fields, limits: Limits) -> float:
    age_ms = fields.get("max_age_ms", limits.default_max_age_ms)
    number = isinstance(age_ms, int | float) and not isinstance(age_ms, bool)
    if not number or not 0 < age_ms <= limits.longest_max_age_ms:
        detail = f"'max_age_ms' has to be a number above 0 and up to {limits.longest_max_age_ms:g}."
        raise BadRequest("bad-field", detail, pointer="/max_age_ms")
    return float(age_ms)


def _slack_ms(fields: Fields) -> float:
    slack_ms = fields.get("slack_ms")
    if slack_ms is None:
        return 0.0
    number = isinstance(slack_ms, int | float) and not isinstance(slack_ms, bool)
    if not number or not 0 <= slack_ms <= _LONGEST_SLACK_MS:
        detail = f"'slack_ms' has to be a number from 0 to {_LONGEST_SLACK_MS:g}, or null."
        raise BadRequest("bad-field", detail, pointer="/slack_ms")
    return float(slack_ms)


def _echo(fields: Fields) -> Mapping[str, Any]:
    """The client's clock, returned unchanged with the answer."""
    stamp = fields.get("t_obs_ns")
    if stamp is None:
        return {}
    if not is_clock_ns(stamp):
        raise BadRequest("bad-field", "'t_obs_ns' has to be a whole number of 64 bits.", pointer="/t_obs_ns")
    return {"t_obs_ns": stamp}

"""Reads the body of a frame into an observation, whichever of the dialects it speaks.

Knows no HTTP and no engine: bytes in, domain objects out, and every fault named by its place in the body.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from stillframe.domain import Observation, PolicyInfo, SessionRef
from stillframe.errors import BadRequest, TooLarge, Unprocessable, closest, unknown_unnorm_key
from stillframe.web.dialects import Dialect
from stillframe.web.images import read_picture
from stillframe.web.limits import Limits
from stillframe.web.problems import pointer
from stillframe.web.sessions import read_session

Fields = Mapping[str, Any]  # in the order of the request: it may carry meaning


@dataclass(frozen=True)
class Frame:
    """One request to act."""

    observation: Observation
    max_age_ms: float
    dialect: Dialect
    session: SessionRef | None  # None: stateless


def read_frame(body: bytes, info: PolicyInfo, limits: Limits, headers: Sequence[str] = ()) -> Frame:
    """Read a frame for the policy that `info` describes; `headers` are the session ids beside the body.

    Raises RequestError; never anything else.
    """
    fields, double_encoded = _unwrap(parse_object(body, limits.max_json_parts), limits)
    session = read_session(fields, headers)
    pictures = _pictures(fields, info, limits)
    observation = Observation(
        images={name: read_picture(value, limits, place) for name, (value, place) in pictures.items()},
        instruction=_instruction(fields, limits),
        unnorm_key=_unnorm_key(fields, info),
    )
    arrays = all(isinstance(value, dict) for value, _ in pictures.values())
    dialect = Dialect(bare=arrays, double_encoded=double_encoded)
    return Frame(observation, _max_age_ms(fields, limits), dialect, session)


def parse_object(text: bytes | str, max_parts: int) -> Fields:
    """Parse one JSON object; refuse NaN, broken Unicode and anything with over `max_parts` commas and brackets."""
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
        if sum(plain.count(mark) for mark in ",[{") > max_parts:
            raise BadRequest("bad-json", f"The body has over {max_parts} parts; send pictures as base64, not as lists.")
        value = json.loads(plain, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest("bad-json", "The body is not valid JSON in UTF-8.") from error
    if not isinstance(value, dict):
        raise BadRequest("bad-json", "The body is JSON, but not an object.")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unwrap(fields: Fields, limits: Limits) -> tuple[Fields, bool]:
    """Open OpenVLA's double encoding: {"encoded": "<JSON text>"}, that key alone."""
    if "encoded" not in fields:
        return fields, False
    if len(fields) > 1 or not isinstance(fields["encoded"], str):
        detail = "'encoded' has to be the only key, and its value a string of JSON."
        raise BadRequest("bad-codec", detail, pointer="/encoded")
    return parse_object(fields["encoded"], limits.max_json_parts), True


def _pictures(fields: Fields, info: PolicyInfo, limits: Limits) -> dict[str, tuple[Any, str]]:
    """Return camera -> (undecoded picture, its place in the body), in the order they were sent."""
    if "images" not in fields:
        return _single_picture(fields, info)
    images = fields["images"]
    if not isinstance(images, dict) or "__numpy__" in images or "image" in fields:
        detail = "'images' has to be an object of camera names and pictures, without 'image' beside it."
        raise BadRequest("bad-field", detail, pointer="/images")
    if len(images) > limits.max_images:
        detail = f"The frame holds {len(images)} pictures; at most {limits.max_images} are accepted."
        raise TooLarge("too-many-images", detail, pointer="/images")
    _check_cameras(images, info)
    return {name: (value, pointer("images", name)) for name, value in images.items()}


def _single_picture(fields: Fields, info: PolicyInfo) -> dict[str, tuple[Any, str]]:
    if "image" not in fields:
        raise BadRequest("missing-field", "'image' is missing: the camera's picture.", pointer="/image")
    if len(info.cameras) > 1:
        detail = f"This policy needs 'images' with a picture for each of {', '.join(info.cameras)}."
        raise Unprocessable("missing-camera", detail, pointer="/image")
    return {info.cameras[0]: (fields["image"], "/image")}


def _check_cameras(images: Fields, info: PolicyInfo) -> None:
    known = ", ".join(info.cameras)
    for name in images:
        if name not in info.cameras:
            detail = f"There is no camera {reprlib.repr(name)}; this policy has {known}.{closest(name, info.cameras)}"
            raise Unprocessable("unknown-camera", detail, pointer="/images")
    for name in info.cameras:
        if name not in images:
            detail = f"There is no picture from camera {name!r}; this policy needs {known}."
            raise Unprocessable("missing-camera", detail, pointer="/images")


def _instruction(fields: Fields, limits: Limits) -> str:
    place = "/instruction"
    if "instruction" not in fields:
        raise BadRequest("missing-field", "'instruction' is missing: what the robot is to do.", pointer=place)
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
    """Whether every character can leave as UTF-8: JSON may smuggle in half a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _unnorm_key(fields: Fields, info: PolicyInfo) -> str | None:
    key = fields.get("unnorm_key")
    if key is not None and not isinstance(key, str):
        raise BadRequest("bad-field", "'unnorm_key' has to be a string or null.", pointer="/unnorm_key")
    known = info.default_unnorm_key is not None if key is None else key in info.norm_stats
    if not known:
        raise unknown_unnorm_key(key, info.norm_stats)
    return key


def _max_age_ms(fields: Fields, limits: Limits) -> float:
    age_ms = fields.get("max_age_ms", limits.default_max_age_ms)
    number = isinstance(age_ms, int | float) and not isinstance(age_ms, bool)
    if not number or not 0 < age_ms <= limits.longest_max_age_ms:
        detail = f"'max_age_ms' has to be a number above 0 and up to {limits.longest_max_age_ms:g}."
        raise BadRequest("bad-field", detail, pointer="/max_age_ms")
    return float(age_ms)

"""Assign a client's pictures to the policy's cameras, for clients with their own key names.

Knows no dialect. The configuration decides first, then names; an ambiguous frame is refused.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from stillframe.domain import PolicyInfo
from stillframe.errors import BadRequest, TooLarge, Unprocessable
from stillframe.web.dialects.base import NativeFrame
from stillframe.web.http.parsing import Fields
from stillframe.web.http.problems import pointer
from stillframe_client.wire.camera_names import NameMatch, match_camera, mount_of

_MAX_PICTURES = 64  # pictures in one frame, used or not
_LISTED = 8  # keys listed in an error
_REMEDY = "name it like the camera, or have the daemon's configuration say which it is ('cameras: {%s: KEY}')"


def assign_cameras(
    pictures: Mapping[str, Any], rest: Fields, info: PolicyInfo, *, ordered: bool = False
) -> NativeFrame:
    """Return `rest` with the pictures under the policy's cameras. `pictures` are by the client's keys, in its order.

    `ordered`: the order decides between several on one mount. Raises Unprocessable (ambiguous-camera)
    where several pictures fit a camera, (missing-camera) where none does.
    """
    keys = _assigned(list(pictures), info, ordered=ordered)
    images = {camera: pictures[key] for camera, key in keys.items()}
    pointers = {pointer("images", camera): pointer(key) for camera, key in keys.items()}
    return NativeFrame({**rest, "images": images}, pointers, keys)


def keys_by_camera(images: Mapping[str, Any], info: PolicyInfo) -> Mapping[str, str]:
    """Return camera -> key, of pictures under cameras' names, the checkpoint's own, or the keys configured for them.

    Other keys stay as they are. Raises BadRequest for a camera with two pictures.
    """
    cameras = {key: camera for names in (info.camera_slots, info.camera_keys) for camera, key in names.items()}
    found: dict[str, str] = {}
    for key in images:
        camera = cameras.get(key, key)
        if camera in found:
            detail = f"Camera {camera!r} has two pictures, {_listed([found[camera], key])}; send one."
            raise BadRequest("bad-field", detail, pointer="/images")
        found[camera] = key
    return found


def _assigned(keys: list[str], info: PolicyInfo, *, ordered: bool) -> Mapping[str, str]:
    """Return camera -> the key of its picture, in the policy's order; keys that match no camera are left out."""
    if len(keys) > _MAX_PICTURES:
        raise TooLarge(
            "too-many-images", f"The frame holds {len(keys)} pictures; at most {_MAX_PICTURES} are looked through."
        )
    found = {camera: _configured(camera, key, keys) for camera, key in info.camera_keys.items()}
    slots = {camera: info.camera_slots.get(camera, camera) for camera in info.cameras if camera not in found}
    fits = {(camera, key): match_camera(camera, slot, key) for camera, slot in slots.items() for key in keys}
    for quality in [step for step in NameMatch if step is not NameMatch.NONE]:
        pairs = [pair for pair, how in fits.items() if how is quality]
        _assign(found, pairs, in_order=ordered and quality >= NameMatch.SAME_MOUNT)
    if not found and len(keys) == len(info.cameras) == 1 and mount_of(keys[0]) is None:
        return {info.cameras[0]: keys[0]}
    for camera in info.cameras:
        if camera not in found:
            raise _missing(camera, keys)
    return {camera: found[camera] for camera in info.cameras}


def _configured(camera: str, key: str, keys: Sequence[str]) -> str:
    if key in keys:
        return key
    detail = f"Camera {camera!r} is to be found under {key!r}, as the daemon's configuration has it; "
    raise Unprocessable("missing-camera", f"{detail}the frame has {_listed(keys) or 'no pictures'}.")


def _assign(found: dict[str, str], pairs: Sequence[tuple[str, str]], *, in_order: bool) -> None:
    """Assign, of camera-key pairs that match equally well, the unambiguous ones. Raises Unprocessable."""
    while (open_ := _open(found, pairs)) and (sure := _sure(open_, in_order=in_order)):
        found[sure] = open_[sure][0]
    for camera, fitting in open_.items():
        if len(fitting) > 1:
            detail = f"Camera {camera!r} could be any of {_listed(fitting)}; {_REMEDY % camera}."
            raise Unprocessable("ambiguous-camera", detail)


def _open(found: Mapping[str, str], pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Return unassigned camera -> unassigned keys that match it."""
    fitting: dict[str, list[str]] = {}
    for camera, key in pairs:
        if camera not in found and key not in found.values():
            fitting.setdefault(camera, []).append(key)
    return fitting


def _sure(open_: Mapping[str, Sequence[str]], *, in_order: bool) -> str | None:
    """Return a camera that can be assigned: the next in order; or with one key, which no other camera needs."""
    keys = list(open_.values())
    return next((camera for camera, fitting in open_.items() if in_order or _only(fitting, keys)), None)


def _only(fitting: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    return len(fitting) == 1 and list(others).count(fitting) == 1


def _missing(camera: str, keys: Sequence[str]) -> Unprocessable:
    there = f"of {_listed(keys)} none is surely its" if keys else "the frame has no pictures"
    detail = f"There is no picture from camera {camera!r}: {there}; {_REMEDY % camera}."
    return Unprocessable("missing-camera", detail)


def _listed(keys: Sequence[str]) -> str:
    """Format keys for an error, the first _LISTED."""
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(map(reprlib.repr, keys[:_LISTED])) + more

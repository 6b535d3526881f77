"""Which picture belongs to which of the policy's cameras, for clients that have names of their own for them.

Knows no dialect. By name where the client's is the policy's; else wrist to wrist, and the others in their order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stillframe.domain import PolicyInfo
from stillframe.web.dialects.base import Fields, Said
from stillframe.web.problems import pointer

_DECORATION = re.compile(r"^(observation[/.]|images?[/._])+|([/._]?(image|rgb|left))+$")
_LONGEST_KEY = 64  # characters


def placed(pictures: Mapping[str, Any], rest: Fields, info: PolicyInfo) -> Said:
    """Say `rest` with the pictures under the policy's cameras. `pictures` are by the client's keys, in its order."""
    keys = _assigned(list(pictures), info.cameras)
    images = {camera: pictures[key] for camera, key in keys.items()}
    places = {pointer("images", camera): pointer(key) for camera, key in keys.items()}
    return Said({**rest, "images": images}, places)


def _assigned(keys: list[str], cameras: tuple[str, ...]) -> dict[str, str]:
    """Camera -> the key of its picture; keys that no camera is left for stay out, as do cameras without a picture."""
    by_name = {camera: key for key in keys for camera in cameras if camera in (key, _bare(key))}
    left = [key for key in keys if key not in by_name.values()]
    assigned = dict(by_name)
    for camera in cameras:
        if camera not in assigned:
            fitting = [key for key in left if ("wrist" in key) == ("wrist" in camera)]
            if fitting:
                assigned[camera] = fitting[0]
                left.remove(fitting[0])
    return {camera: assigned[camera] for camera in cameras if camera in assigned}


def _bare(key: str) -> str:
    """A key without what clients put around a camera's name. A long one stays: looking takes its length squared."""
    return _DECORATION.sub("", key) if len(key) <= _LONGEST_KEY else key

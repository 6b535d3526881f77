"""Camera names and picture keys: how well a key names a camera, and whether the camera is on the hand or the scene.

Knows words of robots' data sets (LIBERO, DROID, ALOHA, robomimic, CALVIN, RLBench, Open X-Embodiment); no dialect.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import Enum, IntEnum
from functools import lru_cache
from typing import FrozenSet, Optional, Tuple


def _words(*lines: str) -> FrozenSet[str]:
    return frozenset(word for line in lines for word in line.split())


# Words that clients add to a camera's name.
_FILLER = _words("observation observations obs image images img rgb cam camera color pixels view frame video")
# Which of several of one kind: by convention the left one of a pair and any number are ignored.
_QUALIFIERS = _words("left")
_HAND_WORDS = _words("hand hands gripper wrist eef ee handeye handcam inhand palm fingertip")
_HAND_PARTS = ("wrist", "gripper", "eyeinhand", "endeffector")
# 'low' is not among them: openpi's ALOHA policies use cam_high, and so do we where both are sent.
_SCENE_WORDS = _words(
    "agent agentview agentcam base exterior external front frontview primary full third static scene overhead top",
    "topdown side sideview back backview rear high head ego egocentric main global world shoulder corner table bird",
    "birdview workspace room ceiling overview",
)
_WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|\d+")


class Mount(Enum):
    """Where a camera is mounted."""

    HAND = "hand"  # on the wrist, the hand, the gripper: moves with the arm
    SCENE = "scene"  # beside the robot, or on its head


class NameMatch(IntEnum):
    """How well a key names a camera, best first."""

    SAME = 0  # to the letter
    WORDS = 1  # the same words: image_front for front_image
    WITH_FILLER = 2  # with filler words beside it: observation/front_rgb
    NUMBERED = 3  # and with a number or 'left'
    ABRIDGED = 4  # and without the camera's own filler words and number: cam_left_wrist for left_wrist_0_rgb
    SAME_MOUNT = 5  # names a camera on the same mount: agentview_image for front
    NO_MOUNT = 6  # says no mount: taken for a scene camera
    NONE = 7


@lru_cache(1024)
def split_words(key: str) -> Tuple[str, ...]:
    """Split a key into lower-case words and numbers: wristImage0 is wrist, image, 0."""
    return tuple(word.lower() for word in _WORD.findall(key))


def mount_of(key: str) -> Optional[Mount]:
    """Return where the camera that a key names is mounted; None: it does not say."""
    said = split_words(key)
    if not _HAND_WORDS.isdisjoint(said) or any(part in word for word in said for part in _HAND_PARTS):
        return Mount.HAND
    return None if _SCENE_WORDS.isdisjoint(said) else Mount.SCENE


def match_name(camera: str, key: str) -> NameMatch:
    """Return how well a client's key names a policy's camera."""
    if camera == key:
        return NameMatch.SAME
    named, said = Counter(split_words(camera)), Counter(split_words(key))
    if named and not named - said:
        beside = (said - named).keys()
        if not beside:
            return NameMatch.WORDS
        if beside <= _FILLER:
            return NameMatch.WITH_FILLER
        if all(word in _QUALIFIERS or _is_filler(word) for word in beside):
            return NameMatch.NUMBERED
    if _abridges(named, said):
        return NameMatch.ABRIDGED
    own, other = mount_of(camera) or Mount.SCENE, mount_of(key)
    if other is None:
        return NameMatch.NO_MOUNT if own is Mount.SCENE else NameMatch.NONE
    return NameMatch.SAME_MOUNT if own is other else NameMatch.NONE


def _abridges(named: Counter[str], said: Counter[str]) -> bool:
    """Whether the words of a key are those of a camera but for filler and a number on either side; not two numbers."""
    core = Counter({word: times for word, times in named.items() if not _is_filler(word)})
    numbers = [{word for word in words if word.isdigit()} for words in (named, said)]
    beside = said - core
    return bool(core) and not core - said and all(map(_is_filler, beside)) and not all(numbers)


def _is_filler(word: str) -> bool:
    return word in _FILLER or word.isdigit()


def camera_mount(camera: str, slot: str) -> Optional[Mount]:
    """Return where a camera is mounted; where its name does not say, as the name of the policy's slot that it fills."""
    return mount_of(camera) or mount_of(slot)


def match_camera(camera: str, slot: str, key: str) -> NameMatch:
    """Return how well a key names a camera, or the policy's slot that it fills; its mount is that of `camera_mount`."""
    named = min(match_name(camera, key), match_name(slot, key))
    return named if named <= NameMatch.ABRIDGED else match_name(camera if mount_of(camera) else slot, key)

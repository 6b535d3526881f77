"""What a picture's key says: how well it names a camera, and whether the camera sits on the hand or looks at the scene.

Knows words of robots' data sets (LIBERO, DROID, ALOHA, robomimic, CALVIN, RLBench, Open X-Embodiment); no dialect.
"""

from __future__ import annotations

import re
from collections import Counter
from enum import IntEnum, StrEnum
from functools import lru_cache


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


# Words that clients put round a camera's name.
_ROUND = _words("observation observations obs image images img rgb cam camera color pixels view frame video")
# And which of several of one kind it is: by convention the left one of a pair, and any number, go without saying.
_WHICH = _words("left")
_ON_THE_HAND = _words("hand hands gripper wrist eef ee handeye handcam inhand palm fingertip")
_IN_ANY_WORD = ("wrist", "gripper", "eyeinhand", "endeffector")
# 'low' is not among them: openpi's ALOHA policies look at cam_high, and so do we where both come.
_AT_THE_SCENE = _words(
    "agent agentview agentcam base exterior external front frontview primary full third static scene overhead top",
    "topdown side sideview back backview rear high head ego egocentric main global world shoulder corner table bird",
    "birdview workspace room ceiling overview",
)
_WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|\d+")


class Family(StrEnum):
    """Where a camera is."""

    HAND = "hand"  # on the wrist, the hand, the gripper: it moves with the arm
    SCENE = "scene"  # beside the robot, or on its head


class Fit(IntEnum):
    """How well a key names a camera, the best first."""

    SAME = 0  # to the letter
    WORDS = 1  # in its words: image_front for front_image
    DRESSED = 2  # with words round it that say nothing: observation/front_rgb
    NUMBERED = 3  # with a number or 'left' beside these
    FAMILY = 4  # it names a camera in the same place: agentview_image for front
    SILENT = 5  # it says nothing of where the camera is: that is the scene's
    NOT = 6


@lru_cache(1024)
def words(key: str) -> tuple[str, ...]:
    """A key's words and numbers, in small letters: wristImage0 is wrist, image, 0."""
    return tuple(word.lower() for word in _WORD.findall(key))


def family(key: str) -> Family | None:
    """Where the camera is that a key names; None: it does not say."""
    said = words(key)
    if not _ON_THE_HAND.isdisjoint(said) or any(part in word for word in said for part in _IN_ANY_WORD):
        return Family.HAND
    return None if _AT_THE_SCENE.isdisjoint(said) else Family.SCENE


def fit(camera: str, key: str) -> Fit:
    """How well a client's key names a policy's camera."""
    if camera == key:
        return Fit.SAME
    named, said = Counter(words(camera)), Counter(words(key))
    if named and named <= said:
        beside = (said - named).keys()
        if not beside:
            return Fit.WORDS
        if beside <= _ROUND:
            return Fit.DRESSED
        if all(word in _ROUND or word in _WHICH or word.isdigit() for word in beside):
            return Fit.NUMBERED
    own, other = family(camera) or Family.SCENE, family(key)
    if other is None:
        return Fit.SILENT if own is Family.SCENE else Fit.NOT
    return Fit.FAMILY if own is other else Fit.NOT

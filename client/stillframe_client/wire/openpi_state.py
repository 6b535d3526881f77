"""A robot's state in openpi's observations: which keys hold it, and which of them a policy reads.

Knows no value and no codec. Source: openpi's LIBERO, ALOHA and DROID policies; robo-arena/roboarena.
"""

from __future__ import annotations

from typing import Collection, Dict, Iterable, List, Mapping, Sequence, Tuple

from stillframe_client.wire.camera_names import split_words

STATE_KEYS = ("observation/state", "state", "observation.state")  # the whole of it; the first one present counts
JOINTS, POSE = "observation/joint_position", "observation/cartesian_position"
GRIPPER = "observation/gripper_position"  # follows either
PART_KEYS = (JOINTS, POSE, GRIPPER)
_WORDS: Dict[str, Tuple[str, ...]] = {
    JOINTS: ("joint", "joints", "q", "qpos"),
    POSE: ("x", "y", "z", "pos", "position", "pose", "cartesian", "eef", "ee", "tool", "hand"),
}


class AmbiguousStateError(ValueError):
    """Joints and hand fit alike, and the policy's names do not say which."""

    def __init__(self, ways: Sequence[Tuple[str, ...]]):
        self.keys = tuple(way[0] for way in ways)
        said = " or ".join(" and ".join(map(repr, way)) for way in ways)
        super().__init__(f"the state could be {said}; send the one that is meant as {STATE_KEYS[0]!r}")


def state_ways(keys: Collection[str]) -> List[Tuple[str, ...]]:
    """Return the ways in which an observation of these keys says a state: keys whose numbers follow one another."""
    whole: List[Tuple[str, ...]] = [(key,) for key in STATE_KEYS if key in keys]
    arms = [key for key in (JOINTS, POSE) if key in keys]
    if whole or not arms or GRIPPER not in keys:
        return whole[:1] or [(key,) for key in arms]
    return [*((arm, GRIPPER) for arm in arms), *((arm,) for arm in arms)]


def choose_state(sizes: Mapping[str, int], names: Iterable[str]) -> Tuple[str, ...]:
    """Return the keys of the state that a policy reads under `names`, of those with numbers; () where there are none.

    The one that has as many numbers; of several the one that the names speak of. Where none fits the first, for the
    error. Raises AmbiguousStateError.
    """
    read = list(names)
    ways = state_ways(sizes)
    fitting = [way for way in ways if sum(sizes[key] for key in way) == len(read)]
    if len(fitting) < 2:
        return (fitting or ways or [()])[0]
    said = {word for name in read for word in split_words(name)}
    meant = [way for way in fitting if not said.isdisjoint(_WORDS[way[0]])]
    if len(meant) != 1:
        raise AmbiguousStateError(fitting)
    return meant[0]

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
_WORDS: Dict[str, Tuple[str, ...]] = {  # in the names that a policy reads
    JOINTS: ("joint", "joints", "q", "qpos", "waist", "shoulder", "elbow", "forearm"),
    POSE: ("x", "y", "z", "pos", "position", "pose", "cartesian", "eef", "ee", "tool", "hand"),
}


class StateChoiceError(ValueError):
    """The observation's parts are not surely what the policy reads; `keys` are those in question."""

    def __init__(self, detail: str, ways: Sequence[Tuple[str, ...]]):
        self.keys = tuple(way[0] for way in ways)
        super().__init__(f"{detail}; send what is meant as {STATE_KEYS[0]!r}")


def state_ways(keys: Collection[str]) -> List[Tuple[str, ...]]:
    """Return the ways in which an observation of these keys says a state: keys whose numbers follow one another."""
    whole: List[Tuple[str, ...]] = [(key,) for key in STATE_KEYS if key in keys]
    arms = [key for key in (JOINTS, POSE) if key in keys]
    if whole or not arms or GRIPPER not in keys:
        return whole[:1] or [(key,) for key in arms]
    return [*((arm, GRIPPER) for arm in arms), *((arm,) for arm in arms)]


def choose_state(sizes: Mapping[str, int], names: Iterable[str]) -> Tuple[str, ...]:
    """Return the keys of the state that a policy reads under `names`, of those with numbers; () where there are none.

    The one that has as many numbers, and that the names speak of where they speak of joints or of a pose; where none
    has as many the first, for the error. Raises StateChoiceError where two fit, or joints would be taken for a pose.
    """
    read = list(names)
    ways = state_ways(sizes)
    fitting = [way for way in ways if sum(sizes[key] for key in way) == len(read)]
    if not fitting or fitting[0][0] in STATE_KEYS:
        return (fitting or ways or [()])[0]
    said = {word for name in read for word in split_words(name)}
    spoken = [arm for arm, words in _WORDS.items() if not said.isdisjoint(words)]
    meant = fitting if len(spoken) != 1 else [way for way in fitting if way[0] == spoken[0]]
    if not meant:
        raise StateChoiceError(f"{_either(fitting)} would be taken for {', '.join(map(repr, read[:4]))}, ...", fitting)
    if len(meant) > 1:
        raise StateChoiceError(f"the state could be {_either(meant)}", meant)
    return meant[0]


def _either(ways: Sequence[Tuple[str, ...]]) -> str:
    return " or ".join(" and ".join(map(repr, way)) for way in ways)

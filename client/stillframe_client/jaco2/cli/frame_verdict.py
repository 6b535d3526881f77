"""Which frame an arm takes its commands in, as its nudges show; and what to do where it is another than expected.

Knows no arm. Expected: shifts in the base frame, turns in the tool's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations, product
from typing import TYPE_CHECKING, List, Optional, Sequence

import numpy as np

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.cli.nudge import AXES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stillframe_client.jaco2.cli.nudge import Nudge

    Matrix = NDArray[np.float64]

NEAR = math.cos(math.radians(20))  # directions within 20 degrees are one
DO_NOT_RUN = "do not run: the bridge's limits hold in frames that this arm does not have"


@dataclass(frozen=True)
class Verdict:
    """What is said of shifts, or of turns."""

    fits: bool
    text: str


def verdict(nudges: Sequence[Nudge], angular_frame: str = "tool") -> Verdict:
    """Judge three nudges, one for each axis, of one kind; `angular_frame` is the arm's as it is set."""
    still = [nudge.name for nudge in nudges if not nudge.has_moved]
    if still:
        return Verdict(fits=False, text=_did_not_move(still))
    seen = np.stack([nudge.direction for nudge in nudges], axis=1)  # [3, 3]: a column for each axis
    tool_in_base = _matrix(nudges[0])
    if nudges[0].is_turn:
        return _turns(seen, tool_in_base, angular_frame)
    return _shifts(seen, tool_in_base)


def _shifts(seen: Matrix, tool_in_base: Matrix) -> Verdict:
    if _alike(seen, np.eye(3)):
        return Verdict(fits=True, text="shifts are made in the base frame, as they are told")
    swapped = _swapped(seen)
    if _alike(seen, tool_in_base):
        also = f" (or {swapped}: with the hand held like this it looks the same)" if swapped else ""
        return Verdict(fits=False, text=f"shifts look as if made in the TOOL's frame{also}; {DO_NOT_RUN}")
    if swapped:
        return Verdict(fits=False, text=f"axes are swapped, {swapped}; {DO_NOT_RUN}")
    turn_deg = math.degrees(math.atan2(seen[1, 0], seen[0, 0]))
    if _alike(seen, _about_z(turn_deg)):
        return Verdict(
            fits=False, text=f"shifts are turned by {turn_deg:.0f} degrees about z against the reports; {DO_NOT_RUN}"
        )
    return Verdict(fits=False, text=f"shifts fit no frame; {DO_NOT_RUN}")


def _turns(seen: Matrix, tool_in_base: Matrix, angular_frame: str) -> Verdict:
    if _alike(tool_in_base, np.eye(3)) and _alike(seen, np.eye(3)):
        return Verdict(
            fits=False,
            text="turns fit, but the tool's axes are the base's here, so the frame does not show: turn the hand by 45 "
            "degrees or more about two axes and repeat",
        )
    if _alike(seen, np.eye(3)):
        return Verdict(fits=True, text="turns are made in the tool's frame, as they are told")
    swapped = _swapped(seen)
    taken, as_if = ("base", tool_in_base.T) if angular_frame == "tool" else ("tool", tool_in_base)
    if _alike(seen, as_if):
        also = f" (or {swapped}: with the hand held like this it looks the same; turn it and repeat)" if swapped else ""
        return Verdict(
            fits=False,
            text=f"turns look as if the arm took them in the {taken.upper()} frame{also}: set "
            f'arm.angular_frame = "{taken}" and repeat this check',
        )
    if swapped:
        return Verdict(fits=False, text=f"axes are swapped, {swapped}; {DO_NOT_RUN}")
    return Verdict(fits=False, text=f"turns fit no frame; {DO_NOT_RUN}")


def _did_not_move(names: Sequence[str]) -> str:
    return (
        f"the tool did not follow {', '.join(names)}: in a singularity, stopped, in another mode, or at a side of the "
        "box; move it to the middle of its workspace with the joystick, or send it home, and repeat"
    )


def _swapped(seen: Matrix) -> str:
    """Which axis goes where, if each goes along one; empty: they do not, or all go where they should."""
    found = _signed_permutation(seen)
    if found is None:
        return ""
    parts: List[str] = []
    for axis in range(3):
        to = int(np.abs(found[:, axis]).argmax())
        sign = "+" if found[to, axis] > 0 else "-"
        if to != axis or sign == "-":
            parts.append(f"+{AXES[axis]} goes to {sign}{AXES[to]}")
    return ", ".join(parts)


def _signed_permutation(seen: Matrix) -> Optional[Matrix]:
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            matrix: Matrix = np.eye(3)[:, list(order)] * np.array(signs)
            if _alike(seen, matrix):
                return matrix
    return None


def _alike(seen: Matrix, expected: Matrix) -> bool:
    """Whether each column points where it should."""
    return bool(((seen * expected).sum(axis=0) >= NEAR).all())


def _matrix(nudge: Nudge) -> Matrix:
    """[3, 3] from the tool's frame to the base's, before the nudge."""
    return np.stack([rotations.rotate(nudge.before.orientation, axis) for axis in np.eye(3)], axis=1)


def _about_z(degrees: float) -> Matrix:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])

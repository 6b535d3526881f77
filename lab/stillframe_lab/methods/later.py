"""Arms that were played apart from those of a table, perhaps on another machine: their results beside what is there.

Knows results documents; plays and computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillframe_lab.ablation.plan import OFF

Result = Mapping[str, Any]
LATER = "played_later"  # of a document: groups, each with its machine and an `off` of its own
OWN = ("made_with", "arms", "played_in_turn")  # what such a group has of its own
FIGURES = {*OWN, LATER, "targets", "strip"}  # all else says which episodes were played, and how


def beside(there: Result | None, played: Result) -> Result:
    """One document of what lies there and of what was played: nothing is lost but what was played again.

    Arms of `there` that `played` lacks, or has over fewer episodes, stay as they are with their machine; `played` is
    then a group of its own. Where none is left, or where other episodes were played, `played` is the whole document.
    """
    if there is None or _what(there) != _what(played):
        return played
    groups = [one for group in there.get(LATER, []) if (one := _left(group, played))]
    table = _left(there, played)
    if table is None:
        return {**played, LATER: groups} if groups else played
    return {**played, **table, LATER: [*groups, {name: played[name] for name in OWN}]}


def all_arms(document: Result) -> dict[str, Result]:
    """Every arm: as the table has it, else as the last group that has it."""
    arms: dict[str, Result] = {}
    for group in document.get(LATER, []):
        arms.update(group["arms"])
    return {**arms, **document["arms"]}


def _what(document: Result) -> dict[str, Any]:
    """Which episodes, of which policy, and how they were played."""
    return {"seed": document["made_with"]["seed"], **{key: document[key] for key in document.keys() - FIGURES}}


def _left(group: Result, played: Result) -> dict[str, Any] | None:
    """What is left of a group once others were played; None: nothing but the `off` that it was compared with."""
    again = played["arms"]
    arms = {name: arm for name, arm in group["arms"].items() if name == OFF or not _replaced(arm, again.get(name))}
    if arms.keys() <= {OFF}:
        return None
    turns = [[name for name in turn if name in arms] for turn in group.get("played_in_turn", [])]
    return {"made_with": group["made_with"], "arms": arms, "played_in_turn": [turn for turn in turns if turn]}


def _replaced(arm: Result, other: Result | None) -> bool:
    """Whether `other` has the place of `arm`."""
    return other is not None and other["episodes"] >= arm["episodes"]

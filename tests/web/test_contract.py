"""What /v1/models says of an action's numbers, in the numbers that answers hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stillframe.web.dialects.action_ranges import gripper_meaning
from stillframe.web.service.model_card import model_card


def scaled(low: float, high: float, *, mask: bool = True) -> dict[str, Any]:
    """A data set whose gripper's statistics are these."""
    return {"q01": [-0.1] * 6 + [low], "q99": [0.2] * 6 + [high], "mask": [True] * 6 + [mask]}


@pytest.fixture
def info(desk: Any) -> Any:
    """OpenVLA's words for its gripper."""
    return replace(desk.policy.info, gripper="0 = close, 1 = open")


@pytest.mark.parametrize(
    ("entry", "words", "ends"),
    [
        (scaled(0.0, 1.0, mask=False), "0 = close, 1 = open", (0.0, 1.0)),
        (scaled(0.0, 1000.0, mask=False), "0 = close, 1 = open", (0.0, 1.0)),
        (scaled(0.0, 1000.0), "0 = close, 1000 = open", (0.0, 1000.0)),
        (scaled(-1.0, 1.0), "-1 = close, 1 = open", (-1.0, 1.0)),
        (scaled(0.05, 0.996), "0.05 = close, 0.996 = open", (0.05, 0.996)),
    ],
)
def test_the_grippers_ends_are_those_of_the_statistics(info: Any, entry: Any, words: str, ends: Any) -> None:
    """Where they scale it; elsewhere its numbers pass through."""
    card = model_card(replace(info, norm_stats={"x": entry}, default_unnorm_key="x"))
    gripper = card.action.fields[6]

    assert card.action.gripper == gripper.meaning == words
    assert gripper.ranges == {"x": ends}
    assert card.action.fields[0].ranges == {"x": (-0.1, 0.2)}


def test_numbers_that_are_not_scaled_are_the_policys_own(info: Any) -> None:
    """From -1 to 1."""
    plain = {"q01": [-5.0] * 7, "q99": [5.0] * 7, "mask": [False] * 7}
    card = model_card(replace(info, norm_stats={"x": plain}, default_unnorm_key="x"))

    assert card.action.fields[3].ranges == {"x": (-1.0, 1.0)}


def test_each_data_set_is_named_where_they_differ(info: Any) -> None:
    """And none is the default; those alike together."""
    entries = {"a": scaled(0, 1), "b": scaled(0, 1000), "c": scaled(0, 1000, mask=False)}
    many = replace(info, norm_stats=entries, default_unnorm_key=None)

    assert gripper_meaning(many) == "0 = close, 1 = open (a, c); 0 = close, 1000 = open (b)"
    assert gripper_meaning(replace(many, default_unnorm_key="b")) == "0 = close, 1000 = open"
    assert gripper_meaning(replace(many, norm_stats={"a": scaled(0, 1)})) == "0 = close, 1 = open"
    assert gripper_meaning(replace(many, action_names=("dx",))) == "0 = close, 1 = open"

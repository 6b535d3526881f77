from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stillframe.errors import ConfigError
from stillframe.models.llama.layout import Mask
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.methods.plan import MethodsPlan, chosen, is_count, method_arms

KNOBS = ReuseSettings(mode="adaptive", drift_budget=0.03)
CAUSAL: Any = SimpleNamespace(has_expert=False, mask=Mask.CAUSAL)
WHOLE: Any = SimpleNamespace(has_expert=False, mask=Mask.BIDIRECTIONAL)


def plan(**changed: Any) -> MethodsPlan:
    """Of two tasks, twelve episodes."""
    arms = {"off": replace(KNOBS, mode="off"), "adaptive": KNOBS}
    fixed = MethodsPlan("libero_spatial", (2, 5), 12, 0, arms, Path("policy"), 4, None, "fast")
    return replace(fixed, **changed)


def test_cells_are_blocks_of_states_and_more_episodes_leave_them_as_they_are() -> None:
    """The first block of every task comes first; a cell that is there says the same of itself afterwards."""
    cells = [*plan().cells()]
    more = [*plan(episodes=24).cells()]

    assert [(one.task, one.init_states) for one in cells] == [
        (2, (0, 1, 2, 3, 4)),
        (5, (0, 1, 2, 3, 4)),
        (2, (5,)),
        (5, (5,)),
    ]
    assert [one.origin("digest") for one in more[:2]] == [one.origin("digest") for one in cells[:2]]
    assert len({one.name for one in more}) == len(more)


def test_what_a_cell_depends_on() -> None:
    """Settings of an arm, weights, how much is played: another one of these, and it is played again."""
    (first, *_), (other, *_) = plan().cells(), plan(execute=8).cells()

    assert first.origin("a") == first.origin("a")
    assert first.origin("a") != first.origin("b")
    assert first.origin("a") != other.origin("a")


def test_methods_that_prune_are_played_where_they_are_defined() -> None:
    """Behind a causal prompt, not where every row sees every other."""
    assert {"fastv", "sparsevlm"} <= method_arms(KNOBS, CAUSAL, 64).keys()
    assert not {"fastv", "sparsevlm"} & method_arms(KNOBS, WHOLE, 64).keys()


def test_counts_are_shares_of_a_camera() -> None:
    """The published 50, 100 and 200 of 256; each with and without relevance, which leaves out the most attended."""
    arms = method_arms(KNOBS, WHOLE, 64)
    counts = {name: arm.adaptive for name, arm in arms.items() if is_count(name)}

    assert [*counts] == [f"{count} tokens{words}" for count in (13, 26, 51) for words in ("", " + relevance")]
    assert [(one.top_k, one.task_top_k) for one in counts.values()] == [
        (count, kept) for count in (13, 26, 51) for kept in (0, 10)
    ]


def test_arms_by_name() -> None:
    """All, or those that are named and `off`; a name that is none is refused with those that are."""
    arms = method_arms(KNOBS, WHOLE, 64)

    assert chosen(arms, ()) == arms
    assert [*chosen(arms, ("paper",))] == ["off", "paper"]
    with pytest.raises(ConfigError, match="--cell papier: expected one of off, static-only"):
        chosen(arms, ("papier",))

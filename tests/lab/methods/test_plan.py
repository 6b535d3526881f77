from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stillframe.domain import PRUNING_MODES
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy
from stillframe.reuse.pruning_settings import FastVSettings, SparseVLMSettings
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.ablation.plan import SELECTED, SELECTOR_NAME
from stillframe_lab.kitchen.bench import KitchenBench
from stillframe_lab.libero.bench import LiberoBench
from stillframe_lab.methods.plan import MethodsPlan, arm_origin, asks_masks, is_count, method_arms

KNOBS = ReuseSettings(mode="adaptive", drift_budget=0.03)
GOLDENS = Path(__file__).parents[2] / "goldens"
NONE = Path("policy")  # no checkpoint lies there


def plan(**changed: Any) -> MethodsPlan:
    """Of two tasks, twelve episodes."""
    arms = {"off": replace(KNOBS, mode="off"), "adaptive": KNOBS}
    fixed = MethodsPlan(LiberoBench("libero_spatial", "fast"), (2, 5), 12, 0, arms, Path("policy"), 4, None)
    return replace(fixed, **changed)


def test_cells_are_blocks_of_states_and_more_episodes_leave_them_as_they_are() -> None:
    """The first block of every task comes first; what an arm's result there depends on is the same afterwards."""
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


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ({"execute": 8}, True),
        ({"seed": 1}, True),
        ({"bench": LiberoBench("libero_spatial", "full")}, True),
        ({"bench": KitchenBench(), "tasks": (2, 3)}, True),
        ({"checkpoint_config": {"use_proprio": False}}, True),
        ({"arms": {"off": KNOBS}, "tasks": (2,), "episodes": 50}, False),
    ],
)
def test_what_an_arm_of_a_cell_depends_on(changed: dict[str, Any], again: bool) -> None:  # noqa: FBT001 -- a parameter
    """How it is played, weights and its own settings; not which other arms are, nor how many more episodes."""
    (first, *_), (other, *_) = plan().cells(), plan(**changed).cells()
    one = arm_origin(first.origin("a"), KNOBS)

    assert one == arm_origin(first.origin("a"), replace(KNOBS))
    assert one != arm_origin(first.origin("b"), KNOBS)
    assert one != arm_origin(first.origin("a"), replace(KNOBS, drift_budget=0.5))
    assert (one != arm_origin(other.origin("a"), KNOBS)) == again


def test_a_moving_background_has_cells_and_files_of_its_own() -> None:
    """Apart from the still one's, by name and by what results depend on."""
    still, moving = (plan(bench=KitchenBench(distractor=moves)) for moves in (False, True))
    (one, *_), (other, *_) = still.cells(), moving.cells()

    assert (still.name, moving.name) == ("policy-jaco2-every-4", "policy-jaco2-moving-every-4")
    assert one.name != other.name
    assert one.origin("a") != other.origin("a")


@pytest.fixture(scope="module", params=["oft", "pi0"])
def model(request: pytest.FixtureRequest, oft_folder: Path) -> PolicyModel:
    """A micro policy whose one pass says the action itself, and one with an expert."""
    folder = oft_folder if request.param == "oft" else GOLDENS / "pi0" / "pi0-micro"
    return load_policy(folder, dtype=torch.float32, device=torch.device("cpu"))


def test_methods_that_prune_are_played_where_they_are_served(model: PolicyModel) -> None:
    """Where the decoder says the action, with settings of their own; not beside an expert."""
    knobs = replace(KNOBS, fastv=FastVSettings(1), sparsevlm=SparseVLMSettings([0]))
    arms = method_arms(knobs, model, NONE, 64, masks=False)

    assert {*PRUNING_MODES} & arms.keys() == (set() if model.has_expert else {*PRUNING_MODES})
    assert all(arms[mode].mode == mode for mode in PRUNING_MODES if mode in arms)
    assert {"off", "static-only", "13 tokens"} < arms.keys()


def test_a_method_without_a_deeper_layer_is_left_out(oft_folder: Path) -> None:
    """And no other with it."""
    model = load_policy(oft_folder, dtype=torch.float32, device=torch.device("cpu"))
    knobs = replace(KNOBS, fastv=FastVSettings(200), sparsevlm=SparseVLMSettings([0]))
    arms = method_arms(knobs, model, NONE, 64, masks=False)

    assert {*PRUNING_MODES} & arms.keys() == {"sparsevlm", "tome"}


def test_masks_say_what_matters_where_there_are_some(model: PolicyModel) -> None:
    """As the arm with relevance, but for whose that is; no other arm is sent them."""
    arms = method_arms(KNOBS, model, NONE, 64, masks=True)
    masked, attended = arms["static + masks"], arms["static + relevance"]

    assert replace(masked, paper=replace(masked.paper, relevance="text")) == attended
    assert [name for name, arm in arms.items() if asks_masks(arm)] == ["static + masks"]
    assert "static + masks" not in method_arms(KNOBS, model, NONE, 64, masks=False)
    assert asks_masks(replace(KNOBS, adaptive=replace(KNOBS.adaptive, relevance="masks")))


def test_a_checkpoint_with_a_selector_has_an_arm_for_it(model: PolicyModel, tmp_path: Path) -> None:
    """As `adaptive`, but for which tokens: those that its file says."""
    file = tmp_path / SELECTOR_NAME
    assert SELECTED not in method_arms(KNOBS, model, tmp_path, 64, masks=False)
    file.touch()
    arms = method_arms(KNOBS, model, tmp_path, 64, masks=False)

    assert arms[SELECTED].adaptive.selector == file
    assert replace(arms[SELECTED], adaptive=KNOBS.adaptive) == arms["adaptive"]


def test_counts_are_shares_of_a_camera(model: PolicyModel) -> None:
    """The published 50, 100 and 200 of 256; each with and without relevance, which leaves out the most attended."""
    arms = method_arms(KNOBS, model, NONE, 64, masks=False)
    counts = {name: arm.adaptive for name, arm in arms.items() if is_count(name)}

    assert [*counts] == [f"{count} tokens{words}" for count in (13, 26, 51) for words in ("", " + relevance")]
    assert [(one.top_k, one.task_top_k) for one in counts.values()] == [
        (count, kept) for count in (13, 26, 51) for kept in (0, 10)
    ]


def test_arms_by_name(model: PolicyModel) -> None:
    """All, or those that are named and `off`; a name that is none is refused with those that are."""
    arms = method_arms(KNOBS, model, NONE, 64, masks=False)

    assert plan(arms=arms).to_play == tuple(arms)
    assert plan(arms=arms, wanted=("paper",)).to_play == ("off", "paper")
    with pytest.raises(ConfigError, match="--arm papier: expected one of off, static-only"):
        plan(arms=arms, wanted=("papier",))

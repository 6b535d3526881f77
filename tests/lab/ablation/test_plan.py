from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings
from stillframe_lab.ablation.plan import (
    ADAPTIVE,
    ADAPTIVE_BLIND,
    ARMS,
    COUNTS,
    MASKED,
    OFF,
    PAPER_MASKED,
    RELEVANT_TOKENS,
    SELECTED,
    SELECTOR_NAME,
    AblationPlan,
    arms,
    forced_counts,
    masked_arms,
    origin_of,
)

KNOBS = ReuseSettings(adaptive=AdaptiveSettings(top_k=77, distance=0.3), paper=PaperSettings(top_k=55, k=2.0))


@pytest.fixture
def plan(tmp_path: Path) -> AblationPlan:
    """Two checkpoints that are nothing but digests."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "model.safetensors").write_text(name)
    return AblationPlan(KNOBS, tmp_path / "one", tmp_path / "two", episodes=100)


def test_the_arms_add_one_thing_each() -> None:
    """Off, similarity, relevance, the published schedule; then ours, with and without the slack's dense pass."""
    by_name = arms(KNOBS)

    assert [reuse.mode for reuse in by_name.values()] == [
        "off",
        "static-only",
        "paper",
        "paper",
        "adaptive",
        "adaptive",
    ]
    assert by_name["static + relevance"].paper == replace(KNOBS.paper, k=None)
    assert by_name["paper"].paper == by_name["static-only"].paper == KNOBS.paper
    assert by_name[ADAPTIVE].adaptive == KNOBS.adaptive
    assert by_name[ADAPTIVE_BLIND] == replace(by_name[ADAPTIVE], slack=False)
    assert {reuse.gap_s for reuse in by_name.values()} == {3600.0}


def test_a_checkpoint_with_a_selector_has_an_arm_more(plan: AblationPlan) -> None:
    """Under every condition that it is played in, as configured but for the selector; others have none."""
    file = plan.checkpoint / SELECTOR_NAME
    file.write_text("one")
    more = [cell for cell in plan.cells() if cell.arm == SELECTED]

    assert {cell.condition.name for cell in more} == {"clean", "noise", "JPEG", "distractor"}
    for cell in more:
        assert cell.reuse == replace(arms(KNOBS)[ADAPTIVE], adaptive=replace(KNOBS.adaptive, selector=file))


def test_masks_take_the_place_of_attention() -> None:
    """In ours and in the published method, and nothing else is turned."""
    own, masked = arms(KNOBS), masked_arms(KNOBS)
    ours, paper = masked[MASKED], masked[PAPER_MASKED]

    assert replace(ours, adaptive=replace(ours.adaptive, relevance="text")) == own[ADAPTIVE]
    assert replace(paper, paper=replace(paper.paper, relevance="text")) == own["paper"]
    assert (ours.adaptive.relevance, paper.paper.relevance) == ("masks", "masks")


def test_forced_counts_let_nothing_else_decide() -> None:
    """So many tokens, whatever they look like and however old; the one other thing that is turned is relevance."""
    counts = forced_counts(KNOBS)

    assert len(counts) == 2 * len(COUNTS)
    assert {reuse.adaptive.top_k for reuse in counts.values()} == set(COUNTS)
    assert {reuse.adaptive.task_top_k for reuse in counts.values()} == {0, RELEVANT_TOKENS}
    for reuse in counts.values():
        knobs = reuse.adaptive
        assert (reuse.mode, reuse.slack, knobs.scene_cut, knobs.schedule) == ("adaptive", False, 0.0, [])
        assert (knobs.distance, knobs.age_limit, knobs.keyframe_every) == (2.0, 10_000, 10_000)


def test_every_arm_is_played_under_every_condition_on_the_same_seeds(plan: AblationPlan) -> None:
    """Five conditions by six arms, at least 100 episodes each, half of each task; then the counts."""
    cells = [*plan.cells()]
    by_arms = [cell for cell in cells if cell.arm in ARMS]

    assert len(by_arms) == 5 * len(ARMS)
    assert len({cell.name for cell in cells}) == len(cells) == 32 + 2 * len(COUNTS)
    assert {(cell.episodes, cell.seed, cell.hz) for cell in by_arms} == {(50, 1000, 10)}
    assert {cell.condition.name for cell in cells if cell.arm not in ARMS} == {"clean"}
    assert cells[0].condition.cameras == ("front", "wrist")  # the longest first
    assert all(cell.condition.checkpoint == plan.checkpoint for cell in cells if cell.condition.cameras == ("front",))


def test_a_condition_without_its_checkpoint_is_left_out(plan: AblationPlan, tmp_path: Path) -> None:
    """The others are played."""
    alone = replace(plan, wrist=tmp_path / "none")

    assert [condition.name for condition in alone.conditions()] == ["clean", "noise", "JPEG", "distractor"]


def test_files_are_called_as_their_cells(plan: AblationPlan) -> None:
    """No spaces, no signs that a shell would mind."""
    names = {cell.name for cell in plan.cells()}

    assert "adaptive-without-slack--front-and-wrist" in names
    assert "150-tokens-and-relevance--clean" in names
    assert not any(set(name) & set(" +/*") for name in names)


def test_a_result_depends_on_all_that_made_it(plan: AblationPlan) -> None:
    """Another knob, seed, condition or tensor is another origin; JSON leaves it as it is."""
    cell = next(cell for cell in plan.cells() if cell.arm == OFF)
    weights = {cell.condition.checkpoint: "a"}
    origin = origin_of(cell, weights)
    others = [
        origin_of(replace(cell, seed=1001), weights),
        origin_of(replace(cell, episodes=3), weights),
        origin_of(replace(cell, condition=replace(cell.condition, noise_sigma=1.0)), weights),
        origin_of(replace(cell, reuse=replace(cell.reuse, drift_budget=0.1)), weights),
        origin_of(cell, {cell.condition.checkpoint: "b"}),
    ]

    assert json.loads(json.dumps(origin)) == origin
    assert all(other != origin for other in others)
    assert asdict(cell.reuse).keys() == origin["reuse"].keys()

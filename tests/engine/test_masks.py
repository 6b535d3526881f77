"""Plans that go by masks of the client's: what they touch is computed, and attention is not asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stillframe.engine.local import LocalPolicy
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings

Make = Callable[..., Any]
PATCHES, SIDE_PX, PATCH_PX = 16, 16, 4
LOOSE = {"distance": 2.0, "keyframe_every": 100, "scene_cut": 0.0, "top_k": 4096}


def mask(*patches: int, scale: int = 1) -> np.ndarray:
    """One pixel of each patch, in a picture `scale` times as large as the model sees it."""
    made = np.zeros((SIDE_PX * scale, SIDE_PX * scale), np.bool_)
    for patch in patches:
        row, column = divmod(patch, SIDE_PX // PATCH_PX)
        made[(row * PATCH_PX + 1) * scale, (column * PATCH_PX + 2) * scale] = True
    return made


@pytest.fixture
def by_masks(toy: Make) -> Make:
    """A policy whose plans go by masks: `by_masks("paper", k=None)`."""

    def make(mode: str = "adaptive", cameras: tuple[str, ...] = ("front",), **own: Any) -> LocalPolicy:
        adaptive = AdaptiveSettings(**{"relevance": "masks", **LOOSE, **(own if mode == "adaptive" else {})})
        paper = {"relevance": "masks", "top_k": 4096, "tau": -1.0, **(own if mode == "paper" else {})}
        settings = ReuseSettings(mode, adaptive=adaptive, paper=PaperSettings(**paper), gap_s=3600)
        return LocalPolicy(toy(cameras), settings)

    return make


def see(policy: LocalPolicy, picture: Any, masks: dict[str, Any] | None) -> Any:
    """Answer a frame; its plan."""
    pictures = picture if isinstance(picture, dict) else {"front": picture}
    policy({"images": pictures, "instruction": "reach", "masks": masks})
    return policy.plan


def reused(plan: Any) -> set[int]:
    """Patches."""
    return set(plan.reused_patches.tolist())


@pytest.mark.parametrize("mode", ["adaptive", "paper"])
def test_what_a_mask_touches_is_computed(by_masks: Make, picture: Make, mode: str) -> None:
    """Of the frame itself, not of the one before; whatever task_top_k says; all else is reused."""
    policy = by_masks(mode, task_top_k=9, **({"k": None} if mode == "paper" else {}))
    see(policy, picture(0), {"front": mask(1)})
    for touched in ({2, 7}, {15}, set()):
        plan = see(policy, picture(0), {"front": mask(*touched)})
        assert set(plan.relevant.nonzero()[:, 0].tolist()) == touched
        assert reused(plan) == {*range(PATCHES)} - touched
    assert policy.last.report.cache.relevant_tokens == 0


def test_masks_are_as_large_as_pictures_not_as_views(by_masks: Make, picture: Make) -> None:
    """The model sees a smaller picture."""
    policy, large = by_masks(), np.kron(picture(0), np.ones((3, 3, 1), np.uint8))
    see(policy, large, None)

    assert reused(see(policy, large, {"front": mask(5, 6, scale=3)})) == {*range(PATCHES)} - {5, 6}


def test_without_a_mask_everything_matters(by_masks: Make, picture: Make) -> None:
    """Of one camera, or of all: it is not known what does not."""
    one, two = by_masks(), by_masks(cameras=("front", "wrist"))
    both = {"front": picture(0), "wrist": picture(1)}
    see(one, picture(0), None)
    see(two, both, None)

    assert reused(see(one, picture(0), None)) == set()
    assert reused(see(two, both, {"wrist": mask(3)})) == {PATCHES + patch for patch in range(PATCHES)} - {PATCHES + 3}


def test_no_attention_is_looked_at(by_masks: Make, picture: Make) -> None:
    """Nothing is probed, but where the published schedule asks for entropies: then it is as with attention."""
    ours, published = by_masks(), by_masks("paper", k=100.0)
    counts = []
    for policy in (ours, published):
        see(policy, picture(0), {"front": mask(0)})
        session = policy.batch.core.cache.sessions.known("local-0")
        assert session is not None
        counts.append(session.pending is not None and session.pending.probe is not None)
    plan = see(published, picture(0), {"front": mask(0)})

    assert counts == [False, True]
    assert plan.counts[0] < plan.counts[-1] == PATCHES - 1 + 1  # BOS is reused as well


def test_careful_plans_give_up_what_lies_near(by_masks: Make, picture: Make) -> None:
    """The nearer to what is masked the sooner, whether it moved or not."""
    policy = by_masks()
    see(policy, picture(0), {"front": mask(0)})
    session = policy.batch.core.cache.sessions.known("local-0")
    assert session is not None
    session.caution.level = 0.5

    left = reused(see(policy, picture(0), {"front": mask(0)}))
    assert len(left) == PATCHES // 2 - 1
    assert left.isdisjoint({1, 4, 5})
    assert {15, 11, 7, 3, 12, 13, 14} >= left


def test_masks_of_other_modes_are_not_read(toy: Make, picture: Make) -> None:
    """By attention a mask changes no plan."""
    plans = []
    for masks in (None, {"front": mask(3)}):
        policy = LocalPolicy(toy(), ReuseSettings("adaptive", adaptive=AdaptiveSettings(task_top_k=4, **LOOSE)))
        see(policy, picture(0), masks)
        plans.append(reused(see(policy, picture(0), masks)))

    assert plans[0] == plans[1]

"""A selector that a deployment names, through the whole walk: what it lets plans reuse, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stillframe.engine.core import EngineCore
from stillframe.engine.selector import form_of
from stillframe.errors import ConfigError
from stillframe.reuse.selector import PatchSelector
from stillframe.reuse.selector_file import save_selector
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.testing import ManualClock

Make = Callable[..., Any]
PATCHES = 16  # of one camera of the toy
MOVED, UNMOVED = [3, 7], 0.0069  # patches; what the selector below expects of one that did not
STILL = [patch for patch in range(PATCHES) if patch not in MOVED]
OWN = AdaptiveSettings(relevance_layers=[1, 2])


@pytest.fixture
def file(tmp_path: Path, toy: Make) -> Path:
    """A selector to which a token that moved adds more, and nothing else counts."""
    made = PatchSelector(form_of(toy(), OWN))
    for weight in made.parameters():
        weight.data.zero_()
    made.inward.weight.data[0, 0] = made.across.weight.data[0, 0] = made.outward.weight.data[0, 0] = 1.0
    made.centre[0], made.outward.bias.data[0] = -7.0, -5.0  # one that did adds 2.6
    file = tmp_path / "selector.safetensors"
    save_selector(file, made)
    return file


def knobs(file: Path, **own: Any) -> dict[str, Any]:
    """Settings of mode adaptive that name it, and keep away what else would make a keyframe."""
    return {"selector": file, "relevance_layers": [1, 2], "scene_cut": 0.0, "keyframe_every": 100, **own}


def reused(bench: Any) -> list[int]:
    """Patches that the last frame's plan reuses."""
    return sorted(bench.plan.reused_patches.tolist())


@pytest.mark.parametrize(("allowed", "expected"), [(0.0, []), (1.0, STILL), (64.0, [*range(PATCHES)])])
def test_what_moved_least_is_reused_within_the_allowed_drift(
    robots: Make, picture: Make, changed: Make, file: Path, allowed: float, expected: list[int]
) -> None:
    """None for nothing, all tokens where much is allowed; between, those that did not move."""
    bench = robots("adaptive", **knobs(file, selector_drift=allowed))
    bench.see(picture(0))
    bench.see(changed(picture(0), *MOVED))

    assert reused(bench) == expected


def test_drift_over_budget_makes_its_plans_careful(robots: Make, picture: Make, file: Path) -> None:
    """As it does others: what a plan may drift falls with caution."""
    bench = robots("adaptive", **knobs(file, drift_budget=2.0))
    counts = []
    bench.see(picture(0))
    for level in (0.0, 0.97):
        bench.session("a").caution.level = level
        bench.see(picture(0))
        counts.append(len(reused(bench)))

    assert counts == [PATCHES, int(0.03 * 2.0 / UNMOVED)]


@pytest.mark.parametrize(
    ("own", "cameras", "said"),
    [
        ({"relevance_layers": [0]}, ("front",), "relevance_layers (1, 2), and here it is (0,): set it as it was"),
        ({}, ("front", "wrist"), "the cameras ('front',), and here it is ('front', 'wrist'): train one"),
        ({"criterion": "pixels"}, ("front",), "reuse.adaptive.criterion is 'pixels', and reuse.adaptive.selector"),
    ],
)
def test_one_that_does_not_fit_is_refused_at_the_start(
    toy: Make, file: Path, own: dict[str, Any], cameras: tuple[str, ...], said: str
) -> None:
    """With the reason, whatever mode is the deployment's own: a session may ask for adaptive."""
    settings = ReuseSettings("off", adaptive=replace(OWN, selector=file, **own))

    with pytest.raises(ConfigError, match=re.escape(said)):
        EngineCore.of(toy(cameras), settings, ManualClock(0.0))

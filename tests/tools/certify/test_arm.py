"""Arms: what each is allowed and promises, and that a warm-up leaves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stillframe.daemon.config import DaemonConfig, load_config
from stillframe.engine.settings import DecodingSettings
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe.testing import policy_info
from stillframe.tools.certify.arm import Arm
from stillframe.tools.certify.arms import AGAIN, PLAIN, ArmSpec, Promise, arm_specs
from stillframe.tools.certify.ticks import scene_ticks
from stillframe.tools.replay.player import PlayerSettings

INVARIANT = replace(policy_info(), batch_invariant=True, device="cpu")
VARIANT = replace(INVARIANT, batch_invariant=False)
ON_GPU = replace(VARIANT, device="cuda")


def deployed(**sections: Any) -> DaemonConfig:
    """A deployment of a checkpoint that is not opened."""
    return load_config(None, {"checkpoint": "checkpoints/none"}).model_copy(update=sections)


def specs(deployment: DaemonConfig, info: Any = INVARIANT, **asked: Any) -> dict[str, ArmSpec]:
    """By name."""
    return {spec.name: spec for spec in arm_specs(deployment, info, asked.get("robots", 4), asked.get("weights", []))}


def test_the_plain_arm_has_nothing_of_its_deployment_that_saves_time() -> None:
    """No guesses, no reuse, no graphs, no quantised weights, no picture taken over, one frame a pass."""
    reuse = ReuseSettings(mode="adaptive", kv_budget_mib=512)
    plain = specs(deployed(weights="int8", reuse=reuse, decoding=DecodingSettings("relaxed", execute=3)))[PLAIN]

    assert (plain.decoding, plain.reuse.mode) == (DecodingSettings("off", execute=3), "off")
    assert (plain.robots, plain.graphs, plain.weights, plain.keeps_vision) == (1, False, "as-is", False)
    assert plain.reuse.kv_budget_mib is None  # room for its own session, not for a deployment's


def test_every_other_arm_differs_in_one_thing() -> None:
    """So that a difference has one cause; all but the repetition may take over a picture that is the same."""
    found = specs(deployed(), robots=3, weights=["int8"])
    about = {"name", "about", "promise", "keeps_vision"}
    differ = {
        name: {field for field in vars(spec) if getattr(spec, field) != getattr(found[PLAIN], field)} - about
        for name, spec in found.items()
        if name != "as served"
    }

    assert differ == {
        PLAIN: set(),
        AGAIN: set(),
        "drafts exact": {"decoding"},
        "drafts strict": {"decoding"},
        "reuse exact": {"reuse"},
        "reuse adaptive": {"reuse"},
        "batched": {"robots"},
        "graphs": {"graphs"},
        "weights int8": {"weights"},
    }


@pytest.mark.parametrize(
    ("info", "promises"),
    [
        (INVARIANT, {AGAIN: "equal", "drafts exact": "as reported", "drafts strict": "equal", "reuse exact": "equal"}),
        (VARIANT, {AGAIN: "equal", "drafts strict": "equal", "reuse exact": "rounding", "batched": "as reported"}),
        (ON_GPU, {AGAIN: "rounding", "drafts strict": "equal", "reuse exact": "rounding", "graphs": "rounding"}),
    ],
    ids=["batch invariant", "not", "GPU"],
)
def test_promises_are_those_of_the_machine(info: Any, promises: dict[str, Promise]) -> None:
    """As docs/exactness.md has them."""
    found = specs(deployed(), info, weights=["int8"])

    assert {name: found[name].promise for name in promises} == promises
    assert found["reuse adaptive"].promise == found["weights int8"].promise == "none"


@pytest.mark.parametrize(
    ("sections", "info", "promise"),
    [
        ({}, INVARIANT, "as reported"),
        ({"reuse": ReuseSettings(mode="exact")}, INVARIANT, "as reported"),
        ({"reuse": ReuseSettings(mode="exact")}, VARIANT, "rounding"),
        ({}, VARIANT, "as reported"),
        ({}, ON_GPU, "rounding"),
        ({"reuse": ReuseSettings(mode="adaptive")}, INVARIANT, "none"),
        ({"reuse": ReuseSettings(mode="paper")}, INVARIANT, "none"),
        ({"decoding": DecodingSettings("relaxed")}, INVARIANT, "none"),
        ({"weights": "int8"}, INVARIANT, "none"),
    ],
)
def test_what_is_served_promises_what_its_parts_do(sections: dict[str, Any], info: Any, promise: Promise) -> None:
    """The weakest of them; with all of the deployment's settings."""
    deployment = deployed(**sections)
    served = specs(deployment, info)["as served"]

    assert served.promise == promise
    assert (served.decoding, served.weights) == (deployment.decoding, deployment.weights)
    assert served.reuse.mode == deployment.reuse.mode
    assert served.graphs == (info is ON_GPU)


def test_a_warm_up_leaves_nothing(tiny_model: PolicyModel) -> None:
    """No session, no slot held, and the first tick a keyframe; of a batch, of all its sessions."""
    spec = replace(specs(deployed())["reuse adaptive"], robots=3)
    arm, ticks = Arm(spec, tiny_model, deployed()), scene_ticks(tiny_model.info, PlayerSettings(), 3, 0)
    arm.warm_up(ticks)
    cache = arm.core.cache

    assert (len(cache.sessions), cache.slots.in_use_bytes) == (0, 0)
    assert arm.answer(ticks, 0).step.report.cache.frame == "keyframe"

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stillframe.errors import Unprocessable
from stillframe.local import LocalPolicy

if TYPE_CHECKING:
    from stillframe.models.base import PolicyModel


@pytest.fixture(scope="module")
def policy(golden_model: PolicyModel) -> LocalPolicy:
    """The micro OpenVLA as a function."""
    return LocalPolicy(golden_model)


@pytest.mark.parametrize("camera", ["front", "image"])
def test_the_answer_is_the_references(policy: LocalPolicy, goldens: Mapping[str, Any], camera: str) -> None:
    """One action [7] in float64, equal to the bit, whatever the one camera is called and whatever came before."""
    for golden in goldens.values():
        action = policy({"images": {camera: golden.picture}, "instruction": golden.instruction})

        assert action.dtype == np.float64
        assert np.array_equal(action, golden.action)


def test_what_the_checkpoint_cannot_serve_is_refused(policy: LocalPolicy, goldens: Mapping[str, Any]) -> None:
    """As the daemon refuses it: two pictures for a policy of one camera."""
    picture = goldens["f0"].picture

    with pytest.raises(Unprocessable, match="exactly one picture"):
        policy({"images": {"front": picture, "wrist": picture}, "instruction": "wait"})

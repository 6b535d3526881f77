"""Our own client holds a real daemon's answers to what it named and to whose they are: the right ones all pass.

Knows the client and the goldens' checkpoint; nothing of the daemon's inside.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from stillframe_client import PolicyClient, PolicyStream, StaleAnswer
from stillframe_client.action_spec import action_spec_of

WAIT_S = 60.0


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_answers_are_what_was_named(golden_url: str, goldens: Mapping[str, Any], encoding: str) -> None:
    """Over HTTP and over a stream: as many numbers as named, by the statistics that were asked for."""
    golden = goldens["f0"]
    with PolicyClient(golden_url, timeout_s=WAIT_S) as client, PolicyStream(golden_url, timeout_s=WAIT_S) as stream:
        named = action_spec_of(client.info())
        for robot in (client, stream):
            reply = robot.act_with_report(golden.picture, golden.instruction, unnorm_key="peer_tiny", encoding=encoding)
            named.check(reply.actions)
            assert np.allclose(reply.action, golden.action, atol=1e-6)
            assert reply.unnorm_key in ((None, "peer_tiny") if encoding == "raw" else ("peer_tiny",))

    assert named.action_dim == len(golden.action)


def test_two_programs_with_one_session(golden_url: str, goldens: Mapping[str, Any]) -> None:
    """One resets it under the other: nothing of that episode is played until the other begins one of its own."""
    golden, name = goldens["f1"], uuid.uuid4().hex
    with (
        PolicyClient(golden_url, timeout_s=WAIT_S, session=name) as one,
        PolicyClient(golden_url, timeout_s=WAIT_S, session=name) as other,
    ):
        one.act(golden.picture, golden.instruction)
        assert other.reset() == 1
        with pytest.raises(StaleAnswer, match=r"call reset\(\)"):
            one.act(golden.picture, golden.instruction)
        assert one.reset() == 2
        reply = one.act_with_report(golden.picture, golden.instruction)

    assert (reply.session.epoch, reply.session.seq) == (2, 0)
    assert np.array_equal(reply.action, golden.action)

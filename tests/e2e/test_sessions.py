"""Two robots on one real daemon: what each may reuse, what each is told, and that neither sees the other's frames.

Knows the client and the goldens' checkpoint; nothing of the daemon's inside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np

from stillframe_client import PolicyClient

WAIT_S = 60.0


def test_a_still_scene_is_reused_and_answered_alike(golden_url: str, goldens: Mapping[str, Any]) -> None:
    """The first frame is whole, the same again a delta frame with the same action; a reset begins anew."""
    golden = goldens["f0"]
    with PolicyClient(golden_url, timeout_s=WAIT_S, reuse="exact") as client:
        replies = [client.act_with_report(golden.picture, golden.instruction) for _ in range(2)]
        epoch = client.reset()
        replies.append(client.act_with_report(golden.picture, golden.instruction))
    told = [(reply.cache.frame, reply.cache.reason) for reply in replies if reply.cache]

    assert all(np.array_equal(reply.action, golden.action) for reply in replies)
    assert told == [("keyframe", "first-frame"), ("delta", None), ("keyframe", "reset")]
    assert replies[1].cache.reuse_ratio > 0.9
    assert epoch == 1
    assert [(reply.session.epoch, reply.session.seq) for reply in replies] == [(0, 0), (0, 1), (1, 0)]


def test_two_robots_in_turn_are_answered_as_if_alone(golden_url: str, goldens: Mapping[str, Any]) -> None:
    """Each sees its own scene and reuses its own frames; every action is the reference's for that scene."""
    scenes = [goldens["f0"], goldens["f1"]]
    with (
        PolicyClient(golden_url, timeout_s=WAIT_S, reuse="exact") as one,
        PolicyClient(golden_url, timeout_s=WAIT_S, reuse="exact") as other,
    ):
        for turn in range(3):
            for client, scene in zip((one, other), scenes, strict=True):
                reply = client.act_with_report(scene.picture, scene.instruction)
                assert np.array_equal(reply.action, scene.action)
                assert reply.cache.frame == ("delta" if turn else "keyframe")
        assert one.session_id != other.session_id


def test_what_was_reused_is_counted(golden_url: str, goldens: Mapping[str, Any]) -> None:
    """Keyframes by reason, bytes that sessions hold within their budget."""
    with PolicyClient(golden_url, timeout_s=WAIT_S, reuse="exact") as client:
        client.act(goldens["f2"].picture, goldens["f2"].instruction)
        text = httpx.get(f"{golden_url}/metrics", timeout=WAIT_S).text
    value = {name: float(number) for name, number in re.findall(r"^(stillframe_kv_\w+) (\S+)$", text, re.MULTILINE)}

    assert re.search(r'^stillframe_keyframes_total\{reason="first-frame"\} [1-9]', text, re.MULTILINE)
    assert 0 < value["stillframe_kv_in_use_bytes"] <= value["stillframe_kv_budget_bytes"]
    assert value["stillframe_kv_sessions"] >= 1

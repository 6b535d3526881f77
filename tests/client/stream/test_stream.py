from __future__ import annotations

import numpy as np
import pytest

from stillframe_client.blocking import PolicyStream


def answers(n):
    """A script: greet, and answer n frames."""

    def script(peer):
        peer.greet()
        for _ in range(n):
            peer.act(peer.hear("frame"))
        peer.until_gone()

    return script


def test_an_episode(scripted, picture):
    """Frames are answered in order."""
    daemon = scripted(answers(3))
    with PolicyStream(daemon.url, timeout_s=5) as stream:
        got = [stream.act(picture, "reach").tolist() for _ in range(3)]

    assert got == [[float(picture.sum(dtype=int)), seq] for seq in range(3)]

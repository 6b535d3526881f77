"""Chunks of actions, played at the robot's own rate: python chunks.py [URL]."""

from __future__ import annotations

import sys

import numpy as np

from stillframe_client import ChunkPlayer, PolicyError, PolicyStream

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
picture = np.zeros((224, 224, 3), np.uint8)  # your camera's frame, RGB

with PolicyStream(url, timeout_s=10.0) as policy:
    policy.wait_ready(timeout_s=120)

    def look_and_ask():
        """Called in a thread of the player's own, before the chunk that plays runs out."""
        return policy.act_with_report(picture, "pick up the red cube")

    look_and_ask()  # warm
    # A policy of single actions is asked at every step, and has to answer within one: 1 Hz suits the slowest laptop.
    with ChunkPlayer(look_and_ask, hz=1.0, max_age_s=5.0) as player:
        try:
            for step, action in zip(range(5), player):  # paces itself
                print(step, np.round(action, 4))
        except PolicyError as fault:  # no action left, or one too old: the arm stands until player.restart()
            sys.exit(f"stopped: {fault}")

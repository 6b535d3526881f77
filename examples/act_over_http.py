"""One frame, one action, over HTTP: python act_over_http.py [URL]."""

from __future__ import annotations

import sys

import numpy as np

from stillframe_client import PolicyClient, PolicyError

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
picture = np.zeros((224, 224, 3), np.uint8)  # your camera's frame, RGB

with PolicyClient(url, timeout_s=5.0, encoding="jpeg") as policy:
    policy.wait_ready(timeout_s=120)
    info = policy.info()
    print(f"{info.name} on {info.card['device']}: {', '.join(info.action_names)}; gripper {info.gripper}")

    policy.reset()  # an episode begins: what the last one left is not reused
    for _ in range(3):
        try:
            reply = policy.act_with_report(picture, "pick up the red cube", max_age_ms=1000)
        except PolicyError as problem:  # what was wrong, and whether it may pass; the arm stays where it is
            sys.exit(f"no action: {problem}")
        how = f"{reply.cache.frame}, {reply.cache.reuse_ratio:.0%} reused"
        print(f"{np.round(reply.action, 4)}  ({how}, {list(reply.timing_ms.values())[-1]:.0f} ms)")

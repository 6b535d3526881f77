"""A control loop over one WebSocket, at 5 Hz: python stream.py [URL]."""

from __future__ import annotations

import sys
import time

import numpy as np

from stillframe_client import DeadlineExceeded, PolicyError, PolicyStream

HZ, STEPS = 5.0, 10

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
camera = np.random.default_rng(0).integers(0, 256, (STEPS, 224, 224, 3), np.uint8)  # yours
moved = 0

# A connection that breaks is connected again, the session resumed, and the frame computed once, within `timeout_s`.
with PolicyStream(url, timeout_s=5.0, encoding="jpeg") as policy:
    policy.wait_ready(timeout_s=120)
    policy.reset()
    begin_s = time.monotonic()
    for step in range(STEPS):
        time.sleep(max(0.0, begin_s + step / HZ - time.monotonic()))
        try:
            action = policy.act(camera[step], "pick up the red cube", max_age_ms=1000 / HZ * 5)
        except DeadlineExceeded:
            continue  # too old to be of use: stand still for a step
        except PolicyError as problem:
            sys.exit(f"stopped at step {step}: {problem}")
        moved += 1
        print(step, np.round(action, 4))  # to the arm: metres, radians, gripper
print(f"moved in {moved} of {STEPS} steps")

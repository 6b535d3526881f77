"""An openpi program's loop over chunks, with its import changed: python from_openpi_chunks.py [HOST] [PORT].

As openpi's LIBERO evaluation has it: a few actions of each chunk are played before the next is asked for.
"""

from __future__ import annotations

import collections
import sys

import numpy as np

# was: from openpi_client.websocket_client_policy import WebsocketClientPolicy
from stillframe_client import WebsocketClientPolicy

host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
picture = np.zeros((224, 224, 3), np.uint8)  # your camera's frame, RGB

policy = WebsocketClientPolicy(host=host, port=port)
metadata = policy.get_server_metadata()
replan_steps = metadata["replan_steps"]  # openpi's own server leaves this to you: 5 of 10 or 50
state = np.zeros(len(metadata["state"] or ()))  # the robot's, in the units of metadata["state"]

policy.reset()  # openpi's own does nothing; here the daemon begins an episode
plan = collections.deque()
for step in range(6):
    if not plan:
        seen = {"observation/image": picture, "observation/wrist_image": picture, "observation/state": state}
        chunk = policy.infer({**seen, "prompt": "pick up the red cube"})["actions"]
        plan.extend(chunk[:replan_steps])
    action = plan.popleft()  # float32, as your robot's step takes it
    print(step, action.round(4))
policy.close()

"""A program that was written for openpi, with its import changed: python from_openpi.py [HOST] [PORT]."""

from __future__ import annotations

import sys

import numpy as np

# was: from openpi_client.websocket_client_policy import WebsocketClientPolicy
from stillframe_client import WebsocketClientPolicy

host = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1"
port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
picture = np.zeros((224, 224, 3), np.uint8)  # your camera's frame, RGB

policy = WebsocketClientPolicy(host=host, port=port)
print(policy.get_server_metadata())
policy.reset()
for _ in range(3):
    answer = policy.infer({"observation/image": picture, "prompt": "pick up the red cube"})
    print(answer["actions"].shape, answer["actions"][0].round(4))
policy.close()

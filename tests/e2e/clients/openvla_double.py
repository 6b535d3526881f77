"""OpenVLA's double encoding as phosphobot posts it: httpx, HTTP/2 where the server speaks it.

Source: openvla/openvla vla-scripts/deploy.py; phospho-app/phosphobot am/act.py.
"""

import httpx
import json_numpy


class Robot:
    """One connection, kept. Anything but 200 is an error; 202 would mean "ask again"."""

    def __init__(self, url):
        self.client = httpx.Client(base_url=url, timeout=60, http2=True, headers={"Content-Type": "application/json"})

    def act(self, picture, instruction):
        """The action, out of text in a JSON string."""
        inner = json_numpy.dumps({"image": picture, "instruction": instruction})
        answer = self.client.post("/act", json={"encoded": inner})
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code} {answer.http_version} {answer.text}")
        return json_numpy.loads(answer.json())

    def spoil(self, picture, instruction):
        """A frame that no server can answer: the picture lost its colours."""
        return self.act(picture[..., :2], instruction)

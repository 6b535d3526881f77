"""OpenVLA's documented snippet: json-numpy patched in, an array each way.

Source: openvla/openvla vla-scripts/deploy.py.
"""

import json_numpy
import requests

json_numpy.patch()


class Robot:
    """Posts a frame with a connection of its own, as requests.post does."""

    def __init__(self, url):
        self.url = url + "/act"

    def act(self, picture, instruction, **more):
        """What the caller of the snippet gets."""
        return requests.post(self.url, json={"image": picture, "instruction": instruction, **more}, timeout=60).json()

    def key(self, picture, instruction, unnorm_key):
        """With the statistics named; None is null."""
        return self.act(picture, instruction, unnorm_key=unnorm_key)

    def spoil(self, picture, instruction):
        """A frame that no server can answer: the picture lost its colours."""
        return self.act(picture[..., :2], instruction)

"""OpenVLA-OFT's get_action_from_server and the observation of its evaluations: arrays in, a list of vectors out.

Source: moojink/openvla-oft experiments/robot/openvla_utils.py, robot/aloha/run_aloha_eval.py.
"""

import json_numpy
import numpy as np
import requests

json_numpy.patch()
STEPS = 8  # that an evaluation takes from one chunk, at most


class Robot:
    """The URL's port is 8777 in the wild; the path is /act."""

    def __init__(self, url):
        self.endpoint = url + "/act"

    def ask(self, observation):
        """What get_action_from_server returns."""
        return requests.post(self.endpoint, json=observation, timeout=60).json()

    def act(self, picture, instruction):
        """LIBERO's observation: one camera, one wrist, proprioception -> the actions that the robot takes."""
        wrist, state = np.zeros_like(picture), np.arange(8.0) / 8
        seen = {"full_image": picture, "wrist_image": wrist, "state": state, "instruction": instruction}
        return self.taken(self.ask(seen))

    def libero(self, picture, wrist, state, instruction):
        """The same with a wrist that sees and joints that moved -> the vectors themselves."""
        return self.ask({"full_image": picture, "wrist_image": wrist, "state": state, "instruction": instruction})

    def aloha(self, picture, left, right, instruction):
        """ALOHA's: two wrists, told apart by their order."""
        seen = {"full_image": picture, "left_wrist_image": left, "right_wrist_image": right, "state": np.zeros(14)}
        return self.taken(self.ask({**seen, "instruction": instruction}))

    def taken(self, actions):
        """The evaluations slice, then ask each action for its numbers."""
        return [action.tolist() for action in actions[:STEPS]]

    def raw(self, picture, instruction):
        """The vectors themselves."""
        return self.ask({"full_image": picture, "state": np.zeros(8), "instruction": instruction})

    def spoil(self, picture, instruction):
        """A frame that no server can answer: the picture lost its colours."""
        return self.act(picture[..., :2], instruction)

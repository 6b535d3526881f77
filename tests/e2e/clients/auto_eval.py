"""auto_eval's OpenWebClient: one session of requests, a reset before each episode.

Source: zhouzypaul/auto_eval auto_eval/robot/policy_clients.py.
"""

import json_numpy
import numpy as np
import requests

json_numpy.patch()


class Robot:
    """Takes an array or a list as the action; all else is an error."""

    def __init__(self, url):
        self.url, self.session = url, requests.Session()

    def act(self, picture, instruction):
        """With proprioception, as an environment sends it that has some."""
        frame = {"image": picture, "instruction": instruction, "proprio": np.zeros(8)}
        action = self.session.post(self.url + "/act", json=frame).json()
        if type(action) not in (np.ndarray, list):
            raise RuntimeError(f"the policy server returned an invalid action: {action}")
        return action.copy()

    def reset(self):
        """No body; 404 means that the server has none, everything else but 200 is fatal."""
        answer = self.session.post(self.url + "/reset")
        if answer.status_code not in (200, 404):
            raise RuntimeError(f"failed to reset: {answer.status_code} {answer.text}")
        return answer.status_code

    def spoil(self, picture, instruction):
        """A frame that no server can answer: the picture lost its colours."""
        return self.act(picture[..., :2], instruction)

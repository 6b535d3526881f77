"""RoboArena's client: openpi's wire with an endpoint in every message, six keys of metadata, a reset that is answered.

Its repository carries a copy of openpi-client's codec, which is taken from that package here. Source:
robo-arena/roboarena roboarena/policy_client.py, roboarena/policy_server.py, scripts/test_policy_server.py.
"""

import dataclasses

import numpy as np
import websockets.sync.client
from openpi_client import msgpack_numpy


@dataclasses.dataclass
class PolicyServerConfig:
    """What the evaluation makes of the metadata: a key too many is a TypeError."""

    image_resolution: tuple | None = (224, 224)
    needs_wrist_camera: bool = True
    n_external_cameras: int = 1
    needs_stereo_camera: bool = False
    needs_session_id: bool = False
    action_space: str = "joint_position"


class Robot:
    """One connection; sends what the metadata asks for, and nothing that it does not."""

    def __init__(self, url):
        self.packer = msgpack_numpy.Packer()
        address = url.replace("http", "ws", 1)
        self.socket = websockets.sync.client.connect(address, compression=None, max_size=None)
        self.said = msgpack_numpy.unpackb(self.socket.recv())
        self.config = PolicyServerConfig(**self.said)

    def metadata(self):
        """What the server said first."""
        return self.said

    def observation(self, picture, words, session_id):
        """As scripts/test_policy_server.py makes one."""
        cameras = range(self.config.n_external_cameras)
        seen = {f"observation/exterior_image_{index}_left": picture for index in cameras}
        if self.config.needs_wrist_camera:
            seen["observation/wrist_image_left"] = np.zeros_like(picture)
        if self.config.needs_session_id:
            seen["session_id"] = session_id
        joints = {"observation/joint_position": np.zeros(7, np.float32), "observation/cartesian_position": np.zeros(6)}
        return {**seen, **joints, "observation/gripper_position": np.zeros(1, np.float32), "prompt": words}

    def act(self, picture, words, session_id="38DSA3hd3"):
        """The reply to the endpoint infer."""
        return self.infer(self.observation(picture, words, session_id))

    def infer(self, observation):
        """Text is an error."""
        self.socket.send(self.packer.pack({**observation, "endpoint": "infer"}))
        reply = self.socket.recv()
        if isinstance(reply, str):
            raise RuntimeError(f"Error in inference server:\n{reply}")
        return msgpack_numpy.unpackb(reply)

    def reset(self, reset_info=None):
        """Whatever comes back, which the evaluation does not look at."""
        self.socket.send(self.packer.pack({**(reset_info or {}), "endpoint": "reset"}))
        return self.socket.recv()

    def spoil(self, picture, words):
        """A frame that no server can answer: the picture lost its colours."""
        return self.act(picture[..., :2], words)

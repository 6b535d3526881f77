"""openpi's own client with what its examples send: LIBERO, DROID, ALOHA, simple_client, the runtime.

Source: Physical-Intelligence/openpi packages/openpi-client, examples/libero/main.py, examples/simple_client/main.py.
"""

import numpy as np
from openpi_client import action_chunk_broker, websocket_client_policy
from openpi_client.runtime import environment, runtime
from openpi_client.runtime.agents import policy_agent


def libero(picture, words):
    """What LIBERO's evaluation sends; the wrist sees nothing here."""
    seen = {"observation/image": picture, "observation/wrist_image": np.zeros_like(picture)}
    return {**seen, "observation/state": np.arange(8.0) / 8, "prompt": words}


def droid(picture, words):
    """What DROID's sends."""
    seen = {"observation/exterior_image_1_left": picture, "observation/wrist_image_left": np.zeros_like(picture)}
    joints = {"observation/joint_position": np.arange(7.0) / 8, "observation/gripper_position": np.array([7 / 8])}
    return {**seen, **joints, "prompt": words}


def aloha(picture, words):
    """What ALOHA's sends: four cameras in a map of their own, channels first; the low one sees it upside down."""
    high, low, black = (view.transpose(2, 0, 1) for view in (picture, picture[::-1], np.zeros_like(picture)))
    images = {"cam_high": high, "cam_low": low, "cam_left_wrist": black, "cam_right_wrist": black}
    return {"state": np.ones(14), "images": images, "prompt": words}


class Robot:
    """One connection, opened when the robot is made; what follows a # in the URL is the API key."""

    def __init__(self, url):
        address, _, key = url.replace("http", "ws", 1).partition("#")
        self.policy = websocket_client_policy.WebsocketClientPolicy(address, api_key=key or None)

    def metadata(self):
        """What the server said first."""
        return self.policy.get_server_metadata()

    def act(self, picture, words, kind="libero"):
        """The whole reply."""
        return self.policy.infer({"libero": libero, "droid": droid, "aloha": aloha}[kind](picture, words))

    def libero(self, picture, wrist, state, words):
        """LIBERO's observation with a wrist that sees and a hand that moved."""
        seen = {"observation/image": picture, "observation/wrist_image": wrist, "observation/state": state}
        return self.policy.infer({**seen, "prompt": words})

    def with_keys(self, picture, words, keys):
        """LIBERO's observation and more keys, as clients of servers with sessions send them."""
        return self.policy.infer({**libero(picture, words), **keys})

    def reset(self, keys=None):
        """A frame of keys alone; openpi's own reset says nothing on the wire."""
        self.policy.reset()
        return self.policy.infer({"endpoint": "reset"} if keys is None else keys)

    def close(self):
        """Openpi's client has no word for it: it ends with its process."""
        self.policy._ws.close()

    def spoil(self, picture, words):
        """A frame that no server can answer: the picture lost its colours."""
        return self.policy.infer({"observation/image": picture[..., :2], "prompt": words})

    def episode(self, pictures, words, steps):
        """LIBERO's loop: `steps` actions of each chunk, which has to hold as many."""
        taken = []
        for picture in pictures:
            chunk = self.policy.infer(libero(picture, words))["actions"]
            assert len(chunk) >= steps, f"we want to replan every {steps} steps, but the policy predicts {len(chunk)}"
            taken.extend(chunk[:steps])
        return taken

    def timings(self, picture, words, frames):
        """simple_client's record: every value of both maps, to be averaged."""
        recorded = {}
        for _ in range(frames):
            reply = self.policy.infer(droid(picture, words))
            for kind in ("server_timing", "policy_timing"):
                for key, value in reply.get(kind, {}).items():
                    recorded.setdefault(kind + "." + key, []).append(value)
        return {key: float(np.quantile(values, 0.5)) for key, values in recorded.items()}

    def run(self, pictures, words, episodes):
        """The runtime over the chunk broker: an episode of one step for each picture, so many times."""
        world = World(pictures, words)
        agent = policy_agent.PolicyAgent(action_chunk_broker.ActionChunkBroker(self.policy, action_horizon=1))
        runtime.Runtime(world, agent, subscribers=[], num_episodes=episodes).run()
        return world.applied


class World(environment.Environment):
    """Shows one picture after the other, whatever is done."""

    def __init__(self, pictures, words):
        self.pictures, self.words, self.step, self.applied = pictures, words, 0, []

    def reset(self):
        """Begin with the first again."""
        self.step = 0

    def is_episode_complete(self):
        """After the last."""
        return self.step >= len(self.pictures)

    def get_observation(self):
        """The next."""
        return libero(self.pictures[self.step], self.words)

    def apply_action(self, action):
        """Keep what the broker made of the reply."""
        self.step += 1
        self.applied.append(action["actions"])

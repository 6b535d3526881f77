"""The main loops of openpi's examples, call by call: simple_client, libero, aloha_sim, aloha_real, droid.

What they show a policy comes from the orders: pictures as a simulator draws them, states, words. Source:
Physical-Intelligence/openpi examples/*/main.py, examples/aloha_*/env.py.
"""

import collections
import time

import numpy as np
from openpi_client import action_chunk_broker, image_tools, websocket_client_policy
from openpi_client.runtime import environment, runtime, subscriber
from openpi_client.runtime.agents import policy_agent

PX = 224
CHANCE = np.random.default_rng()


def resized(picture):
    """As every example makes a camera's picture small before it is sent."""
    return image_tools.convert_to_uint8(image_tools.resize_with_pad(picture, PX, PX))


def channels_first(picture):
    """As ALOHA's programs send it."""
    return np.transpose(resized(picture), (2, 0, 1))


def random_libero():
    """Noise under LIBERO's keys."""
    seen = {f"observation/{name}": CHANCE.integers(256, size=(PX, PX, 3), dtype=np.uint8) for name in LIBERO}
    return {"observation/state": CHANCE.random(8), **seen, "prompt": "do something"}


def random_droid():
    """Noise under DROID's keys."""
    seen = {f"observation/{name}": CHANCE.integers(256, size=(PX, PX, 3), dtype=np.uint8) for name in DROID}
    parts = {"observation/joint_position": CHANCE.random(7), "observation/gripper_position": CHANCE.random(1)}
    return {**seen, **parts, "prompt": "do something"}


def random_aloha():
    """Noise under ALOHA's keys."""
    images = {name: CHANCE.integers(256, size=(3, PX, PX), dtype=np.uint8) for name in ALOHA}
    return {"state": np.ones((14,)), "images": images, "prompt": "do something"}


LIBERO = ("image", "wrist_image")
DROID = ("exterior_image_1_left", "wrist_image_left")
ALOHA = ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")
RANDOM = {"libero": random_libero, "droid": random_droid, "aloha": random_aloha}


class Robot:
    """A program of each kind; one connection, opened when the robot is made."""

    def __init__(self, url):
        self.policy = websocket_client_policy.WebsocketClientPolicy(url.replace("http", "ws", 1))
        self.broker = None

    def simple_client(self, kind, steps):
        """Two frames to warm up, then `steps` that are timed; the table that it prints, and the last chunk's shape."""
        metadata = self.policy.get_server_metadata()
        for _ in range(2):
            self.policy.infer(RANDOM[kind]())
        timings = {}
        for _ in range(steps):
            start = time.time()
            action = self.policy.infer(RANDOM[kind]())
            timings.setdefault("client_infer_ms", []).append(1000 * (time.time() - start))
            for key, value in action.get("server_timing", {}).items():
                timings.setdefault(f"server_{key}", []).append(value)
            for key, value in action.get("policy_timing", {}).items():
                timings.setdefault(f"policy_{key}", []).append(value)
        table = {
            key: [
                float(np.mean(times)),
                float(np.std(times)),
                *(float(np.quantile(times, q)) for q in (0.25, 0.5, 0.99)),
            ]
            for key, times in timings.items()
        }
        return {
            "metadata": f"Server metadata: {metadata}",
            "frames": {key: len(times) for key, times in timings.items()},
            "table": {key: [f"{value:.1f}" for value in values] for key, values in table.items()},
            "shape": list(np.asarray(action["actions"]).shape),
            "preview": np.array2string(np.asarray(action["actions"])[:3], precision=3, suppress_small=True),
        }

    def libero(self, pictures, wrists, states, words, replan_steps):
        """The evaluation's loop: upright pictures are turned round, `replan_steps` of each chunk are played."""
        plan, played = collections.deque(), []
        for picture, wrist, state in zip(pictures, wrists, states, strict=True):
            img = resized(np.ascontiguousarray(picture[::-1, ::-1]))
            wrist_img = resized(np.ascontiguousarray(wrist[::-1, ::-1]))
            if not plan:
                element = {
                    "observation/image": img,
                    "observation/wrist_image": wrist_img,
                    "observation/state": np.concatenate((state[:3], state[3:6], state[6:])),
                    "prompt": str(words),
                }
                chunk = self.policy.infer(element)["actions"]
                assert len(chunk) >= replan_steps, (
                    f"We want {replan_steps} steps, but policy only predicts {len(chunk)}"
                )
                plan.extend(chunk[:replan_steps])
            played.append(plan.popleft().tolist())
        return played

    def aloha_sim(self, pictures, states, horizon, episodes):
        """The runtime over one camera; no words are sent."""
        shown = [
            {"state": state, "images": {"cam_high": channels_first(picture)}}
            for picture, state in zip(pictures, states, strict=True)
        ]
        return self._run(shown, horizon, episodes, max_hz=1000)

    def aloha_real(self, pictures, states, horizon, episodes):
        """The runtime over four cameras, begun where the server's metadata say; no words are sent."""
        metadata = self.policy.get_server_metadata()
        shown = [
            {"state": state, "images": {name: channels_first(picture) for name in ALOHA}}
            for picture, state in zip(pictures, states, strict=True)
        ]
        said = self._run(shown, horizon, episodes, max_hz=1000, max_episode_steps=len(shown))
        return {**said, "reset_position": metadata.get("reset_pose")}

    def droid(self, pictures, states, words, open_loop_horizon, expected_shape):
        """The robot's loop: the gripper is opened or closed, the rest clipped."""
        played, actions_from_chunk_completed, chunk = [], 0, None
        for picture, state in zip(pictures, states, strict=True):
            if actions_from_chunk_completed in (0, open_loop_horizon):
                actions_from_chunk_completed = 0
                request = {
                    "observation/exterior_image_1_left": resized(picture),
                    "observation/wrist_image_left": resized(np.zeros_like(picture)),
                    "observation/joint_position": state[:7],
                    "observation/gripper_position": state[7:],
                    "prompt": words,
                }
                chunk = self.policy.infer(request)["actions"]
                assert chunk.shape == tuple(expected_shape), chunk.shape
            action = chunk[actions_from_chunk_completed]
            actions_from_chunk_completed += 1
            grip = np.ones((1,)) if action[-1].item() > 0.5 else np.zeros((1,))
            played.append(np.clip(np.concatenate([action[:-1], grip]), -1, 1))
        return played

    def begin(self, horizon):
        """An episode of a simulator that is elsewhere: the broker forgets its chunk, as PolicyAgent has it do."""
        if self.broker is None:
            self.broker = action_chunk_broker.ActionChunkBroker(policy=self.policy, action_horizon=horizon)
        self.broker.reset()

    def act(self, pictures, state, words):
        """The action due now, of the broker; `pictures`: the front camera's, and the wrist's where there is one."""
        seen = {f"observation/{name}": resized(picture) for name, picture in zip(LIBERO, pictures, strict=False)}
        return self.broker.infer({**seen, "observation/state": state, "prompt": str(words)})["actions"]

    def _run(self, shown, horizon, episodes, **limits):
        world, saver = World(shown), Saver()
        broker = action_chunk_broker.ActionChunkBroker(policy=self.policy, action_horizon=horizon)
        agent = policy_agent.PolicyAgent(policy=broker)
        runtime.Runtime(world, agent, subscribers=[saver], num_episodes=episodes, **limits).run()
        return {"applied": world.applied, "saved": saver.saved, "resets": world.resets}


class World(environment.Environment):
    """Shows one observation after the other, whatever is done."""

    def __init__(self, shown):
        self.shown, self.at, self.applied, self.resets = shown, 0, [], 0

    def reset(self):
        """Begin with the first again."""
        self.at, self.resets = 0, self.resets + 1

    def is_episode_complete(self):
        """After the last."""
        return self.at >= len(self.shown)

    def get_observation(self):
        """The next."""
        return self.shown[self.at]

    def apply_action(self, action):
        """Keep what the broker made of the reply."""
        self.at += 1
        self.applied.append(action["actions"])


class Saver(subscriber.Subscriber):
    """Keeps a list of what it is told, as the examples' VideoSaver keeps pictures."""

    def __init__(self):
        self.saved = []

    def on_episode_start(self):
        """Begin a film."""
        self.saved.append(0)

    def on_step(self, observation, action):
        """Keep the picture, channels last again."""
        assert np.transpose(observation["images"]["cam_high"], (1, 2, 0)).shape == (PX, PX, 3)
        assert action["actions"].ndim == 1
        self.saved[-1] += 1

    def on_episode_end(self):
        """Write it."""

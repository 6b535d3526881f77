"""The main loops of openpi's examples, over its own client, before tiny pi0 and pi0.5: LIBERO, ALOHA, DROID.

Each family and robot is a daemon of its own: every day pi0 for LIBERO and pi0.5 for ALOHA.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

MICRO = Path(__file__).parents[1] / "goldens" / "pi0"
CLIENT = "openpi-client-0.1.2"
LAST = "action_out_proj.weight"
STEPS = 12  # of an episode
WORDS = "put the spoon on the towel"
SPREAD, NEAR = 0.01, 0.2  # of actions, so that they show what is added to them; of all that a network makes of it
GRIPPERS = [6, 13]  # of ALOHA
JOINTS = [at for at in range(14) if at not in GRIPPERS]
OPEN = 0.553  # what ALOHA's gripper is told by a 0 of openpi's: (0 + 0.5476 + 0.6213) / (1.4910 + 0.6213)
RESET_POSE = [0, -1.5, 1.5, 0, 0, 0]
# The robots that openpi trains for: assets, numbers of a state and of an action, actions in a chunk, what the daemon's
# configuration says for it.
ROBOTS: dict[str, tuple[str, int, int, int, dict[str, Any]]] = {
    "libero": ("physical-intelligence/libero", 8, 7, 10, {}),
    "droid": ("droid", 8, 8, 10, {}),
    "aloha": (
        "trossen",
        14,
        14,
        50,
        {"openpi_metadata": {"reset_pose": RESET_POSE}, "default_instruction": "uncap it"},
    ),
    "aloha_sim": ("lerobot/aloha_sim_transfer_cube_human", 14, 14, 50, {"default_instruction": "Transfer cube"}),
}
Serve = Callable[[str, str], str]


def checkpoint(folder: Path, family: str, robot: str) -> Path:
    """The micro checkpoint of a family, called after a robot, with statistics of its numbers.

    Its random weights have little to say: most of each action is the noise that it begins as, within the statistics.
    """
    asset, states, actions, horizon, _ = ROBOTS[robot]
    shutil.copytree(MICRO / f"{family}-micro", folder)
    shutil.rmtree(folder / "assets")
    rng = np.random.default_rng(5)
    stats = {"state": ranges(states, 0.5, rng), "actions": ranges(actions, SPREAD, rng)}
    (folder / "assets" / asset).mkdir(parents=True)
    (folder / "assets" / asset / "norm_stats.json").write_text(json.dumps({"norm_stats": stats}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "action_horizon": horizon}))
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, LAST: tensors[LAST] * 0.1}, folder / "model.safetensors")
    return folder


def ranges(size: int, width: float, rng: np.random.Generator) -> dict[str, list[float]]:
    """Statistics of so many numbers about 0; the network's other 32 are padding."""
    spread = rng.uniform(0.5, 1.5, size) * width
    drawn = {"mean": 0 * spread, "std": spread, "q01": -2 * spread, "q99": 2 * spread}
    return {name: numbers.tolist() for name, numbers in drawn.items()}


@pytest.fixture(scope="module")
def serve(serving: Any, tmp_path_factory: pytest.TempPathFactory, new_port: Callable[[], int]) -> Iterator[Serve]:
    """A daemon for a family and a robot, as openpi's server is started for one; each is started once."""
    urls: dict[tuple[str, str], str] = {}
    with ExitStack() as daemons:

        def started(family: str, robot: str) -> str:
            if (family, robot) not in urls:
                folder = tmp_path_factory.mktemp("openpi")
                asked = {
                    "checkpoint": str(checkpoint(folder / "weights", family, robot)),
                    "device": "cpu",
                    "threads": 1,
                }
                file = folder / "daemon.yaml"
                file.write_text(yaml.safe_dump({**asked, "dtype": "float32", **ROBOTS[robot][4]}))
                urls[family, robot] = daemons.enter_context(serving([str(file)], new_port()))
            return urls[family, robot]

        yield started


@pytest.fixture(scope="module")
def pictures() -> list[Any]:
    """What a camera sees in an episode, [256, 256, 3]: coarse noise, no picture like another."""
    blocks = np.random.default_rng(7).integers(0, 256, (STEPS, 8, 8, 3), np.uint8)
    return list(blocks.repeat(32, 1).repeat(32, 2))


def states(size: int) -> list[Any]:
    """What the robot says of itself in an episode."""
    rng = np.random.default_rng(9)
    return list(rng.uniform(0.3, 0.9, (STEPS, size)) * rng.choice([-1, 1], (STEPS, size)))


@pytest.mark.parametrize(
    ("family", "robot"),
    [
        ("pi0", "libero"),
        ("pi05", "aloha"),
        pytest.param("pi05", "libero", marks=pytest.mark.slow),
        pytest.param("pi05", "droid", marks=pytest.mark.slow),
    ],
)
def test_simple_client(serve: Serve, connect: Callable[..., Any], family: str, robot: str) -> None:
    """Every timing is a number of every frame, so that its table can be drawn; a chunk is one that it can print."""
    said = connect(CLIENT, "openpi_examples", serve(family, robot))("arm", "simple_client", robot, 4)

    assert said["frames"] == dict.fromkeys(
        ["client_infer_ms", "server_infer_ms", "server_prev_total_ms", "policy_infer_ms"], 4
    )
    assert all(float(value) >= 0 for values in said["table"].values() for value in values)
    assert said["shape"] == [ROBOTS[robot][3], ROBOTS[robot][2]]
    assert said["metadata"].startswith("Server metadata: {'server': 'stillframe'")


@pytest.mark.parametrize("family", ["pi0", pytest.param("pi05", marks=pytest.mark.slow)])
def test_libero(serve: Serve, connect: Callable[..., Any], pictures: list[Any], family: str) -> None:
    """It plays five actions of each chunk; pi0's begin where the state is that went with it, pi0.5's do not."""
    url, seen = serve(family, "libero"), states(8)
    before = answers(url)
    played = connect(CLIENT, "openpi_examples", url)("arm", "libero", pictures, pictures[::-1], seen, WORDS, 5)
    asked = [seen[at // 5 * 5][:6] for at in range(STEPS)]

    assert np.shape(played) == (STEPS, 7)
    assert answers(url) - before == 3
    assert near(np.array(played)[:, :6], asked if family == "pi0" else 0)
    assert near(np.array(played)[:, 6], 0)


@pytest.mark.slow
def test_aloha_sim(serve: Serve, connect: Callable[..., Any], pictures: list[Any]) -> None:
    """Two episodes through the runtime, with one camera and no words; the broker asks once in ten steps."""
    url = serve("pi0", "aloha_sim")
    before = answers(url)
    said = connect(CLIENT, "openpi_examples", url)("arm", "aloha_sim", pictures, states(14), 10, 2)

    assert np.shape(said["applied"]) == (2 * STEPS, 14)
    assert (said["saved"], said["resets"]) == ([STEPS, STEPS], 3)
    assert answers(url) - before == 4
    assert near(np.array(said["applied"])[:, JOINTS], 0)  # no differences in the simulator


def test_aloha_real(serve: Serve, connect: Callable[..., Any], pictures: list[Any]) -> None:
    """Four cameras, a pose to begin in, no words; joints begin where the state has them, through openpi's own space."""
    url, seen = serve("pi05", "aloha"), states(14)
    before = answers(url)
    said = connect(CLIENT, "openpi_examples", url)("arm", "aloha_real", pictures, seen, 25, 1)
    applied = np.array(said["applied"])

    assert said["reset_position"] == RESET_POSE
    assert applied.shape == (STEPS, 14)
    assert answers(url) - before == 1
    assert near(applied[:, JOINTS], seen[0][JOINTS])
    assert near(applied[:, GRIPPERS], OPEN)


@pytest.mark.slow
def test_droid(serve: Serve, connect: Callable[..., Any], pictures: list[Any]) -> None:
    """Eight actions of each chunk of ten, velocities of seven joints and a gripper."""
    url = serve("pi05", "droid")
    before = answers(url)
    played = connect(CLIENT, "openpi_examples", url)("arm", "droid", pictures, states(8), WORDS, 8, (10, 8))

    assert np.shape(played) == (STEPS, 8)
    assert answers(url) - before == 2
    assert near(np.array(played)[:, :7], 0)
    assert {*np.array(played)[:, 7]} <= {0.0, 1.0}


def answers(url: str) -> int:
    """Frames that the daemon has answered."""
    text = httpx.get(f"{url}/metrics", timeout=60.0).text
    return sum(
        round(float(count)) for count in re.findall(r"^stillframe_frames_total\{.*\} (\S+)$", text, re.MULTILINE)
    )


def near(actions: Any, expected: Any) -> bool:
    """Whether numbers are those that are expected, but for what a network of random weights makes of noise."""
    return float(np.abs(np.asarray(actions) - np.asarray(expected)).max()) < NEAR

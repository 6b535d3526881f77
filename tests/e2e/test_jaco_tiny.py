"""The policy that we ship: what it is, what it can do, and the demo that shows it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from stillframe.daemon.config import load_config
from stillframe.daemon.serve import open_model
from stillframe.domain import Observation
from stillframe.engine.local import LocalPolicy
from stillframe.models.base import PolicyModel
from stillframe.tools.charts import LAST_FRAME_MS
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import play
from stillframe_lab.demo.run import FILMED

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "checkpoints" / "jaco-tiny"
EPISODES = (("reach", 910_001), ("reach", 910_002), ("pick", 910_003), ("pick", 910_004))
LARGEST_BYTES = 20_000_000


@pytest.fixture(scope="module")
def model() -> PolicyModel:
    """The checkpoint, loaded as its configuration says."""
    return open_model(load_config(ROOT / "configs" / "jaco-tiny.yaml", {"checkpoint": CHECKPOINT}))


@pytest.fixture
def scene(needs_gl: None) -> Iterator[JacoEnv]:  # noqa: ARG001 -- for its skip
    """What the policy was trained to see, at the rate it was trained for."""
    env = JacoEnv(hz=10)
    yield env
    env.close()


def test_it_is_an_openvla_of_one_robot(model: PolicyModel) -> None:
    """Same family and layout as openvla-7b; one set of statistics, so that no client has to name it."""
    info = model.info

    assert (info.name, info.family, info.dtype, info.device) == ("jaco-tiny", "openvla", "float32", "cpu")
    assert info.default_unnorm_key == "jaco_sim"
    assert set(info.norm_stats) == {"jaco_sim"}
    assert len(info.action_names) == 7


def test_it_sees_one_camera_in_256_patches(model: PolicyModel) -> None:
    """As OpenVLA does: later stages reuse what these patches left behind."""
    blank = np.zeros((*model.info.image_size, 3), np.uint8)
    layout = model.prepare(Observation({"front": blank}, "pick up the red cube")).layout

    assert {camera: len(patches) for camera, patches in layout.patches.items()} == {"front": 256}
    assert layout.patch_grid == (16, 16)


def test_it_is_small_enough_to_ship() -> None:
    """Twenty megabytes at most, with a card that says how it was made."""
    files = [file for file in CHECKPOINT.rglob("*") if file.is_file()]

    assert sum(file.stat().st_size for file in files) <= LARGEST_BYTES
    assert (CHECKPOINT / "README.md") in files


def test_it_reaches_and_picks(model: PolicyModel, scene: JacoEnv) -> None:
    """Two episodes of each task on seeds of their own: at least three of four succeed, and no wrong cube is taken."""
    policy = LocalPolicy(model)
    played = [play(scene, policy, seed=seed, options={"task": task}) for task, seed in EPISODES]

    assert sum(episode.success for episode in played) >= 3
    assert not any(episode.wrong_object for episode in played)


@pytest.mark.slow
@pytest.mark.usefixtures("needs_gl")
def test_the_demo_succeeds_and_leaves_its_report(tmp_path: Path) -> None:
    """Ten episodes over HTTP, as `make demo` plays them: status 0, a table, a report, an animation, a chart."""
    command = (sys.executable, "-m", "stillframe", "demo", "--out", str(tmp_path / "run"))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    with Image.open(tmp_path / "run" / "demo.gif") as animation, Image.open(tmp_path / "run" / "latency.png") as chart:
        shown_ms = sum(frame.info["duration"] for frame in ImageSequence.Iterator(animation))
        chart_format = chart.format

    assert done.returncode == 0, done.stderr
    assert sum(episode["success"] for episode in report["episodes"]) >= 7
    assert len(report["episodes"]) == 10
    assert report["success"] in done.stdout
    assert shown_ms == sum(100 * (report["episodes"][index]["steps"] - 1) + LAST_FRAME_MS for index in FILMED)
    assert chart_format == "PNG"

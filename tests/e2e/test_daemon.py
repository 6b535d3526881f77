"""A real `stillframe serve`: its life from the first byte of its log to its exit status, and its answers meanwhile.

Knows the goldens' checkpoint; nothing of the daemon's inside.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from stillframe.daemon.logs import LEVEL_VARIABLE
from stillframe_client import PolicyClient

WAIT_S = 60.0  # bounds what has to happen; nothing is expected to take this long
BURST = 24  # frames at once: fewer than may wait


@pytest.fixture
def process(golden_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A daemon on a free port, just started, with its log on a pipe."""
    monkeypatch.delenv(LEVEL_VARIABLE, raising=False)
    command = (sys.executable, "-m", "stillframe", "serve", "--checkpoint", str(golden_folder), "--port", "0")
    options = ("--device", "cpu", "--dtype", "float32", "--threads", "1")
    started = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    yield started
    started.kill()
    started.communicate()


def log_of(process: subprocess.Popen[str]) -> IO[str]:
    """The daemon's log."""
    assert process.stderr is not None
    return process.stderr


def address(process: subprocess.Popen[str]) -> str:
    """Where the log says that the daemon listens."""
    words = json.loads(log_of(process).readline())["event"].split()
    assert words[:2] == ["listening", "on"]
    return str(words[2].rstrip(","))


def states_until_ready(client: httpx.Client) -> list[tuple[int, str]]:
    """Ask /readyz until it says 200: the status and state of each answer."""
    answers: list[tuple[int, str]] = []
    give_up_s = time.monotonic() + WAIT_S
    while time.monotonic() < give_up_s:
        answer = client.get("/readyz")
        answers.append((answer.status_code, answer.json()["state"]))
        if answer.status_code == 200:
            break
        time.sleep(0.05)
    return answers


def frame_of(golden: Any) -> dict[str, str]:
    """The body of a frame, as a program without numpy writes it: a PNG in base64."""
    png = io.BytesIO()
    Image.fromarray(golden.picture).save(png, "PNG")
    return {"image": base64.b64encode(png.getvalue()).decode(), "instruction": golden.instruction}


async def taken(client: httpx.AsyncClient) -> int:
    """How many frames the policy has been handed: answered ones and waiting ones."""
    lines = (await client.get("/metrics")).text.splitlines()
    counts = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    names = ("stillframe_queue_depth", 'stillframe_frames_total{outcome="answered"}')
    return sum(round(float(counts[name])) for name in names)


async def stop_under_fire(url: str, body: Mapping[str, str], process: subprocess.Popen[str]) -> tuple[int, list[Any]]:
    """Post a burst, stop the daemon once it has taken every frame -> how many still waited then, all answers."""
    limits = httpx.Limits(max_connections=BURST + 1)
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_S, limits=limits, trust_env=False) as client:
        asked = {**body, "max_age_ms": 1000 * WAIT_S}  # however slow the machine is
        posts = [asyncio.create_task(client.post("/act", json=asked)) for _ in range(BURST)]
        while await taken(client) < BURST:
            await asyncio.sleep(0.005)
        waiting = sum(not post.done() for post in posts)
        process.send_signal(signal.SIGTERM)
        return waiting, await asyncio.gather(*posts)


def test_a_daemons_life(process: subprocess.Popen[str], goldens: Mapping[str, Any]) -> None:
    """It listens before it has loaded, says 503 until it is warm; told to stop, it answers what it took and ends."""
    url = address(process)
    with httpx.Client(base_url=url, timeout=WAIT_S, trust_env=False) as client:
        alive = client.get("/livez").status_code
        answers = states_until_ready(client)
    waiting, replies = asyncio.run(stop_under_fire(url, frame_of(goldens["f2"]), process))
    rest = log_of(process).read()

    assert alive == 200
    assert answers[-1] == (200, "ready")
    assert all(answer in ((503, "loading"), (503, "warming")) for answer in answers[:-1])
    assert waiting > 0
    assert [reply.status_code for reply in replies] == [200] * BURST
    assert all(reply.json()["actions"] == [goldens["f2"].action.tolist()] for reply in replies)
    assert process.wait(WAIT_S) == 0
    assert {json.loads(line)["level"] for line in rest.splitlines()} == {"info"}
    assert "ready: openvla-micro after" in rest


def test_a_stop_while_it_loads_is_a_stop(process: subprocess.Popen[str]) -> None:
    """SIGTERM right after its first word: no traceback, status 0."""
    address(process)
    process.send_signal(signal.SIGTERM)

    assert process.wait(WAIT_S) == 0
    assert "Traceback" not in log_of(process).read()


@pytest.mark.parametrize("encoding", ["raw", "png"])
@pytest.mark.parametrize("frame", ["f0", "f1", "f2", "f3"])
def test_its_action_is_the_references(golden_url: str, goldens: Mapping[str, Any], frame: str, encoding: str) -> None:
    """Through HTTP and our client, in both lossless encodings and both sizes: equal to the bit."""
    golden = goldens[frame]
    with PolicyClient(golden_url, timeout_s=WAIT_S) as client:
        reply = client.act_with_report(golden.picture, golden.instruction, encoding=encoding)

    assert np.array_equal(reply.actions, golden.action[None])
    engine = ["queue", "prepare", "vision", "plan", "prefill", "decode", "keep"]
    assert list(reply.timing_ms) == ["receive", "unpack", *engine, "total"]
    assert not reply.late


def test_it_says_what_it_serves(golden_url: str) -> None:
    """The model's card comes from the checkpoint."""
    with PolicyClient(golden_url, timeout_s=WAIT_S) as client:
        info = client.info()

    assert (info.name, info.family, info.unnorm_keys) == ("openvla-micro", "openvla", ("peer_tiny",))
    assert info.card["dtype"] == "float32"


def test_robots_on_four_threads_get_their_own_actions(golden_url: str, goldens: Mapping[str, Any]) -> None:
    """Four clients at once, each with a frame of its own: every answer is that frame's."""

    def robot(golden: Any) -> list[Any]:
        with PolicyClient(golden_url, timeout_s=WAIT_S) as client:
            return [client.act(golden.picture, golden.instruction) for _ in range(5)]

    with ThreadPoolExecutor(4) as robots:
        answers = list(robots.map(robot, goldens.values()))

    for golden, actions in zip(goldens.values(), answers, strict=True):
        assert np.array_equal(actions, [golden.action] * 5)

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"PIL", "httpx", "cv2", "websockets", "msgpack", "asyncio", "torch", "mujoco", "yaml", "stillframe"}
STREAMER = ("stillframe_client.jaco2.streamer.__main__", "stillframe_client.jaco2.arms.sim")
ROOMS_OF_THE_BRIDGE = ("bridge", "cameras", "cli", "reports", "world")


@pytest.fixture(scope="module")
def imported():
    """All modules that are there once the streamer's are, with the sim arm."""
    program = f"import sys, {', '.join(STREAMER)}; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
    return set(done.stdout.split())


def test_the_streamer_imports_nothing_heavy(imported):
    """No picture, no wire of the policy, no event loop: nothing that could keep a command waiting."""
    assert not {name.partition(".")[0] for name in imported} & HEAVY


def test_the_streamer_imports_no_room_of_the_bridge(imported):
    """Of the client only its own rooms, what is pure of jaco2, and the arm that it was told."""
    ours = {name for name in imported if name.startswith("stillframe_client.")}
    rooms = {name.split(".")[2] for name in ours if name.startswith("stillframe_client.jaco2.")}
    assert not rooms & set(ROOMS_OF_THE_BRIDGE)
    assert all(name.startswith("stillframe_client.jaco2") for name in ours)
    assert {"core", "streamer", "arms", "link"} <= rooms

"""What a robot does, run in a container's network: `robot.py act URL`, `robot.py stop URL PID`. Prints JSON.

The burst that a daemon is stopped under is the one of tests/e2e/test_daemon.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np

from stillframe_client import PolicyClient

WORDS = "pick up the red cube"
PICTURE = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
WAIT_S = 60.0


def act(url: str) -> dict[str, Any]:
    """One frame: its action, and whose it is."""
    with PolicyClient(url, timeout_s=WAIT_S) as client:
        return {"action": client.act(PICTURE, WORDS).tolist(), "model": client.info().name}


async def stop(url: str, pid: int) -> dict[str, Any]:
    """Stop the process while frames wait: how many did, what each was answered, and what /readyz said until the end."""
    burst = runpy.run_path(str(Path(__file__).parents[1] / "e2e" / "test_daemon.py"))
    body = burst["frame_of"](SimpleNamespace(picture=PICTURE, instruction=WORDS))
    watching = asyncio.create_task(states(url))
    process = SimpleNamespace(send_signal=lambda number: os.kill(pid, number))
    waiting, replies = await burst["stop_under_fire"](url, body, process)
    return {"waiting": waiting, "answers": [reply.status_code for reply in replies], "states": await watching}


async def states(url: str) -> list[str]:
    """The daemon's states, one after the other, until it listens no longer."""
    seen: list[str] = []
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_S, trust_env=False) as client:
        while True:
            try:
                state = (await client.get("/readyz")).json()["state"]
            except httpx.TransportError:
                return seen
            if seen[-1:] != [state]:
                seen.append(state)
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    verb, url, *pids = sys.argv[1:]
    sys.stdout.write(json.dumps(act(url) if verb == "act" else asyncio.run(stop(url, int(pids[0])))))

"""A robot that uses all of the client, for whichever Python, numpy and websockets it is run with. Knows no test.

Prints one JSON object a line; reads a line where the test has to do something first.
"""

import asyncio
import contextlib
import io
import itertools
import json
import sys

import numpy as np
import websockets.version

from stillframe_client import (
    AsyncPolicyStream,
    ChunkPlayer,
    PolicyClient,
    PolicyStream,
    Unprocessable,
    WebsocketClientPolicy,
)
from stillframe_client.preflight.command import main as preflight

TIMEOUT_S = 30.0


def say(**members):
    """Tell the test."""
    print(json.dumps(members), flush=True)  # noqa: T201 -- what it is for


def main(url):
    """Ask for actions in every way that there is."""
    assert "torch" not in sys.modules
    picture = np.add.outer(np.arange(24), np.arange(32)).astype(np.uint8)[..., None].repeat(3, axis=2)
    say(python=sys.version_info[:2], numpy=np.__version__, websockets=websockets.version.version)
    with PolicyClient(url, timeout_s=TIMEOUT_S) as client:
        say(act=client.act(picture, "reach", state=np.arange(3, dtype=np.float32)).tolist())
    with PolicyStream(url, timeout_s=TIMEOUT_S) as stream:
        for encoding in ("raw", "png", "jpeg"):
            say(act=stream.act({"front": picture}, "reach", encoding=encoding).tolist())
        try:
            stream.act({"fornt": picture}, "reach")
        except Unprocessable as refused:
            say(code=refused.code)
        state = {"x": 0, "y": 1, "z": 2}
        say(warnings=len(stream.act_with_report(picture, "reach", state=state).warnings), state=stream.info().state)
        say(waits="cut")
        sys.stdin.readline()
        seq = stream.act_with_report(picture, "reach").session.seq
        say(seq=seq, epoch=stream.reset(), name=stream.info().name)
        with ChunkPlayer(lambda: stream.act_with_report(picture, "reach"), hz=2.0, max_age_s=TIMEOUT_S) as player:
            say(played=len(list(itertools.islice(player, 3))))
    with contextlib.redirect_stdout(io.StringIO()) as table:
        status = preflight([url, "--camera", "front=24x32", "--state", "x,y,z"])
    say(preflight=[status, *(line.split()[0] for line in table.getvalue().splitlines())])
    say(newest=asyncio.run(realtime(url, picture)))
    policy = WebsocketClientPolicy(host=url.replace("http", "ws"), timeout_s=TIMEOUT_S)
    chunk = policy.infer({"observation/image": picture, "prompt": "reach"})["actions"]
    policy.close()
    say(chunk=list(chunk.shape), dtype=str(chunk.dtype))


async def realtime(url, picture):
    """Send some frames at once; return the newest answer's seq."""
    async with AsyncPolicyStream(url, service="realtime", timeout_s=TIMEOUT_S) as stream:
        await stream.wait_ready(TIMEOUT_S)
        tasks = [stream.send(picture, "reach") for _ in range(3)]
        await asyncio.wait(tasks)
        return (await stream.newest()).session.seq


main(sys.argv[1])

"""OpenVLA's documented client, unmodified, in an environment of its own, against a running daemon.

Knows nothing of our client: the script uses `requests` and `json-numpy` as their users do.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from stillframe.domain import ActionChunk, Observation, PolicyInfo, Step, StepReport
from stillframe.metrics import Metrics
from stillframe.web.app import create_app
from stillframe.web.lifecycle import Lifecycle
from stillframe.web.limits import Limits

CURRENT = ("json-numpy==2.1.1", "requests==2.34.2")
OLDEST = ("json-numpy==1.0.1", "requests==2.34.2")  # the one that OpenVLA's requirements name

# Runs in the client's environment; prints what the caller of OpenVLA's documented snippet gets.
SCRIPT = """
import json_numpy
json_numpy.patch()
import json, sys
import numpy as np, requests

url, double = sys.argv[1], sys.argv[2] == "double"
image = np.arange(224 * 224 * 3, dtype=np.uint32).astype(np.uint8).reshape(224, 224, 3)
payload = {"image": image, "instruction": "pick up the red cube", "unnorm_key": None}
if double:
    payload = {"encoded": json.dumps(payload)}
action = requests.post(url + "/act", json=payload, timeout=60).json()
if double:
    action = json.loads(action)
print(type(action).__name__, action.dtype, action.shape, bool(np.isfinite(action).all()))
"""


class RampPolicy:
    """Answers every frame with 0, 1, ... 6."""

    ready = True
    info = PolicyInfo(
        name="ramp",
        family="openvla",
        parameters=0,
        dtype="float32",
        device="cpu",
        cameras=("front",),
        image_size=(224, 224),
        action_names=("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"),
        gripper="1 = open, 0 = closed",
        chunk_horizon=1,
        norm_stats={"jaco": {"q01": [0.0] * 7, "q99": [1.0] * 7, "mask": [True] * 7}},
        default_unnorm_key="jaco",
    )

    def submit(self, observation: Observation, max_age_ms: float) -> Future[Step]:  # noqa: ARG002 -- the protocol's
        """Answer at once."""
        future: Future[Step] = Future()
        future.set_result(Step(ActionChunk(np.arange(7.0)[None], "jaco"), StepReport({"queue": 0.0}, passes=1)))
        return future

    def close(self) -> None:
        """Nothing to stop."""


@pytest.fixture(scope="module")
def daemon_url() -> Iterator[str]:
    """The address of a running daemon."""
    app = create_app(
        Lifecycle(RampPolicy()),
        limits=Limits(),
        metrics=Metrics(CollectorRegistry()),
        log=logging.getLogger("daemon"),
    )
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, ws="none", log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module", params=[CURRENT, OLDEST], ids=lambda names: names[0])
def client_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment that holds the client's packages and nothing of ours.

    Built once per list of packages, beside our own environment, and kept for the next run.
    """
    packages = sorted(request.param)
    key = hashlib.sha256(json.dumps([sys.version, *packages]).encode()).hexdigest()[:16]
    folder = Path(sys.prefix) / "clients" / key
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder))
        run(sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", *packages)
        (folder / "complete").touch()
    return python


def run(*command: str) -> str:
    """Run a command to its end and return what it printed; fail with what it complained about."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("encoding", ["plain", "double"])
def test_the_documented_client_gets_an_action(daemon_url, client_python, encoding):
    """The snippet of OpenVLA's documentation gets a float64 array of seven finite numbers."""
    assert run(str(client_python), "-I", "-c", SCRIPT, daemon_url, encoding) == "ndarray float64 (7,) True\n"


def test_that_environment_is_the_clients_own(client_python):
    """Nothing of ours is in the client's environment: what it decodes, it decodes by itself."""
    script = "import importlib.util as u; print([u.find_spec(n) for n in ('stillframe', 'stillframe_client', 'torch')])"

    assert run(str(client_python), "-I", "-c", script) == "[None, None, None]\n"

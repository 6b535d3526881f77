"""OpenVLA's documented client, unmodified, in an environment of its own, against a daemon that serves a network.

Knows nothing of our client: the script uses `requests` and `json-numpy` as their users do.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CURRENT = ("json-numpy==2.1.1", "requests==2.34.2")
OLDEST = ("json-numpy==1.0.1", "requests==2.34.2")  # the one that OpenVLA's requirements name

# Runs in the client's environment; prints what the caller of OpenVLA's documented snippet gets.
SCRIPT = """
import json_numpy
json_numpy.patch()
import json, sys
import numpy as np, requests

url, double, picture, instruction = sys.argv[1], sys.argv[2] == "double", sys.argv[3], sys.argv[4]
payload = {"image": np.load(picture), "instruction": instruction, "unnorm_key": "peer_tiny"}
if double:
    payload = {"encoded": json.dumps(payload)}
action = requests.post(url + "/act", json=payload, timeout=60).json()
if double:
    action = json.loads(action)
print(type(action).__name__, action.dtype, action.shape, action.tobytes().hex())
"""


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
@pytest.mark.parametrize("frame", ["f0", "f2"])
def test_the_documented_client_gets_the_references_action(
    golden_url: str, goldens: Mapping[str, Any], client_python: Path, tmp_path: Path, encoding: str, frame: str
) -> None:
    """The snippet of OpenVLA's documentation gets seven float64 numbers: those of the reference, to the bit."""
    golden = goldens[frame]
    np.save(tmp_path / "frame.npy", golden.picture)
    words = (golden_url, encoding, str(tmp_path / "frame.npy"), golden.instruction)

    said = run(str(client_python), "-I", "-c", SCRIPT, *words)
    assert said == f"ndarray float64 (7,) {golden.action.tobytes().hex()}\n"


def test_that_environment_is_the_clients_own(client_python: Path) -> None:
    """Nothing of ours is in the client's environment: what it decodes, it decodes by itself."""
    script = "import importlib.util as u; print([u.find_spec(n) for n in ('stillframe', 'stillframe_client', 'torch')])"

    assert run(str(client_python), "-I", "-c", script) == "[None, None, None]\n"

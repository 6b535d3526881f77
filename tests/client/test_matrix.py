"""The client on every Python that this machine has, with old and new numpy and websockets, against a real daemon."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROBOT = Path(__file__).parent / "matrix_robot.py"
INSTALL_S, ANSWER_S = 600, 120
PYTHONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
OLD_NUMPY = {"3.12": "numpy==1.26.4"}  # where it is not 1.24: the oldest that this Python has a wheel of
CUT = {"waits": "cut"}
WEBSOCKETS = ("websockets==11.0.3", "websockets==13.1", "websockets==15.0.1", "websockets")


def interpreter(version):
    """Where that Python is: ours, on the PATH, or beside ours, where version managers put them."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    beside = Path(sys.base_prefix).parent.glob(f"{version}*/bin/python{version}")
    on_path = (Path(folder) / f"python{version}" for folder in os.environ["PATH"].split(os.pathsep))
    for python in (*on_path, *beside):
        if python.exists() and probe(python):
            return str(python)
    pytest.skip(f"there is no Python {version} on this machine")


def probe(python):
    """Whether it runs: a shim of a version manager may not, a Python without ssl or venv is of no use."""
    done = subprocess.run([python, "-c", "import ssl, venv, ensurepip"], capture_output=True, timeout=60, check=False)
    return done.returncode == 0


def installed(python, *packages, into=None):
    """Install wheels; skip where this Python has none of them."""
    where = [] if into is None else ["--target", str(into), "--no-deps"]
    command = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--only-binary=:all:"]
    done = subprocess.run([*command, *where, *packages], capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-1:]
        pytest.skip(f"{', '.join(packages)} cannot be had here: {' '.join(last)}")


def kept(kind, *words):
    """A folder beside our own environment that is built once for these words, and whether it is complete."""
    key = hashlib.sha256(json.dumps([kind, *words]).encode()).hexdigest()[:16]
    folder = Path(sys.prefix) / "clients" / key
    return folder, folder / "complete"


@pytest.fixture(scope="module")
def environment():
    """Builds the environment of a Python and a numpy, with all that the client needs but websockets."""

    def build(version, numpy):
        python = interpreter(version)
        folder, complete = kept("matrix", python, numpy)
        if not complete.exists():
            subprocess.run(
                [python, "-m", "venv", "--clear", folder], check=True, capture_output=True, timeout=INSTALL_S
            )
            installed(folder / "bin" / "python", numpy, "httpx>=0.25", "msgpack>=1.0.5", "pillow>=9.1")
            complete.touch()
        return folder / "bin" / "python"

    return build


@pytest.fixture(scope="module")
def library():
    """Puts one release of websockets into a folder of its own."""

    def build(python, version, websockets):
        folder, complete = kept("websockets", version, websockets)
        if not complete.exists():
            installed(python, websockets, into=folder)
            complete.touch()
        return folder

    return build


@pytest.mark.slow
@pytest.mark.parametrize("websockets", WEBSOCKETS)
@pytest.mark.parametrize("numpy", ["old", "numpy>=2"])
@pytest.mark.parametrize("version", PYTHONS)
def test_the_client_there(new_daemon, environment, library, tmp_path, version, numpy, websockets):
    """Every call gives what it gives here, also after its connection broke, and nothing is complained about."""
    numpy = OLD_NUMPY.get(version, "numpy==1.24.4") if numpy == "old" else numpy
    python = environment(version, numpy)
    paths = [str(library(python, version, websockets)), str(ROOT / "client")]
    said = run(python, paths, new_daemon(), tmp_path / "complaints")

    versions = said.pop(0)
    assert versions["python"] == [int(part) for part in version.split(".")]
    assert versions["numpy"].startswith(numpy.split("=")[-1])
    assert websockets in ("websockets", f"websockets=={versions['websockets']}")
    exact, raw, png, jpeg = (said.pop(0)["act"] for _ in range(4))
    assert raw == png == np.float32(exact).tolist()
    assert jpeg == pytest.approx(exact, rel=0.02)
    assert (tmp_path / "complaints").read_text() == ""
    assert said == [
        {"code": "unknown-camera"},
        {"warnings": 1, "state": None},
        CUT,
        {"seq": 5, "epoch": 1, "name": "sums"},
        {"played": 3},
        {"preflight": [0, "ok", "warning", "warning", "ok", "ok", "ok"]},
        {"newest": 2},
        {"chunk": [2, 7], "dtype": "float32"},
    ]


def run(python, paths, daemon, complaints):
    """Let the robot do its work, and break its connection where it waits for that; return what it said."""
    plain = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    with complaints.open("w") as stderr:
        robot = subprocess.Popen(
            [python, "-W", "always::ResourceWarning", ROBOT, daemon.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**plain, "PYTHONPATH": os.pathsep.join(paths)},
        )
    bound = threading.Timer(ANSWER_S, robot.kill)
    bound.start()
    said = []
    with robot:
        for line in robot.stdout:
            said.append(json.loads(line))
            if said[-1] == CUT:
                daemon.cut()
                robot.stdin.write("go on\n")
                robot.stdin.flush()
    bound.cancel()
    assert robot.returncode == 0, complaints.read_text()
    return said

"""Real clients in environments of their own, and a daemon that serves the policy that we ship, for them to drive.

Knows the programs of `clients/` by name; no test.
"""

from __future__ import annotations

import re
import runpy
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from stillframe_client.wire import encode_array

ROOT = Path(__file__).resolve().parents[2]
FORKED = runpy.run_path(str(Path(__file__).parent / "forked.py"), run_name="forked")  # no package: loaded by its path
WAIT_S = 120.0
STEPS = 3  # frames of an episode
WORDS = "pick up the red cube"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without it each request reads all authorities that there are

Actions = NDArray[np.float64]  # [horizon, 7]
Order = Callable[..., Any]


@dataclass(frozen=True)
class Served:
    """A daemon that serves a checkpoint in mode exact, at one address for each profile."""

    url: str
    addresses: Mapping[str, str]  # profile, or "arm-1" for the one whose frames are all of that session -> URL

    def native(self, images: Mapping[str, NDArray[np.uint8]], words: str = WORDS) -> Actions:
        """What the native wire answers to a stateless frame."""
        body = {"images": {camera: encode_array(picture) for camera, picture in images.items()}, "instruction": words}
        reply = httpx.post(f"{self.url}/v1/act", json=body, timeout=WAIT_S, verify=NO_TLS)
        assert reply.status_code == 200, reply.text
        return np.array(reply.json()["actions"])

    def frames(self) -> Counter[str]:
        """The frames so far: keyframes by their reason, and "delta"."""
        text = httpx.get(f"{self.url}/metrics", timeout=WAIT_S, verify=NO_TLS).text
        whole = re.findall(r'^stillframe_keyframes_total\{reason="(.+)"\} (\S+)$', text, re.MULTILINE)
        deltas = re.findall(r"^stillframe_reused_age_frames_(count) (\S+)$", text, re.MULTILINE)
        return Counter({name: round(float(number)) for name, number in [*whole, ("delta", deltas[0][1])]})

    def sessions(self) -> list[dict[str, Any]]:
        """Who is here."""
        return list(httpx.get(f"{self.url}/v1/sessions", timeout=WAIT_S, verify=NO_TLS).json()["sessions"])


@pytest.fixture(scope="session")
def real() -> Mapping[str, Any]:
    """What clients/real.py has to give: no package, so that it is loaded by its path."""
    return runpy.run_path(str(Path(__file__).parent / "clients" / "real.py"))


@pytest.fixture(scope="session")
def environment(real: Mapping[str, Any]) -> Callable[[str], Path]:
    """Find the interpreter of an environment of clients/real.py by its name; skip where this Python can hold none."""

    def find(name: str) -> Path:
        try:
            return Path(real["interpreter"](name))
        except real["NoSuchEnvironmentError"] as problem:
            pytest.skip(str(problem))

    return find


@pytest.fixture(scope="session")
def forked() -> Callable[..., Any]:
    """Run `stillframe` with words, as a fork: `forked("serve", ..., log=file)`. See forked.py."""
    return partial(FORKED["Forked"], FORKED["COMMAND"])


@pytest.fixture(scope="session")
def serving() -> Callable[[Sequence[str], int], AbstractContextManager[str]]:
    """Run `stillframe serve ARGUMENTS` on a port while a block lasts, as a fork; gives its URL. See forked.py."""
    daemon: Callable[[Sequence[str], int], AbstractContextManager[str]] = FORKED["daemon"]
    return daemon


@pytest.fixture(scope="session")
def programs(real: Mapping[str, Any]) -> Iterator[Any]:
    """Programs of real clients that have imported what they need; see clients/real.py."""
    with real["Programs"]() as waiting:
        yield waiting


@pytest.fixture
def connect(programs: Any, environment: Callable[[str], Path]) -> Iterator[Callable[[str, str, str], Order]]:
    """Start a program in an environment, `connect("openpi-client-0.1.2", "openpi", url)`, and give it orders."""
    with ExitStack() as started:

        def start(name: str, program: str, url: str) -> Order:
            robots = started.enter_context(programs.robots(environment(name), program, url))
            return robots.order  # type: ignore[no-any-return] # loaded by path

        yield start


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, new_port: Callable[[], int]) -> Iterator[Served]:
    """Serves checkpoints/jaco-tiny: one camera."""
    with served_as("jaco-tiny", tmp_path_factory.mktemp("tiny"), new_port) as served:
        yield served


@pytest.fixture(scope="session")
def tiny_wrist(tmp_path_factory: pytest.TempPathFactory, new_port: Callable[[], int]) -> Iterator[Served]:
    """Serves checkpoints/jaco-tiny-wrist: two cameras."""
    with served_as("jaco-tiny-wrist", tmp_path_factory.mktemp("wrist"), new_port) as served:
        yield served


@contextmanager
def served_as(checkpoint: str, folder: Path, new_port: Callable[[], int]) -> Iterator[Served]:
    """Serve a checkpoint while the block lasts."""
    profiles = {"openvla-oft": None, "cogact": None, "roboarena": None, "arm-1": "arm-1"}
    ports = {name: new_port() for name in profiles}
    config = {
        "checkpoint": str(ROOT / "checkpoints" / checkpoint),
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
        "frames_per_s": None,
        "reuse": {"mode": "exact", "slack": False, "gap_s": 600},  # a slow machine changes no frame's kind
        "listeners": [
            {"port": ports[name], "profile": "native" if session else name, "session": session}
            for name, session in profiles.items()
        ],
    }
    file = folder / "daemon.yaml"
    file.write_text(yaml.safe_dump(config))
    with FORKED["daemon"]([str(file)], new_port()) as url:
        yield Served(url, {name: f"http://127.0.0.1:{port}" for name, port in ports.items()})


@pytest.fixture(scope="session")
def scenes() -> Mapping[str, list[NDArray[np.uint8]]]:
    """What each of two robots sees, frame by frame, [60, 80, 3]: coarse noise, no picture like another."""
    rng = np.random.default_rng(7)
    blocks = rng.integers(0, 256, (2, STEPS, 6, 8, 3), np.uint8).repeat(10, 2).repeat(10, 3)
    return {name: list(pictures) for name, pictures in zip(("left", "right"), blocks, strict=True)}


@pytest.fixture(scope="session")
def natively(tiny: Served, scenes: Mapping[str, list[NDArray[np.uint8]]]) -> Mapping[str, Actions]:
    """What the native wire answers to each robot's frames, stateless: [steps, horizon, 7] in float64."""
    answers = {name: [tiny.native({"image": picture}) for picture in pictures] for name, pictures in scenes.items()}
    assert len({action.tobytes() for several in answers.values() for action in several}) == 2 * STEPS  # mixing shows
    return {name: np.array(several) for name, several in answers.items()}


@dataclass(frozen=True)
class Episode:
    """What two robots got that were driven in turn, and what became of the bad frame in between."""

    answers: Mapping[str, list[Any]]
    spoilt: Any


@pytest.fixture
def play(scenes: Mapping[str, list[NDArray[np.uint8]]]) -> Callable[[Order], Episode]:
    """Drive two robots in turn through an episode each; in the middle one of them sends a frame that is none."""

    def through(order: Order) -> Episode:
        answers: dict[str, list[Any]] = {name: [] for name in scenes}
        spoilt = None
        for step in range(STEPS):
            for robot, pictures in scenes.items():
                answers[robot].append(order(robot, "act", pictures[step], WORDS))
            if step == STEPS // 2:
                spoilt = order("left", "spoil", scenes["left"][step], WORDS)
        return Episode(answers, spoilt)

    return through

"""A browser for the whole run, tabs in it, and daemons to look at: with a policy that echoes, or the real small one."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

from stillframe.domain import TokenScope
from stillframe.testing import EchoPolicy, policy_info, running
from stillframe.web.app import WebSettings
from stillframe.web.live.feed import LiveFeed
from stillframe.web.live.settings import LiveSettings
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe_client.wire import encode_array

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
MISSING = "no Chromium on this machine: `make test-browser` installs Debian's"
FAST = LiveSettings(rate_hz=20)


def load(name: str) -> ModuleType:
    """A module beside this one: tests are no package."""
    spec = importlib.util.spec_from_file_location(f"browser_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


chromium, relays = load("chromium"), load("relay")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One browser for the tests of a file; skips where there is none."""
    if chromium.program() is None:
        pytest.skip(MISSING)
    with chromium.browser(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A tab whose console has to stay quiet."""
    with browser.tab() as made:
        yield made


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait for something, within reason."""
    return chromium.until  # type: ignore[no-any-return]


@pytest.fixture
def relay() -> Callable[..., Any]:
    """A context: a relay before the daemon of a URL, which may serve it below a path."""
    return relays.relay  # type: ignore[no-any-return]


def secret(name: str) -> str:
    """The token of that name."""
    return f"{name}-0123456789abcdef"


@dataclass
class Daemon:
    """One whose policy echoes."""

    url: str
    policy: EchoPolicy
    cameras: tuple[str, ...]

    def act(self, session: str = "arm", token: str | None = None, words: str = "lift the lid") -> None:
        """Send a frame of noise."""
        side = 64
        pictures = {
            name: encode_array(np.random.default_rng(len(name)).integers(0, 255, (side, side, 3), dtype=np.uint8))
            for name in self.cameras
        }
        named = {"images": pictures} if len(pictures) > 1 else {"image": next(iter(pictures.values()))}
        headers = {} if token is None else {"Authorization": f"Bearer {secret(token)}"}
        body = {**named, "instruction": words, "session_id": session}
        httpx.post(f"{self.url}/v1/act", json=body, headers=headers, timeout=20).raise_for_status()


@pytest.fixture
def daemon() -> Iterator[Callable[..., Daemon]]:
    """Start daemons: `daemon()`, `daemon(tokens=("front",))`, `daemon(cameras=("front", "wrist"))`."""
    with contextlib.ExitStack() as opened:

        def make(
            *,
            tokens: tuple[str, ...] = (),
            cameras: tuple[str, ...] = ("front",),
            live: LiveSettings = FAST,
            **settings: Any,
        ) -> Daemon:
            feed = LiveFeed()
            known = [
                Token(name, hashlib.sha256(secret(name).encode()).hexdigest(), frozenset({TokenScope.ACT}))
                for name in tokens
            ]
            policy = EchoPolicy(info=policy_info(cameras=cameras), observer=feed)
            house = WebSettings(live=live, feed=feed, authenticator=Authenticator(known), **settings)
            return Daemon(opened.enter_context(running(policy, house)), policy, cameras)

        yield make


@pytest.fixture(scope="module")
def arm(needs_gl: None, new_port: Callable[[], int]) -> Iterator[str]:  # noqa: ARG001 (it skips)
    """A real daemon with the small policy, and the simulated arm that it drives for a file of tests -> its URL."""
    from stillframe.tools.local_daemon import daemon as started

    with started([str(ROOT / "configs" / "jaco-tiny.yaml")], new_port()) as url, _driven(url):
        yield url


@contextlib.contextmanager
def _driven(url: str) -> Iterator[None]:
    """Let the arm follow one instruction after the other on a thread."""
    from stillframe_client import PolicyClient
    from stillframe_client.sim import JacoEnv
    from stillframe_client.sim.rollout import play

    stopped, frames = threading.Event(), itertools.count()

    def drive() -> None:
        with (
            PolicyClient(url, timeout_s=30, session="jaco-left") as client,
            PolicyClient(url, timeout_s=30, session="jaco-right") as other,
            contextlib.closing(JacoEnv()) as env,
        ):

            def act(seen: Any) -> Any:
                if stopped.wait(0.05):
                    raise InterruptedError
                picture = next(iter(seen["images"].values()))
                if next(frames) % 20 == 0:
                    other.act(picture, "wait")
                return client.act(picture, seen["instruction"])

            with contextlib.suppress(InterruptedError):
                for number in range(1000):
                    client.reset()
                    play(env, act, seed=2000 + number, options={"task": "pick", "colour": ("red", "green")[number % 2]})

    thread = threading.Thread(target=drive, name="arm", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(60)

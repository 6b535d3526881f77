"""openpi's clients wait for a policy on one connection, keep it through a step of 45 s, open it with their API key.

Knows the web floor with the listener that `stillframe serve` gives it, over a policy that computes when it is let.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from stillframe.daemon.config import load_config
from stillframe.daemon.sockets import bind_sockets, uvicorn_config
from stillframe.domain import (
    ActionChunk,
    CacheReport,
    KeyframeReason,
    KVUsage,
    Observation,
    PolicyInfo,
    SessionRef,
    Step,
    StepReport,
    TokenScope,
)
from stillframe.metrics import Metrics
from stillframe.testing import policy_info
from stillframe.web.app import WebSettings, create_app
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe.web.service.lifecycle import Lifecycle

STEP_S = 45.0  # over two of the 20 s after which a client that pings gives up
WAIT_S = 30.0
PACKAGES = ["openpi-client-0.1.2", "openpi-client-0.1.1"]
TOKEN = "a-token-of-this-test"  # noqa: S105 (opens nothing)
STATS = {"q01": [-0.05] * 7, "q99": [0.05] * 7, "mask": [True] * 7}
INFO = policy_info(name="deliberate", family="openvla", norm_stats={"jaco": STATS}, default_unnorm_key="jaco")


@dataclass
class DeliberatePolicy:
    """Answers with the sum of the first picture, seven times, once it is let go on."""

    info: PolicyInfo = INFO
    ready: bool = True
    usage: KVUsage = KVUsage(0, 1000, 0, slots=4)  # noqa: RUF009 (frozen)
    busy_s: float = 0.0
    go_on: threading.Event = field(default_factory=threading.Event)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))

    def submit(
        self,
        observation: Observation,
        _: float,
        session: SessionRef | None = None,
        *,
        share: str = "",  # noqa: ARG002
    ) -> Future[Step]:
        """Compute each frame on a thread of its own."""
        return self.threads.submit(self.step, observation, session or SessionRef(""))

    def step(self, observation: Observation, session: SessionRef) -> Step:
        """Wait, then answer."""
        self.begun.release()
        self.go_on.wait(STEP_S + WAIT_S)
        cache = CacheReport("off", KeyframeReason.OFF, 0.0, 0, 20, 0, 0, epoch=session.epoch, seq=session.seq)
        total = float(next(iter(observation.images.values())).sum())
        return Step(ActionChunk(np.full((1, 7), total), "jaco"), StepReport({"queue": 0.0}, 1, cache))

    def forget(self, session_id: str) -> None:
        """It keeps nothing."""

    def close(self) -> None:
        """Let whatever waits go on."""
        self.go_on.set()
        self.threads.shutdown()


@pytest.fixture
def policy() -> Iterator[DeliberatePolicy]:
    """One that computes nothing yet."""
    made = DeliberatePolicy()
    yield made
    made.close()


@pytest.fixture
def serve(policy: DeliberatePolicy, golden_folder: Path) -> Iterator[Callable[[WebSettings], str]]:
    """Serve the policy in a house, by uvicorn as the daemon sets it up, and return the address."""
    with ExitStack() as running:
        yield lambda house: running.enter_context(serving(policy, house, golden_folder))
        policy.close()


@contextmanager
def serving(policy: DeliberatePolicy, house: WebSettings, checkpoint: Path) -> Iterator[str]:
    """The address while the block lasts."""
    config = load_config(None, {"checkpoint": checkpoint, "port": 0})
    (door,) = bind_sockets(config)
    metrics, log = Metrics(CollectorRegistry(), drift_budget=0.02), logging.getLogger("deliberate")
    app = create_app(Lifecycle(policy), house, metrics=metrics, log=log, clock=time.perf_counter)
    server = uvicorn.Server(uvicorn_config(app, config))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door.socket]})
    thread.start()
    yield door.address
    server.should_exit = True
    thread.join(WAIT_S)


@pytest.mark.slow
def test_a_step_of_45_seconds_is_waited_for(
    serve: Callable[[WebSettings], str], policy: DeliberatePolicy, connect: Callable[..., Any], scenes: Any
) -> None:
    """Both versions, over a current and an old `websockets`, get this answer and the next on one connection."""
    url = serve(WebSettings())
    clients = {name: connect(name, "openpi", url) for name in PACKAGES}
    metadata = [order("robot", "metadata") for order in clients.values()]
    with ThreadPoolExecutor(len(clients)) as authenticator:
        waiting = [authenticator.submit(order, "robot", "act", scenes["left"][0], "go") for order in clients.values()]
        begun = [policy.begun.acquire(timeout=WAIT_S) for _ in clients]
        time.sleep(STEP_S)
        alive = httpx.get(f"{url}/healthz").text
        policy.go_on.set()
        first = [reply.result(WAIT_S) for reply in waiting]
    second = [order("robot", "act", scenes["left"][1], "go") for order in clients.values()]
    sums = [float(picture.sum()) for picture in scenes["left"][:2]]

    assert all(begun)
    assert all(said["policy"] == "deliberate" for said in metadata)
    assert alive == "OK\n"
    assert [reply["actions"].tolist() for reply in first] == [[[sums[0]] * 7]] * 2
    assert [reply["actions"].tolist() for reply in second] == [[[sums[1]] * 7]] * 2


@pytest.mark.parametrize("packages", PACKAGES)
def test_it_waits_for_the_policy(
    serve: Callable[[WebSettings], str], policy: DeliberatePolicy, connect: Callable[..., Any], packages: str
) -> None:
    """A client that connects while the daemon warms up gets its metadata once there are answers to be had."""
    policy.ready = False
    url = serve(WebSettings())
    order = connect(packages, "openpi", url)
    with ThreadPoolExecutor(1) as caller:
        constructed = caller.submit(order, "robot", "metadata")
        give_up_s = time.monotonic() + WAIT_S
        while not (status := httpx.get(f"{url}/v1/status").json())["connections"] and time.monotonic() < give_up_s:
            time.sleep(0.02)
        early = constructed.done()
        policy.ready = True
        metadata = constructed.result(WAIT_S)

    assert (status["state"], status["connections"]) == ("warming", 1)
    assert not early
    assert metadata["policy"] == "deliberate"


@pytest.mark.parametrize("packages", PACKAGES)
def test_the_api_key_lets_it_in(
    serve: Callable[[WebSettings], str],
    policy: DeliberatePolicy,
    connect: Callable[..., Any],
    scenes: Any,
    packages: str,
) -> None:
    """With the key that the constructor takes it is served; without it, or with another, the upgrade is refused."""
    token = Token("arm", hashlib.sha256(TOKEN.encode()).hexdigest(), frozenset({TokenScope.ACT}))
    url = serve(WebSettings(authenticator=Authenticator([token])))
    policy.go_on.set()
    reply = connect(packages, "openpi", f"{url}#{TOKEN}")("robot", "act", scenes["left"][0], "go")
    refused = [connect(packages, "openpi", address)("robot", "metadata") for address in (url, f"{url}#another")]

    assert reply["actions"].shape == (1, 7)
    assert [refusal.error for refusal in refused] == ["InvalidStatus"] * 2
    assert all("401" in refusal.text for refusal in refused)

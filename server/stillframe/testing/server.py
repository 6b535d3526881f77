"""A whole daemon but for the policy, in this process, on a free port of 127.0.0.1. Knows web and uvicorn; no model."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from stillframe.daemon.config import load_config
from stillframe.daemon.shutdown import DrainingServer
from stillframe.daemon.sockets import uvicorn_config
from stillframe.domain import Policy
from stillframe.metrics import Metrics
from stillframe.web.app import WebSettings, create_app
from stillframe.web.service.lifecycle import Lifecycle

WAIT_S = 20.0
DRAIN_S = 1.0


@contextmanager
def running(policy: Policy, settings: WebSettings | None = None) -> Iterator[str]:
    """Serve `policy` over HTTP and WebSocket while the block runs; yields "http://127.0.0.1:PORT".

    Routes, sessions, limits and problems are the daemon's own. In the end the policy is closed. Raises RuntimeError
    where the server does not start.
    """
    lifecycle = Lifecycle(policy)
    metrics, log = Metrics(CollectorRegistry(), drift_budget=0.02), logging.getLogger("stillframe.testing")
    app = create_app(lifecycle, settings or WebSettings(), metrics=metrics, log=log, clock=time.perf_counter)
    config = uvicorn_config(app, load_config(None, {"checkpoint": Path()}))
    config.port = 0  # uvicorn binds it: the daemon hands it sockets that are bound
    server = DrainingServer(config, lifecycle, DRAIN_S)
    thread = threading.Thread(target=server.run, name="stillframe-testing")
    thread.start()
    try:
        yield f"http://127.0.0.1:{_port(server, thread)}"
    finally:
        lifecycle.drain()
        server.should_exit = True
        thread.join(WAIT_S)
        policy.close()


def _port(server: DrainingServer, thread: threading.Thread) -> int:
    """The one that the system gave, as soon as it is listened on."""
    give_up_s = time.monotonic() + WAIT_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > give_up_s:
            raise RuntimeError("the server did not start; its log says why")
        time.sleep(0.005)
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port

"""The composition root: configuration to model, engine, web floor and listener. The only room that knows everyone."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time

import torch
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from stillframe.config import DaemonConfig
from stillframe.engine.engine import Engine
from stillframe.errors import ConfigError, StillframeError
from stillframe.metrics import Metrics
from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy
from stillframe.web.app import create_app
from stillframe.web.lifecycle import Lifecycle
from stillframe.web.limits import Limits

BACKLOG = 2048  # connections that may wait to be accepted; uvicorn's own figure
DRAIN_S = 10  # how long frames in flight may take once the daemon is told to stop


def serve(config: DaemonConfig, log: logging.Logger) -> None:
    """Run until told to stop. Raises StillframeError for what cannot be served, before a frame is taken."""
    listener = _listen(config)
    lifecycle = Lifecycle()
    server = uvicorn.Server(_uvicorn_config(_app(config, lifecycle, log)))
    loader = Loader(config, lifecycle, server, log)
    _stop_on_signals(server)
    log.info("listening on http://%s:%d, loading %s", config.host, listener.getsockname()[1], config.checkpoint)
    loader.start()
    try:
        server.run(sockets=[listener])
    finally:
        lifecycle.drain()
        loader.join()
        if lifecycle.policy is not None:
            lifecycle.policy.close()
    if loader.failure is not None:
        raise loader.failure


def _stop_on_signals(server: uvicorn.Server) -> None:
    """Stop gracefully on a signal that comes before uvicorn heeds them; what it raises once more at its end is idle."""

    def stop(number: int, frame: object) -> None:  # noqa: ARG001 (the shape of a signal's handler)
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


class Loader(threading.Thread):
    """Loads and warms the policy while the daemon already answers /livez; a failure stops the server."""

    def __init__(self, config: DaemonConfig, lifecycle: Lifecycle, server: uvicorn.Server, log: logging.Logger):
        super().__init__(name="loader", daemon=True)
        self.failure: StillframeError | None = None
        self._config = config
        self._lifecycle = lifecycle
        self._server = server
        self._log = log

    def run(self) -> None:
        """Load, hand over, warm up."""
        try:
            started = time.perf_counter()
            engine = open_engine(self._config, self._log)
            self._lifecycle.serve(engine)
            engine.warm_up()
            self._log.info("ready: %s after %.1f s", engine.info.name, time.perf_counter() - started)
        except StillframeError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 (logged; the daemon must not stay half loaded)
            self._log.exception("loading failed")
            self._fail(ConfigError(f"loading {self._config.checkpoint} failed: {type(error).__name__}, see the log"))

    def _fail(self, error: StillframeError) -> None:
        self.failure = error
        self._server.should_exit = True


def open_engine(config: DaemonConfig, log: logging.Logger) -> Engine:
    """Load the checkpoint and start its engine, not yet warm."""
    return Engine(open_model(config), queue_frames=config.queue_frames, clock=time.perf_counter, log=log)


def open_model(config: DaemonConfig) -> PolicyModel:
    """Load the checkpoint as the configuration says."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    return load_policy(config.checkpoint, dtype=_dtype(config.dtype, device), device=device)


def choose_device(name: str) -> torch.device:
    """'auto' is a GPU where there is one. Raises ConfigError for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device is 'cuda', but torch sees no GPU; use 'auto' or 'cpu', or install a CUDA build of torch"
        )
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return torch.float32 if name == "float32" else torch.bfloat16


def _app(config: DaemonConfig, lifecycle: Lifecycle, log: logging.Logger) -> FastAPI:
    limits = Limits(
        max_body_bytes=round(config.max_body_mib * 2**20),
        max_image_pixels=config.max_image_pixels,
        default_max_age_ms=config.default_max_age_ms,
    )
    return create_app(lifecycle, limits=limits, metrics=Metrics(CollectorRegistry()), log=log)


def _uvicorn_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )


def _listen(config: DaemonConfig) -> socket.socket:
    """Bind before loading, so that a taken port is known at once."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # The protocol has to be named: asyncio switches Nagle's delay off (40 ms a reply) only where it reads TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(BACKLOG)  # two daemons can bind one port, but not listen on it
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror}; choose another --port"
        ) from error
    return listener

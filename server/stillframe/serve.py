"""The composition root: configuration to model, engine, web floor and listener. The only room that knows everyone."""

from __future__ import annotations

import logging
import socket
import threading
import time

import torch
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from stillframe.config import DaemonConfig
from stillframe.engine.engine import Engine
from stillframe.errors import CheckpointError, ConfigError, RequestError, StillframeError
from stillframe.metrics import Metrics
from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy
from stillframe.recording.recorded import Recorded
from stillframe.recording.recorder import Recorder
from stillframe.stopping import DRAIN_S, DrainingServer, stopping_on_signals
from stillframe.web.app import create_app
from stillframe.web.lifecycle import Lifecycle
from stillframe.web.limits import Limits

BACKLOG = 2048  # connections that may wait to be accepted; uvicorn's own figure
LEAVE_S = 1  # what connections get to take the last answers; what is drained has been answered by then


def serve(config: DaemonConfig, log: logging.Logger) -> None:
    """Run until told to stop. Raises StillframeError for what cannot be served, before a frame is taken."""
    recorder = open_recorder(config, log)
    listener = _listen(config)
    lifecycle = Lifecycle()
    metrics = Metrics(CollectorRegistry(), drift_budget=config.reuse.drift_budget)
    server = DrainingServer(_uvicorn_config(_app(config, lifecycle, metrics, log)), lifecycle)
    loader = Loader(config, lifecycle, server, metrics, recorder, log)
    with stopping_on_signals(server):
        log.info("listening on http://%s:%d, loading %s", config.host, listener.getsockname()[1], config.checkpoint)
        loader.start()
        try:
            server.run(sockets=[listener])
        finally:
            lifecycle.drain()
            loader.leave()
    if loader.failure is not None:
        raise loader.failure


class Loader(threading.Thread):
    """Loads and warms the policy while the daemon already answers /livez; a failure stops the server."""

    def __init__(
        self,
        config: DaemonConfig,
        lifecycle: Lifecycle,
        server: uvicorn.Server,
        metrics: Metrics,
        recorder: Recorder | None,
        log: logging.Logger,
    ):
        super().__init__(name="loader", daemon=True)
        self.failure: StillframeError | None = None
        self._config = config
        self._lifecycle = lifecycle
        self._server = server
        self._metrics = metrics
        self._recorder = recorder
        self._log = log

    def run(self) -> None:
        """Load, hand over, warm up."""
        try:
            started = time.perf_counter()
            engine = open_engine(self._config, self._metrics, self._log)
            self._lifecycle.serve(engine if self._recorder is None else Recorded(engine, self._recorder))
            self._warm_up(engine)
            self._log.info("ready: %s after %.1f s", engine.info.name, time.perf_counter() - started)
        except StillframeError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 (logged; the daemon must not stay half loaded)
            self._log.exception("loading failed")
            self._fail(ConfigError(f"loading {self._config.checkpoint} failed: {type(error).__name__}, see the log"))

    def leave(self) -> None:
        """Close the policy, if it is there in time: what loads for longer ends with the process."""
        self.join(DRAIN_S)
        if not self.is_alive() and self._lifecycle.policy is not None:
            self._lifecycle.policy.close()

    def _warm_up(self, engine: Engine) -> None:
        """Raise CheckpointError for a checkpoint whose first frame fails: nobody's request is to blame."""
        try:
            engine.warm_up()
        except RequestError as error:
            cause = error.__cause__ or error
            failure = f"its first frame failed: {type(cause).__name__}: {cause}"
            raise CheckpointError(f"{self._config.checkpoint} loaded, but {failure}") from error

    def _fail(self, error: StillframeError) -> None:
        self.failure = error
        self._server.should_exit = True


def open_recorder(config: DaemonConfig, log: logging.Logger) -> Recorder | None:
    """What keeps sessions' frames, where that is asked for. Raises ConfigError for a folder that cannot be one."""
    if config.record is None:
        return None
    try:
        return Recorder(config.record, max_bytes=round(config.record_max_mib * 2**20), log=log)
    except OSError as error:
        raise ConfigError(f"cannot record in {config.record}: {error.strerror}; choose another folder") from error


def open_engine(config: DaemonConfig, metrics: Metrics, log: logging.Logger) -> Engine:
    """Load the checkpoint and start its engine, not yet warm."""
    return Engine(
        open_model(config),
        reuse=config.reuse,
        queue_frames=config.queue_frames,
        clock=time.perf_counter,
        log=log,
        watch=metrics.slack,
    )


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


def _app(config: DaemonConfig, lifecycle: Lifecycle, metrics: Metrics, log: logging.Logger) -> FastAPI:
    limits = Limits(
        max_body_bytes=round(config.max_body_mib * 2**20),
        max_image_pixels=config.max_image_pixels,
        default_max_age_ms=config.default_max_age_ms,
    )
    return create_app(lifecycle, limits=limits, metrics=metrics, log=log)


def _uvicorn_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LEAVE_S,
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

"""The composition root: builds model, engine, web application and server from the configuration. Knows every room."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence

import torch
import uvicorn
from prometheus_client import CollectorRegistry

from stillframe import __version__
from stillframe.daemon.certificates import check_tls
from stillframe.daemon.checkpoint import with_local_checkpoint
from stillframe.daemon.config import DaemonConfig
from stillframe.daemon.logs import SUMMARY, lines_lost, write_in_background
from stillframe.daemon.shutdown import DrainingServer, exit_within, stopping_on_signals
from stillframe.daemon.sockets import LEAVE_S, BoundSocket, bind_sockets, track_connections, uvicorn_config
from stillframe.daemon.summary import start_summary
from stillframe.daemon.towers import run_towers
from stillframe.daemon.web_settings import port_terms, web_settings
from stillframe.domain import FrameObserver
from stillframe.engine.cuda_graphs import CaptureConfig, check_gpu_memory
from stillframe.engine.device import gpu_memory
from stillframe.engine.engine import Engine
from stillframe.engine.history import HistoryManager, untrained_weights
from stillframe.engine.shadow import Shadow
from stillframe.engine.termination import OnEnded
from stillframe.errors import CheckpointError, ConfigError, RequestError, StillframeError
from stillframe.history.checkpoint import has_history, load_history
from stillframe.history.info import disabled_info
from stillframe.metrics import Metrics
from stillframe.models.augmented import augmented
from stillframe.models.base import PolicyModel
from stillframe.models.graphs.gpu_budget import mib
from stillframe.models.hub.ids import snapshot_id
from stillframe.models.llama.cpu_dtype import time_dtypes
from stillframe.models.registry import decoder_sizes, load_policy
from stillframe.recording.policy import RecordingPolicy
from stillframe.recording.recorder import CLOSE_S, Recorder
from stillframe.tracing.opening import open_tracer
from stillframe.web.app import create_app
from stillframe.web.service.lifecycle import Lifecycle, State

# How long a thread may keep Python's lock while another waits. The device's thread gives it up in each of hundreds of
# operations a frame, and waits for it again while the event loop is busy: at Python's 5 ms a flood of requests would
# make a frame a second long.
SWITCH_S = 2e-4
CLOSE_TIMEOUT_S = 1.0  # for a policy that is still loading when the daemon stops


def serve(config: DaemonConfig, log: logging.Logger) -> None:
    """Run until told to stop. Raises StillframeError for what cannot be served, before a frame is accepted."""
    sys.setswitchinterval(SWITCH_S)
    write_in_background()  # logging never waits for the reader of standard error
    for warning in check_tls(config):
        log.warning("tls: %s", warning)
    recorder, tracer = open_recorder(config, log), open_tracer(config.tracing, __version__)
    sockets = bind_sockets(config)
    lifecycle = Lifecycle(watchdog_s=config.watchdog_s)
    metrics = Metrics(CollectorRegistry(), drift_budget=config.reuse.drift_budget)
    metrics.log_lines(lines_lost)
    if recorder is not None:
        lifecycle.recording = lambda: recorder.report
        metrics.recording(lifecycle.recording)
    house, connections = web_settings(config, sockets), track_connections(config)
    metrics.connected(lambda: connections.report(house.request_limiter.refused))
    app = create_app(lifecycle, house, metrics=metrics, log=log, clock=time.perf_counter, tracer=tracer)
    server = DrainingServer(uvicorn_config(app, config, connections), lifecycle, config.drain_s)
    observer = house.feed if config.live.enabled else None
    loader = Loader(config, lifecycle, server, metrics, recorder, log, observer, sockets)
    with stopping_on_signals(server):
        log.info("listening on %s, loading %s", ", ".join(bound.address for bound in sockets), config.checkpoint)
        loader.start()
        try:
            server.run(sockets=[bound.socket for bound in sockets])
        finally:
            lifecycle.drain()
            loader.close()
            if tracer is not None:
                tracer.close()
    if loader.failure is not None:
        raise loader.failure


class Loader(threading.Thread):
    """Loads and warms up the policy while the daemon already answers /livez; a failure stops the server."""

    def __init__(
        self,
        config: DaemonConfig,
        lifecycle: Lifecycle,
        server: uvicorn.Server,
        metrics: Metrics,
        recorder: Recorder | None,
        log: logging.Logger,
        observer: FrameObserver | None = None,
        sockets: Sequence[BoundSocket] = (),
    ):
        super().__init__(name="loader", daemon=True)
        self.failure: StillframeError | None = None
        self._config = config
        self._lifecycle = lifecycle
        self._server = server
        self._metrics = metrics
        self._recorder = recorder
        self._log = log
        self._observer = observer
        self._sockets = sockets

    def run(self) -> None:
        """Load the policy, publish it, warm it up."""
        try:
            started = time.perf_counter()
            config = with_local_checkpoint(self._config)
            engine = open_engine(config, self._metrics, self._log, self._engine_ended, self._observer)
            self._lifecycle.serve(engine if self._recorder is None else RecordingPolicy(engine, self._recorder))
            self._warm_up(engine)
            self._report(engine, time.perf_counter() - started)
        except StillframeError as error:
            self._fail(error)
        except BaseException as error:  # noqa: BLE001 (logged; a half-loaded daemon must not run on)
            self._log.exception("loading failed")
            self._fail(ConfigError(f"loading {self._config.checkpoint} failed: {type(error).__name__}, see the log"))

    def close(self) -> None:
        """Close the policy if it is loaded; one that is still loading ends with the process."""
        self.join(CLOSE_TIMEOUT_S)
        if not self.is_alive() and self._lifecycle.policy is not None:
            self._lifecycle.policy.close()

    def _report(self, engine: Engine, took_s: float) -> None:
        """Log that the daemon is ready, and what it is."""
        info = engine.info
        facts = {SUMMARY: start_summary(self._config, self._sockets, info, engine.usage)} if self._sockets else None
        held = f"{info.weights}, {mib(info.weight_bytes)}"
        ready = "ready: %s after %.1f s, weights: %s, batch invariant: %s"
        self._log.info(ready, info.source or info.name, took_s, held, info.batch_invariant, extra=facts)

    def _warm_up(self, engine: Engine) -> None:
        """Answer a first frame. Raises CheckpointError if it fails: no request can be the cause."""
        try:
            engine.warm_up()
        except RequestError as error:
            cause = error.__cause__ or error
            flaw = getattr(error, "flaw", None)
            kind = type(cause).__name__ if flaw is None else f"what it said is no action ({flaw})"
            failure = f"its first frame failed: {kind}: {cause}"
            raise CheckpointError(f"{self._config.checkpoint} loaded, but {failure}") from error

    def _engine_ended(self, cause: BaseException) -> None:
        """Report not ready at once, then end the process with a non-zero status, for a supervisor to restart it."""
        self._lifecycle.fail()
        what = f"the engine has ended: {type(cause).__name__}: {cause}"
        self._fail(StillframeError(f"{what}; see the log for the traceback; a supervisor should restart the daemon"))
        exit_within(LEAVE_S + CLOSE_TIMEOUT_S + CLOSE_S)

    def _fail(self, error: StillframeError) -> None:
        """Keep the first failure and stop the server; a warm-up that a shutdown cuts short is no failure."""
        if self._lifecycle.state is State.DRAINING:
            return
        self.failure = self.failure or error
        self._server.should_exit = True


def open_recorder(config: DaemonConfig, log: logging.Logger) -> Recorder | None:
    """The recorder of sessions' frames; None if not configured. Raises ConfigError for an unusable folder."""
    if config.record is None:
        return None
    try:
        max_bytes = round(config.record_max_mib * 2**20)
        return Recorder(config.record, max_bytes=max_bytes, log=log, images=config.record_images)
    except OSError as error:
        raise ConfigError(f"cannot record in {config.record}: {error.strerror}; choose another folder") from error


def open_engine(
    config: DaemonConfig,
    metrics: Metrics,
    log: logging.Logger,
    ended: OnEnded = lambda _: None,
    observer: FrameObserver | None = None,
) -> Engine:
    """Load the checkpoint, a folder, and start its engine, not yet warm. `ended` is called if the engine fails."""
    model = open_model(config, log)
    run_towers(model, config.vision_towers, log)
    for where, terms in port_terms(config):
        terms.check(model.info, where)
    _warn_missing_crop(config, log)
    shadow = open_shadow(config, model, metrics, log)
    recording = CaptureConfig(config.graphs, config.batching.most, config.reuse.slot_text_tokens)
    check_gpu_memory(model, config.reuse, recording, log)
    recalling = open_history(config, model)
    if recalling is not None and recalling.info.warning:
        log.warning("history: %s", recalling.info.warning)
    engine = Engine(
        model,
        reuse=config.reuse,
        queue_frames=config.queue_frames,
        clock=time.perf_counter,
        log=log,
        on_refresh=metrics.slack,
        decoding=config.decoding,
        batching=config.batching,
        graphs=config.graphs,
        history=recalling,
        history_info=disabled_info(trained=has_history(config.checkpoint)),
        on_refused=metrics.refused,
        on_ended=ended,
        source=str(snapshot) if (snapshot := snapshot_id(config.checkpoint)) else None,
        observer=observer,
        report_patches=config.record is not None,
        shadow=shadow,
    )
    metrics.passes(lambda: engine.pass_counts)
    metrics.gpu_memory(lambda: gpu_memory(model.device))
    return engine


def _warn_missing_crop(config: DaemonConfig, log: logging.Logger) -> None:
    """Warn if a checkpoint was probably trained on centre crops and no `center_crop` is configured."""
    if all(terms.center_crop is None for _, terms in port_terms(config)) and (sign := augmented(config.checkpoint)):
        log.warning("%s: fine-tuned with image augmentation, it may want 'center_crop: 0.9' (1: all, no hint)", sign)


def open_model(config: DaemonConfig, log: logging.Logger | None = None) -> PolicyModel:
    """Load the checkpoint as configured. A dtype that was chosen by measuring is logged."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    dtype = _dtype(config, device, log)
    return load_policy(
        config.checkpoint, dtype=dtype, device=device, config=config.checkpoint_config, weights=config.weights
    )


def open_shadow(config: DaemonConfig, model: PolicyModel, metrics: Metrics, log: logging.Logger) -> Shadow | None:
    """The second policy, in the first one's dtype and on its device; None if not configured.

    Raises CheckpointError for what cannot be loaded, ConfigError for a policy of another robot.
    """
    if config.shadow.checkpoint is None:
        return None
    second = load_policy(config.shadow.checkpoint, dtype=model.dtype, device=model.device)
    report = metrics.shadow.frame
    shadow = Shadow(second, model.info, config.shadow.share, clock=time.perf_counter, log=log, report=report)
    share, held = f"{config.shadow.share:.0%}", mib(second.info.weight_bytes)
    log.info("shadow: %s answers %s of sessions' frames too, weights: %s", second.info.name, share, held)
    return shadow


def open_history(
    config: DaemonConfig, model: PolicyModel, clock: Callable[[], float] = time.perf_counter
) -> HistoryManager | None:
    """The history of older frames; None if not enabled.

    Raises CheckpointError for a checkpoint not trained for it (unless forced), ConfigError for unfit settings.
    """
    if not config.history.enabled:
        return None
    untrained = config.history.force and not has_history(config.checkpoint)
    weights = untrained_weights(model, config.history) if untrained else load_history(config.checkpoint, model.device)
    return HistoryManager(model, weights, config.history, clock)


def choose_device(name: str) -> torch.device:
    """The torch device; 'auto' is a GPU if there is one. Raises ConfigError for a GPU that does not exist."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"device is {name!r}, but torch sees no GPU; use 'auto' or 'cpu', or install a CUDA build of torch"
            f"{_visible()}"
        )
    if ":" in name and int(name.partition(":")[2]) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(
            f"device is {name!r}, but torch sees {count} GPU(s), 'cuda:0' to 'cuda:{count - 1}', counted "
            f"anew from those that CUDA_VISIBLE_DEVICES shows{_visible()}"
        )
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def _visible() -> str:
    """CUDA_VISIBLE_DEVICES for an error message, if it is set."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if shown is None else f"; CUDA_VISIBLE_DEVICES is {shown!r}"


def _dtype(config: DaemonConfig, device: torch.device, log: logging.Logger | None) -> torch.dtype:
    """The configured dtype; 'auto' is bfloat16, on a CPU only if measured to be clearly faster than float32."""
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.bfloat16
    if device.type != "cpu":
        return torch.bfloat16
    pace = time_dtypes(decoder_sizes(config.checkpoint, config.checkpoint_config), config.weights)
    if log is not None:
        times = (pace.float32_ms, pace.bfloat16_ms)
        log.info("dtype: %s; a layer takes %.1f ms in float32, %.1f ms in bfloat16", pace.name, *times)
    return pace.dtype

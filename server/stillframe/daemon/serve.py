"""The composition root: configuration to model, engine, web floor and listener. The only room that knows everyone."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
import uvicorn
from prometheus_client import CollectorRegistry

from stillframe.daemon.certificates import check_tls
from stillframe.daemon.config import DaemonConfig, ListenerSettings
from stillframe.daemon.logs import go_background, lines_lost
from stillframe.daemon.shutdown import DrainingServer, end_soon, stopping_on_signals
from stillframe.daemon.sockets import LEAVE_S, Door, open_book, open_doors, uvicorn_config
from stillframe.engine.cuda_graphs import CaptureConfig, check_gpu_memory
from stillframe.engine.engine import Engine
from stillframe.engine.history import HistoryManager, untrained_weights
from stillframe.engine.termination import OnEnded
from stillframe.errors import CheckpointError, ConfigError, RequestError, StillframeError
from stillframe.history.checkpoint import has_memory, load_memory
from stillframe.history.info import off
from stillframe.metrics import Metrics
from stillframe.models.augmented import augmented
from stillframe.models.base import PolicyModel
from stillframe.models.llama.cpu_dtype import time_dtypes
from stillframe.models.registry import decoder_sizes, load_policy
from stillframe.recording.policy import Recorded
from stillframe.recording.recorder import CLOSE_S, Recorder
from stillframe.web.app import House, create_app
from stillframe.web.http.limits import Limits
from stillframe.web.middleware.auth import Callers, Token
from stillframe.web.middleware.origins import Origins
from stillframe.web.middleware.rate_limit import Rates
from stillframe.web.middleware.terms import Terms
from stillframe.web.service.lifecycle import Lifecycle, State

# How long a thread may keep Python's lock while another waits. The device's thread gives it up in each of hundreds of
# operations a frame, and waits for it again while the event loop is busy: at Python's 5 ms a flood of requests would
# make a frame a second long.
SWITCH_S = 2e-4
AT_ONCE_S = 1.0  # for a policy that still loads as the daemon stops


def serve(config: DaemonConfig, log: logging.Logger) -> None:
    """Run until told to stop. Raises StillframeError for what cannot be served, before a frame is taken."""
    sys.setswitchinterval(SWITCH_S)
    go_background()  # what logs never waits for the end that reads it
    for warning in check_tls(config):
        log.warning("tls: %s", warning)
    recorder = open_recorder(config, log)
    doors = open_doors(config)
    lifecycle = Lifecycle(watchdog_s=config.watchdog_s)
    metrics = Metrics(CollectorRegistry(), drift_budget=config.reuse.drift_budget)
    metrics.log_lines(lines_lost)
    if recorder is not None:
        lifecycle.recording = lambda: recorder.report
        metrics.recording(lifecycle.recording)
    house, book = _house(config, doors), open_book(config)
    metrics.connected(lambda: book.report(house.requests.refused))
    app = create_app(lifecycle, house, metrics=metrics, log=log, clock=time.perf_counter)
    server = DrainingServer(uvicorn_config(app, config, book), lifecycle, config.drain_s)
    loader = Loader(config, lifecycle, server, metrics, recorder, log)
    with stopping_on_signals(server):
        log.info("listening on %s, loading %s", ", ".join(door.address for door in doors), config.checkpoint)
        loader.start()
        try:
            server.run(sockets=[door.socket for door in doors])
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
            engine = open_engine(self._config, self._metrics, self._log, self._engine_ended)
            self._lifecycle.serve(engine if self._recorder is None else Recorded(engine, self._recorder))
            self._warm_up(engine)
            info, took_s = engine.info, time.perf_counter() - started
            self._log.info("ready: %s after %.1f s, batch invariant: %s", info.name, took_s, info.batch_invariant)
        except StillframeError as error:
            self._fail(error)
        except BaseException as error:  # noqa: BLE001 (logged; the daemon must not stay half loaded)
            self._log.exception("loading failed")
            self._fail(ConfigError(f"loading {self._config.checkpoint} failed: {type(error).__name__}, see the log"))

    def leave(self) -> None:
        """Close the policy, if it is there: what still loads ends with the process."""
        self.join(AT_ONCE_S)
        if not self.is_alive() and self._lifecycle.policy is not None:
            self._lifecycle.policy.close()

    def _warm_up(self, engine: Engine) -> None:
        """Raise CheckpointError for a checkpoint whose first frame fails: nobody's request is to blame."""
        try:
            engine.warm_up()
        except RequestError as error:
            cause = error.__cause__ or error
            flaw = getattr(error, "flaw", None)
            kind = type(cause).__name__ if flaw is None else f"what it said is no action ({flaw})"
            failure = f"its first frame failed: {kind}: {cause}"
            raise CheckpointError(f"{self._config.checkpoint} loaded, but {failure}") from error

    def _engine_ended(self, cause: BaseException) -> None:
        """Not ready at once; then the process ends, non-zero, for a supervisor to start it anew."""
        self._lifecycle.fail()
        what = f"the engine has ended: {type(cause).__name__}: {cause}"
        self._fail(StillframeError(f"{what}; the log has its story, and whatever supervises the daemon restarts it"))
        end_soon(LEAVE_S + AT_ONCE_S + CLOSE_S)

    def _fail(self, error: StillframeError) -> None:
        """The first failure is what is told; that a warm-up is cut short by a stop is none."""
        if self._lifecycle.state is State.DRAINING:
            return
        self.failure = self.failure or error
        self._server.should_exit = True


def open_recorder(config: DaemonConfig, log: logging.Logger) -> Recorder | None:
    """What keeps sessions' frames, where that is asked for. Raises ConfigError for a folder that cannot be one."""
    if config.record is None:
        return None
    try:
        return Recorder(config.record, max_bytes=round(config.record_max_mib * 2**20), log=log)
    except OSError as error:
        raise ConfigError(f"cannot record in {config.record}: {error.strerror}; choose another folder") from error


def open_engine(config: DaemonConfig, metrics: Metrics, log: logging.Logger, ended: OnEnded = lambda _: None) -> Engine:
    """Load the checkpoint and start its engine, not yet warm. `ended` hears of its end, should it come by itself."""
    model = open_model(config, log)
    for where, terms in _terms(config):
        terms.check(model.info, where)
    _hint_at_crop(config, log)
    recording = CaptureConfig(config.graphs, config.batching.most, config.reuse.slot_text_tokens)
    check_gpu_memory(model, config.reuse, recording, log)
    recalling = open_recalling(config, model)
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
        history_info=off(trained=has_memory(config.checkpoint)),
        on_refused=metrics.refused,
        on_ended=ended,
    )
    metrics.passes(lambda: engine.pass_counts)
    return engine


def _hint_at_crop(config: DaemonConfig, log: logging.Logger) -> None:
    """Say so where a checkpoint seems to want the middle of a picture and gets all of it."""
    if all(terms.center_crop is None for _, terms in _terms(config)) and (sign := augmented(config.checkpoint)):
        log.warning("%s: fine-tuned with image augmentation, it may want 'center_crop: 0.9' (1: all, no hint)", sign)


def open_model(config: DaemonConfig, log: logging.Logger | None = None) -> PolicyModel:
    """Load the checkpoint as the configuration says. `log` is told what was left to measuring."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    return load_policy(config.checkpoint, dtype=_dtype(config, device, log), device=device)


def open_recalling(config: DaemonConfig, model: PolicyModel) -> HistoryManager | None:
    """What answers see of older frames, if that is asked for.

    Raises CheckpointError for who never learnt to look and is not forced, ConfigError for knobs that do not fit.
    """
    if not config.history.enabled:
        return None
    untrained = config.history.force and not has_memory(config.checkpoint)
    weights = untrained_weights(model, config.history) if untrained else load_memory(config.checkpoint, model.device)
    return HistoryManager(model, weights, config.history, time.perf_counter)


def choose_device(name: str) -> torch.device:
    """'auto' is a GPU where there is one. Raises ConfigError for a GPU that is not there."""
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
    """What hides GPUs from torch, if anything does."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if shown is None else f"; CUDA_VISIBLE_DEVICES is {shown!r}"


def _dtype(config: DaemonConfig, device: torch.device, log: logging.Logger | None) -> torch.dtype:
    """The one that is named; 'auto' is bfloat16, but on a CPU only where that is clearly faster than float32."""
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.bfloat16
    if device.type != "cpu":
        return torch.bfloat16
    pace = time_dtypes(decoder_sizes(config.checkpoint))
    if log is not None:
        times = (pace.float32_ms, pace.bfloat16_ms)
        log.info("dtype: %s; a layer takes %.1f ms in float32, %.1f ms in bfloat16", pace.name, *times)
    return pace.dtype


def _house(config: DaemonConfig, doors: list[Door]) -> House:
    """What the configuration says to the web floor."""
    listeners = {
        door.port: replace(door.listener, terms=terms)
        for door, (_, terms) in zip(doors, _terms(config), strict=False)  # the daemon's own door comes first
    }
    return House(
        limits=Limits(
            max_body_bytes=round(config.max_body_mib * 2**20),
            max_image_pixels=config.max_image_pixels,
            default_max_age_ms=config.default_max_age_ms,
        ),
        sessions=config.sessions,
        callers=Callers(Token(token.name, token.sha256, frozenset(token.scopes)) for token in config.tokens),
        origins=Origins(listeners, hosts=config.allowed_hosts, origins=config.allowed_origins),
        rates=Rates(config.frames_per_s),
        requests=Rates(None if config.one_caller else config.requests_per_s, burst_s=0.5, of="requests"),
        listeners=listeners,
        drain_s=config.drain_s,
    )


def _terms(config: DaemonConfig) -> Iterator[tuple[str, Terms]]:
    """What is fixed for the clients of each port, the daemon's own first, and where that is written."""
    own = Terms("native", config.unnorm_key, config.cameras or {}, config.center_crop)
    yield "the configuration", own
    for at, listener in enumerate(config.listeners):
        yield f"listeners.{at}", _terms_of(listener, own)


def _terms_of(listener: ListenerSettings, own: Terms) -> Terms:
    """Those of one more port: what it does not say is as the daemon has it."""
    return Terms(
        listener.profile,
        own.unnorm_key if listener.unnorm_key is None else listener.unnorm_key,
        own.cameras if listener.cameras is None else listener.cameras,
        own.center_crop if listener.center_crop is None else listener.center_crop,
    )

from __future__ import annotations

import copy
import hashlib
import logging
import os
import re
import signal
import socket
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry
from starlette.datastructures import Headers

from stillframe.daemon import serve, towers
from stillframe.daemon.checkpoint import with_local_checkpoint
from stillframe.daemon.config import DaemonConfig, VisionTowers, load_config
from stillframe.daemon.cores import usable_cores
from stillframe.daemon.sockets import BoundSocket
from stillframe.daemon.web_settings import web_settings
from stillframe.domain import SessionRef, blank_observation
from stillframe.errors import CheckpointError, ConfigError, Forbidden, Internal, TooMany, Unprocessable
from stillframe.history.info import WARNING
from stillframe.metrics import Metrics
from stillframe.models.base import PolicyModel
from stillframe.models.llama.cpu_dtype import DtypeTiming
from stillframe.models.llama.decoder import DecoderConfig
from stillframe.models.registry import load_policy
from stillframe.models.side_by_side import OnSecondThread, RunJobs, in_turn
from stillframe.web.middleware.auth import Caller
from stillframe.web.middleware.listeners import Listener
from stillframe.web.middleware.start_options import StartOptions

WAIT_S = 60
TINY = Path(__file__).resolve().parents[2] / "checkpoints" / "jaco-tiny"


def config(**values: object) -> DaemonConfig:
    """A configuration on a free port."""
    return load_config(None, {"checkpoint": Path("nowhere"), "port": 0} | values)


SECRET = "front-secret-0f9a"  # noqa: S105 -- a test's


def test_who_may_ask_reaches_the_web_floor() -> None:
    """Tokens, names, pages, rates, listeners, sessions and limits of the configuration are those of the app."""
    token = {"name": "front", "sha256": hashlib.sha256(SECRET.encode()).hexdigest(), "scopes": ["admin"]}
    sockets = [BoundSocket(socket.socket(), port, "", Listener(loopback=port == 1)) for port in (1, 2)]
    for bound in sockets:
        bound.socket.close()
    asked = config(
        tokens=[token], allowed_hosts=["robot.lab"], allowed_origins=["https://panel.lab"], frames_per_s=0.5,
        sessions={"most": 3}, max_body_mib=1, drain_s=2, listeners=[{"port": 2}],
    )  # fmt: skip
    house = web_settings(asked, sockets)
    house.frame_limiter.acquire(("front",))

    assert house.authenticator.authenticate(Headers({"X-Api-Key": SECRET})) == Caller("front", frozenset({"admin"}))
    house.origins.check({"server": ("", 2)}, Headers({"Host": "robot.lab", "Origin": "https://panel.lab"}))
    with pytest.raises(Forbidden):
        house.origins.check({"server": ("", 1)}, Headers({"Host": "evil.example"}))
    with pytest.raises(TooMany, match=r"more than 0\.5 frames a second"):
        house.frame_limiter.acquire(("front",))
    assert house.listeners == {1: Listener(), 2: Listener(loopback=False)}
    assert (house.sessions.most, house.limits.max_body_bytes, house.drain_s) == (3, 2**20, 2)


def test_what_is_fixed_for_a_port_reaches_the_web_floor() -> None:
    """Each of the daemon's start options holds on every port whose listener does not say another."""
    sockets = [BoundSocket(socket.socket(), port, "", Listener()) for port in (1, 2, 3)]
    for bound in sockets:
        bound.socket.close()
    more = {"port": 3, "profile": "cogact", "unnorm_key": "fractal", "cameras": {"image": "b"}, "center_crop": 1.0}
    more |= {"default_instruction": "lift it", "openpi_metadata": {}}
    asked = config(
        unnorm_key="bridge",
        cameras={"image": "a"},
        center_crop=0.9,
        default_instruction="hold it",
        openpi_metadata={"reset_pose": [0]},
        listeners=[{"port": 2, "profile": "openpi"}, more],
    )
    own = ("hold it", {"reset_pose": [0]})
    terms = [listener.start_options for listener in web_settings(asked, sockets).listeners.values()]

    assert terms == [
        StartOptions("native", "bridge", {"image": "a"}, 0.9, *own),
        StartOptions("openpi", "bridge", {"image": "a"}, 0.9, *own),
        StartOptions("cogact", "fractal", {"image": "b"}, 1.0, "lift it", {}),
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"unnorm_key": "jaco_sin"}, "the configuration: unnorm_key is 'jaco_sin'; jaco-tiny has statistics for"),
        ({"unnorm_key": "jaco_sin"}, "Did you mean 'jaco_sim'?"),
        ({"cameras": {"front": "a"}}, "the configuration: cameras names a camera 'front'; jaco-tiny has image"),
        ({"listeners": [{"port": 0}, {"port": 0, "unnorm_key": "x"}]}, "listeners.1: unnorm_key is 'x'"),
    ],
)
def test_a_start_option_that_the_checkpoint_has_not_is_refused_before_a_frame(
    wrong: dict[str, object], said: str
) -> None:
    """With what it has."""
    asked = config(checkpoint=TINY, device="cpu", dtype="float32", **wrong)
    with pytest.raises(ConfigError, match=re.escape(said)):
        serve.open_engine(asked, Metrics(CollectorRegistry(), drift_budget=1.0), logging.getLogger("quiet"))


@pytest.mark.parametrize(
    ("fixed", "hints"),
    [
        ({}, 1),
        ({"center_crop": 0.9}, 0),
        ({"center_crop": 1}, 0),
        ({"listeners": [{"port": 0, "center_crop": 0.9}]}, 0),
    ],
)
def test_a_run_with_augmentation_is_hinted_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fixed: dict[str, object], hints: int
) -> None:
    """Once, where nothing was said of a crop."""
    folder = tmp_path / "jaco--image_aug"
    folder.mkdir()
    serve._warn_missing_crop(config(checkpoint=folder, **fixed), logging.getLogger("hints"))

    assert [record.message.count("center_crop: 0.9") for record in caplog.records] == [1] * hints


def test_a_certificate_that_is_not_there_stops_it_before_it_loads(tmp_path: Path) -> None:
    """Whoever runs it learns at once, not when the first client comes."""
    gone = tmp_path / "gone.pem"

    with pytest.raises(ConfigError, match="cannot read 'tls_cert'"):
        serve.serve(config(tls_cert=gone, tls_key=gone), logging.getLogger("serve-test"))


@pytest.mark.parametrize(
    ("gpu", "name", "device"),
    [
        (False, "auto", "cpu"),
        (False, "cpu", "cpu"),
        (True, "auto", "cuda"),
        (True, "cuda", "cuda"),
        (True, "cpu", "cpu"),
    ],
)
def test_the_device_is_chosen(monkeypatch: pytest.MonkeyPatch, *, gpu: bool, name: str, device: str) -> None:
    """`auto` is a GPU where there is one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)

    assert serve.choose_device(name).type == device


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_dtype_that_is_named_is_not_measured(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Whoever names one gets it; and `auto` is bfloat16 on a GPU."""
    monkeypatch.setattr(serve, "time_dtypes", lambda *_: pytest.fail("measured"))
    there = torch.device(device)

    assert serve._dtype(config(dtype="float32"), there, None) == torch.float32
    assert serve._dtype(config(dtype="bfloat16"), there, None) == torch.bfloat16
    if device == "cuda":
        assert serve._dtype(config(), there, None) == torch.bfloat16


@pytest.mark.parametrize(("bfloat16_ms", "dtype"), [(1.0, "bfloat16"), (6.0, "float32")])
def test_on_a_cpu_auto_is_what_is_faster(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    golden_folder: Path,
    bfloat16_ms: float,
    dtype: str,
) -> None:
    """Both dtypes are timed at the checkpoint's sizes, and one line of the log says with what result."""
    asked: list[tuple[DecoderConfig, str]] = []
    monkeypatch.setattr(serve, "time_dtypes", lambda *given: asked.append(given) or DtypeTiming(6.04, bfloat16_ms))
    with caplog.at_level(logging.INFO, "serve-test"):
        model = serve.open_model(config(checkpoint=golden_folder, device="cpu"), logging.getLogger("serve-test"))

    assert model.info.dtype == dtype
    assert asked == [(model.decoder.config, "as-is")]
    assert caplog.messages == [f"dtype: {dtype}; a layer takes 6.0 ms in float32, {bfloat16_ms} ms in bfloat16"]


def test_weights_are_held_as_configured(golden_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And `auto` times the dtypes of rows over weights of that kind."""
    asked: list[tuple[DecoderConfig, str]] = []
    monkeypatch.setattr(serve, "time_dtypes", lambda *given: asked.append(given) or DtypeTiming(6.0, 6.0))
    monkeypatch.setattr("stillframe.models.quantised.schemes._cpu_refusal", lambda: None)
    model = serve.open_model(config(checkpoint=golden_folder, device="cpu", weights="int8"))

    assert asked == [(model.decoder.config, "int8")]
    assert model.info.weights == "int8"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a 7B model on a CPU by mistake."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ConfigError, match="device is 'cuda', but torch sees no GPU; use 'auto' or 'cpu'"):
        serve.open_model(config(device="cuda"))


@pytest.mark.parametrize(("gpus", "visible"), [(0, None), (0, ""), (1, "3"), (2, None)])
def test_a_gpu_is_chosen_by_its_number(monkeypatch: pytest.MonkeyPatch, gpus: int, visible: str | None) -> None:
    """The second of two; where there are fewer, how many there are, and what hides others."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    asked = config(device="cuda:1").device

    if gpus == 2:
        assert serve.choose_device(asked) == torch.device("cuda", 1)
        return
    with pytest.raises(ConfigError) as caught:
        serve.choose_device(asked)
    assert f"device is 'cuda:1', but torch sees {'1 GPU(s)' if gpus else 'no GPU'}" in str(caught.value)
    assert (f"; CUDA_VISIBLE_DEVICES is {visible!r}" in str(caught.value)) == (visible is not None)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    """Before a frame is taken, by name."""
    with pytest.raises(CheckpointError, match="is not a folder"):
        serve.open_model(config(checkpoint=tmp_path / "none"))


@pytest.mark.parametrize(
    ("history", "refused"),
    [
        ({"enabled": True}, r"was not trained with older frames.*history\.enabled to false, or history\.force to true"),
        ({"enabled": True, "force": True}, "history.gate is 'gate', which has to be trained"),
    ],
)
def test_who_never_learnt_to_look_back_is_not_made_to(
    golden_model: PolicyModel, golden_folder: Path, history: dict[str, object], refused: str
) -> None:
    """Unless that is asked for twice, and with a scorer that needs no training."""
    asked = config(checkpoint=golden_folder, history=history)

    with pytest.raises((CheckpointError, ConfigError), match=refused):
        serve.open_history(asked, golden_model)


@pytest.mark.parametrize("history", [{}, {"enabled": True, "force": True, "gate": "recency", "budget_mib": None}])
def test_a_daemon_reports_whether_history_is_trained(
    caplog: pytest.LogCaptureFixture, golden_folder: Path, history: dict[str, object]
) -> None:
    """Off, with the better reason; or forced, with a warning in the model info and one in the log."""
    asked = config(checkpoint=golden_folder, device="cpu", dtype="float32", history=history)
    with caplog.at_level(logging.WARNING, "serve-test"):
        engine = serve.open_engine(asked, Metrics(CollectorRegistry()), logging.getLogger("serve-test"))
    engine.close()
    info = engine.info.history

    assert (info.enabled, info.trained) == (bool(history), False)
    assert info.warning == (WARNING if history else None)
    assert caplog.messages == ([f"history: {WARNING}"] if history else [])
    assert ("was not trained with older frames" in info.why) is not bool(history)


def test_a_shadow_answers_what_the_first_policy_answered(golden_folder: Path) -> None:
    """In its idle time, as /metrics says: the same checkpoint, whole, the same actions."""
    wanted = {"checkpoint": golden_folder}
    asked = config(checkpoint=golden_folder, device="cpu", dtype="float32", shadow=wanted)
    registry = CollectorRegistry()
    engine = serve.open_engine(with_local_checkpoint(asked), Metrics(registry), logging.getLogger("serve-test"))
    engine.warm_up()
    engine.submit(blank_observation(engine.info), 1e6, SessionRef("a")).result()
    compared = partial(registry.get_sample_value, "stillframe_shadow_frames_total", {"outcome": "compared"})
    give_up_s = time.monotonic() + WAIT_S
    while not compared():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)
    engine.close()

    assert registry.get_sample_value("stillframe_shadow_drift_count") == 1
    assert registry.get_sample_value("stillframe_shadow_drift_sum") == pytest.approx(0, abs=1e-4)


def test_a_shadow_that_is_no_checkpoint_is_refused(golden_folder: Path, tmp_path: Path) -> None:
    """As the first policy's would be: nothing is served beside what does not load."""
    asked = config(checkpoint=golden_folder, device="cpu", dtype="float32", shadow={"checkpoint": tmp_path})

    with pytest.raises(CheckpointError, match=tmp_path.name):
        serve.open_engine(asked, Metrics(CollectorRegistry()), logging.getLogger("serve-test"))


def test_threads_and_dtype_reach_the_model(golden_folder: Path) -> None:
    """The knobs turn something."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        model = serve.open_model(config(checkpoint=golden_folder, device="cpu", dtype="bfloat16", threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)

    assert model.dtype == torch.bfloat16
    assert model.info.dtype == "bfloat16"
    assert model.info.device == "cpu"


def test_towers_run_as_configured(golden_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In turn unless that is asked for, and then with the same answers; what is opened for no daemon runs in turn."""
    answers = []
    for wanted, how in ({}, None), ({"vision_towers": "side-by-side"}, OnSecondThread):
        asked = config(checkpoint=golden_folder, device="cpu", dtype="float32", threads=1, **wanted)
        engine = serve.open_engine(asked, Metrics(CollectorRegistry()), logging.getLogger("serve-test"))
        backbone = engine._core.model.network.vision_backbone  # type: ignore[attr-defined]  # of this family
        engine.warm_up()
        answers.append(engine.submit(blank_observation(engine.info), 1e6, SessionRef("a")).result().chunk.tokens)
        engine.close()

        assert backbone.run is in_turn if how is None else isinstance(backbone.run, how)
        assert serve.open_model(asked).network.vision_backbone.run is in_turn  # type: ignore[attr-defined]
    assert np.array_equal(*answers)
    assert not [said for said in caplog.messages if "vision_towers" in said and usable_cores() > 1]


@pytest.mark.parametrize(
    ("wanted", "threads", "said"),
    [
        ("in-turn", 2, ""),
        ("side-by-side", 2, "vision_towers: two vision towers side by side want 4 cores (threads: 2), and this process "
         "may use 3; 'in-turn', or fewer threads, may be faster"),
        ("side-by-side", 1, ""),
    ],
)  # fmt: skip
def test_too_few_cores_for_two_towers_are_warned_of(
    golden_model: PolicyModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    wanted: VisionTowers, threads: int, said: str,
) -> None:  # fmt: skip
    """Once, as the daemon starts: it does as it is told."""
    monkeypatch.setattr(towers, "usable_cores", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    model = copy.copy(golden_model)
    given: list[RunJobs] = []
    monkeypatch.setattr(model, "run_towers", given.append, raising=False)
    towers.run_towers(model, wanted, logging.getLogger("serve-test"))

    assert caplog.messages == ([said] if said else [])
    assert len(given) == (wanted == "side-by-side")


def test_one_tower_has_nothing_beside_it(caplog: pytest.LogCaptureFixture) -> None:
    """A family with a single one is served all the same, and the log says so."""
    folder = Path(__file__).parents[1] / "goldens" / "pi0" / "pi0-micro"
    model = load_policy(folder, dtype=torch.float32, device=torch.device("meta"))
    with caplog.at_level(logging.INFO, "serve-test"):
        towers.run_towers(model, "side-by-side", logging.getLogger("serve-test"))

    assert caplog.messages == [f"vision_towers: {model.info.name} has one vision tower, beside which nothing runs"]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (
            Unprocessable("instruction-too-long", "it reads at most 3 tokens"),
            "Unprocessable: it reads at most 3 tokens",
        ),
        (Internal("internal", "quote the request's id"), "RuntimeError: odd heads"),
    ],
    ids=["refused", "failed"],
)
def test_a_checkpoint_whose_first_frame_fails_is_refused(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, words: str
) -> None:
    """The folder and the cause: there is no request whose id could be quoted."""
    if isinstance(failure, Internal):
        failure.__cause__ = RuntimeError("odd heads")
    engine = ColdEngine(failure)
    monkeypatch.setattr(serve, "open_engine", lambda *_: engine)

    with pytest.raises(CheckpointError) as caught:
        serve.serve(config(), logging.getLogger("serve-test"))
    assert str(caught.value) == f"nowhere loaded, but its first frame failed: {words}"
    assert engine.closed


class ColdEngine:
    """An engine whose warm-up fails."""

    ready = False
    closed = False

    def __init__(self, failure: Exception):
        self.failure = failure

    def warm_up(self) -> None:
        """Fail."""
        raise self.failure

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def test_a_stop_does_not_wait_for_a_long_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to stop while it loads, the daemon leaves after `drain_s`; what the signals did before, they do again."""
    loading, go_on = threading.Event(), threading.Event()

    def load(*_: object) -> None:
        loading.set()
        go_on.wait(WAIT_S)
        raise ConfigError("loaded after all")

    def stop() -> None:
        loading.wait(WAIT_S)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(serve, "open_engine", load)
    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop).start()
    serve.serve(config(drain_s=0.01), logging.getLogger("serve-test"))
    (loader,) = [thread for thread in threading.enumerate() if isinstance(thread, serve.Loader)]

    assert loader.is_alive()
    assert loader.daemon
    assert signal.getsignal(signal.SIGTERM) is before
    go_on.set()
    loader.join(WAIT_S)


def test_a_deployment_says_keys_in_place_of_the_checkpoints(oft_folder: Path) -> None:
    """checkpoint_config reaches the family's reading of config.json; what that refuses names the key."""
    given = {"checkpoint": oft_folder, "device": "cpu", "dtype": "float32"}
    keys = {"num_actions_chunk": 3, "cameras": ["image", "wrist"], "use_proprio": False}
    info = serve.open_model(config(**given, checkpoint_config=keys)).info

    assert (info.chunk_horizon, info.cameras, info.state) == (3, ("image", "wrist"), None)
    with pytest.raises(CheckpointError, match="num_actions_chunk is 0; expected a whole number from 1 to 1024"):
        serve.open_model(config(**given, checkpoint_config={"num_actions_chunk": 0}))


def test_a_key_that_the_family_does_not_have_is_refused_with_the_closest(oft_folder: Path) -> None:
    """A typing error is no silence: the family, its keys, the nearest."""
    wrong = config(checkpoint=oft_folder, device="cpu", dtype="float32", checkpoint_config={"num_action_chunk": 3})

    with pytest.raises(ConfigError, match="has 'num_action_chunk'; of a checkpoint of openvla_oft it may have num_act"):
        serve.open_model(wrong)
    with pytest.raises(ConfigError, match=r"Did you mean 'num_actions_chunk'\?"):
        serve.open_model(wrong)

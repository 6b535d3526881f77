from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import uvicorn
from fastapi import FastAPI

from stillframe import serve
from stillframe.config import DaemonConfig, load_config
from stillframe.errors import CheckpointError, ConfigError, Internal, Unprocessable

WAIT_S = 20


def config(**values: object) -> DaemonConfig:
    """A configuration on a free port."""
    return load_config(None, {"checkpoint": Path("nowhere"), "port": 0} | values)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What the daemon listens on."""
    with serve._listen(config()) as made:
        yield made


def test_a_reply_does_not_wait_for_the_next(listener: socket.socket) -> None:
    """Connections that the daemon accepts have Nagle's delay off: asyncio does so where the listener names TCP."""
    server = uvicorn.Server(serve._uvicorn_config(FastAPI()))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        with socket.create_connection(listener.getsockname()[:2], timeout=WAIT_S):
            give_up_s = time.monotonic() + WAIT_S
            while not server.server_state.connections and time.monotonic() < give_up_s:
                time.sleep(0.005)
            (accepted,) = server.server_state.connections
            ours = accepted.transport.get_extra_info("socket")
            nodelay = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        server.should_exit = True
        thread.join(WAIT_S)

    assert listener.proto == socket.IPPROTO_TCP
    assert nodelay != 0


def test_the_second_daemon_on_a_port_is_refused(listener: socket.socket) -> None:
    """Even while the first has not begun to accept: both could bind, but only one can listen."""
    port = listener.getsockname()[1]

    with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{port}: .*in use; choose another --port"):
        serve._listen(config(port=port))


def test_an_address_that_is_not_ours_is_refused() -> None:
    """The address is in the error."""
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0: "):
        serve._listen(config(host="192.0.2.1"))


def test_the_daemon_listens_on_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with colons is an IPv6 address."""
    bound: list[object] = []
    monkeypatch.setattr(socket.socket, "bind", lambda self, address: bound.append((self.family, address)))
    monkeypatch.setattr(socket.socket, "listen", lambda _self, _backlog: None)
    serve._listen(config(host="::1")).close()

    assert bound == [(socket.AF_INET6, ("::1", 0))]


@pytest.mark.parametrize(
    ("gpu", "name", "device", "auto_dtype"),
    [
        (False, "auto", "cpu", torch.float32),
        (False, "cpu", "cpu", torch.float32),
        (True, "auto", "cuda", torch.bfloat16),
        (True, "cuda", "cuda", torch.bfloat16),
        (True, "cpu", "cpu", torch.float32),
    ],
)
def test_device_and_dtype_are_chosen(
    monkeypatch: pytest.MonkeyPatch, *, gpu: bool, name: str, device: str, auto_dtype: torch.dtype
) -> None:
    """`auto` is a GPU where there is one, and then bfloat16; whoever names a dtype gets it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    chosen = serve.choose_device(name)

    assert chosen.type == device
    assert serve._dtype("auto", chosen) == auto_dtype
    assert serve._dtype("float32", chosen) == torch.float32
    assert serve._dtype("bfloat16", chosen) == torch.bfloat16


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a 7B model on a CPU by mistake."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(ConfigError, match="device is 'cuda', but torch sees no GPU; use 'auto' or 'cpu'"):
        serve.open_model(config(device="cuda"))


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    """Before a frame is taken, by name."""
    with pytest.raises(CheckpointError, match="is not a folder"):
        serve.open_model(config(checkpoint=tmp_path / "none"))


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
    """Told to stop while it loads, the daemon leaves after DRAIN_S; what the signals did before, they do again."""
    loading, go_on = threading.Event(), threading.Event()

    def load(*_: object) -> None:
        loading.set()
        go_on.wait(WAIT_S)
        raise ConfigError("loaded after all")

    def stop() -> None:
        loading.wait(WAIT_S)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(serve, "open_engine", load)
    monkeypatch.setattr(serve, "DRAIN_S", 0.01)
    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop).start()
    serve.serve(config(), logging.getLogger("serve-test"))
    (loader,) = [thread for thread in threading.enumerate() if isinstance(thread, serve.Loader)]

    assert loader.is_alive()
    assert loader.daemon
    assert signal.getsignal(signal.SIGTERM) is before
    go_on.set()
    loader.join(WAIT_S)

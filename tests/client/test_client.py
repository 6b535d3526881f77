from __future__ import annotations

import ast
import functools
import http.client
import json
import socket
import threading

import httpx
import numpy as np
import pytest

from stillframe_client import (
    NotReady,
    PolicyClient,
    PolicyError,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unprocessable,
    Unreachable,
)
from stillframe_client.wire import decode_array


@pytest.fixture
def client(daemon):
    """A client of the running daemon."""
    with PolicyClient(daemon.url, timeout_s=20) as client:
        yield client


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_exact_encodings_give_the_exact_action(client, picture, encoding):
    """What the policy computed arrives to the last bit, whether as an array or as decimal numbers."""
    action = client.act(picture, "reach", encoding=encoding)

    assert action.dtype == np.float64
    assert action.tolist() == [int(picture.sum()) / 3, 1 / 3, 5 / 3, 0.0, 0.0, 0.0, 1 / 3]


def test_jpeg_gives_a_near_action(client, picture):
    """JPEG loses a little of the picture, so the sum of its pixels is near."""
    action = client.act(picture, "reach", encoding="jpeg")

    assert action[0] == pytest.approx(int(picture.sum()) / 3, rel=0.02)


def test_a_mapping_names_the_cameras(client, picture):
    """A mapping is sent as named pictures; an unknown name is refused with its code."""
    assert client.act({"front": picture}, "reach").shape == (7,)
    with pytest.raises(Unprocessable, match="front") as caught:
        client.act({"fornt": picture}, "reach")
    assert caught.value.code == "unknown-camera"


def test_the_report(client, picture):
    """The report holds every action that was sent, stage times in order, the id and whether it was late."""
    reply = client.act_with_report(picture, "reach", unnorm_key="bridge_orig", encoding="png", max_age_ms=15_000)

    assert reply.actions.shape == (2, 7)
    assert np.array_equal(reply.actions[1], -reply.action)
    assert list(reply.timing_ms) == ["receive", "unpack", "queue", "prefill", "total"]
    assert reply.late is False
    assert reply.request_id


def test_info(client):
    """The client learns the contract it programs against."""
    info = client.info()

    assert (info.name, info.cameras, info.image_size, info.chunk_horizon) == ("sums", ("front",), (224, 224), 2)
    assert info.action_names[-1] == "gripper"
    assert info.unnorm_keys == ("jaco", "bridge_orig")
    assert info.default_unnorm_key == "jaco"
    assert info.card["action"]["fields"][3]["unit"] == "rad"


def test_one_connection_without_delay(daemon, picture):
    """Frames travel on one kept-alive connection, with TCP_NODELAY set."""
    seen = []

    def look(response):
        sock = response.extensions["network_stream"].get_extra_info("socket")
        seen.append((sock.getsockname()[1], sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))

    with PolicyClient(daemon.url) as client:
        client._http.event_hooks = {"response": [look]}
        for _ in range(3):
            client.act(picture, "reach")

    assert len({port for port, _ in seen}) == 1
    assert all(no_delay for _, no_delay in seen)


def test_a_silent_policy_times_out(daemon, picture):
    """A wait beyond timeout_s ends in TimedOut, not in a hang."""
    daemon.policy.go_on.clear()
    with PolicyClient(daemon.url, timeout_s=0.6) as client, pytest.raises(TimedOut, match=r"0\.6 s"):
        client.act(picture, "reach")


def test_nobody_listens(picture):
    """A refused connection says what to check."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        port = taken.getsockname()[1]
        with PolicyClient(f"http://127.0.0.1:{port}") as client, pytest.raises(Unreachable, match="stillframe serve"):
            client.act(picture, "reach")


def test_a_connection_that_breaks(picture):
    """A peer that closes without an answer, and closes when asked once more, is a broken connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: [server.accept()[0].close() for _ in range(2)], daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with PolicyClient(url) as client, pytest.raises(Unreachable, match="broke"):
            client.act(picture, "reach")


def test_a_picture_over_the_limits(client):
    """A body over the daemon's limit is answered, also over a real socket, and the client lives on."""
    with pytest.raises(TooLarge) as caught:
        client.act(np.zeros((600, 600, 3), np.uint8), "reach")

    assert caught.value.code == "body-too-large"
    assert client.act(np.zeros((8, 8, 3), np.uint8), "reach")[0] == 0


def test_an_endless_body_over_a_real_socket(daemon):
    """A chunked body without a length is cut off with a problem while it is still being sent."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    host, port = daemon.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        sock.sendall(b"POST /act HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + 17 * chunk)
        response = http.client.HTTPResponse(sock, method="POST")
        response.begin()
        document = json.loads(response.read())

    assert (response.status, document["code"]) == (413, "body-too-large")


def test_wait_ready_follows_the_daemon(daemon):
    """wait_ready returns once the policy is ready, and not before."""
    daemon.policy.ready = False
    with PolicyClient(daemon.url) as client:
        with pytest.raises(TimedOut, match="warming"):
            client.wait_ready(0.1, poll_s=0.02)
        threading.Timer(0.05, lambda: setattr(daemon.policy, "ready", True)).start()
        client.wait_ready(20, poll_s=0.01)

    assert daemon.policy.ready


def test_wait_ready_where_nobody_listens():
    """A daemon that has not opened its port yet counts as not ready."""
    with PolicyClient("http://127.0.0.1:1", timeout_s=1) as client, pytest.raises(TimedOut, match="Nothing answers"):
        client.wait_ready(0.05, poll_s=0.01)


def test_draining_is_typed(daemon, picture):
    """A daemon that stops says so, and for how long to stay away."""
    daemon.lifecycle.drain()
    with PolicyClient(daemon.url) as client, pytest.raises(NotReady) as caught:
        client.act(picture, "reach")

    assert (caught.value.code, caught.value.retry_after_s) == ("draining", 10.0)


@pytest.mark.parametrize("timeout_s", [None, 0, -1, float("inf"), float("nan"), True, "5"])
def test_timeouts_are_mandatory(timeout_s):
    """Waiting for ever is not offered."""
    with pytest.raises(ValueError, match="timeout_s"):
        PolicyClient("http://127.0.0.1:8000", timeout_s=timeout_s)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://robot", "http://", "", None, "http://[::1"])
def test_addresses_are_checked(url):
    """What is not an http address is refused at once, with an example."""
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:8000"):
        PolicyClient(url)


def test_what_is_sent(picture):
    """The frame on the wire holds what was asked and nothing that was not; a prefix in the URL is kept."""
    sent = []

    def answer(request):
        sent.append(request)
        return httpx.Response(200, json={"actions": [[0.0] * 7]})

    with PolicyClient("http://robot.test/arm/", transport=httpx.MockTransport(answer)) as client:
        client.act(picture, "reach", encoding="png")
        client.act({"front": picture}, "reach", unnorm_key="jaco", max_age_ms=80, slack_ms=400.0)

        client.act({"front": picture}, "reach", masks={"front": picture[..., 0] > 0})

    assert [str(request.url) for request in sent] == ["http://robot.test/arm/act"] * 3
    assert [list(json.loads(request.content)) for request in sent] == [
        ["image", "instruction"],
        ["images", "instruction", "unnorm_key", "max_age_ms", "slack_ms"],
        ["images", "instruction", "masks"],
    ]
    assert decode_array(json.loads(sent[2].content)["masks"]["front"]).tolist() == (picture[..., 0] > 0).tolist()


def test_a_token(picture):
    """It is shown with every request; what cannot be one is refused, and not repeated."""
    sent = []

    def answer(request):
        sent.append(request.headers.get("authorization"))
        return httpx.Response(200, json={"actions": [[0.0] * 7]})

    transport = httpx.MockTransport(answer)
    with PolicyClient("http://robot.test", token="t0ken", transport=transport) as client:  # noqa: S106 -- of no daemon
        client.act(picture, "reach")
    with PolicyClient("http://robot.test", transport=transport) as client:
        client.act(picture, "reach")

    assert sent == ["Bearer t0ken", None]
    with pytest.raises(ValueError, match="printable") as caught:
        PolicyClient("http://robot.test", token="two words")  # noqa: S106 -- of no daemon
    assert "two" not in str(caught.value)


def test_an_encoding_for_all_frames(picture):
    """The client's own encoding holds unless an act names another."""
    sent = []

    def answer(request):
        sent.append(type(json.loads(request.content)["image"]))
        return httpx.Response(200, json={"actions": [[0.0] * 7]})

    with PolicyClient("http://robot.test", encoding="jpeg", transport=httpx.MockTransport(answer)) as client:
        client.act(picture, "reach")
        client.act(picture, "reach", encoding="raw")

    assert sent == [str, dict]


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (httpx.ConnectTimeout, Unreachable, r"No connection .* within 7\.0 s"),
        (httpx.ReadTimeout, TimedOut, r"No answer .* within 7\.0 s"),
        (httpx.WriteTimeout, TimedOut, r"No answer .* within 7\.0 s"),
        (httpx.PoolTimeout, TimedOut, r"No answer .* within 7\.0 s"),
        (httpx.ConnectError, Unreachable, "stillframe serve"),
        (httpx.ReadError, Unreachable, "broke before the answer"),
        (httpx.WriteError, Unreachable, "broke before the answer"),
        (httpx.RemoteProtocolError, Unreachable, "broke before the answer"),
        (httpx.TooManyRedirects, PolicyError, "failed: TooManyRedirects"),
    ],
)
def test_no_foreign_exception_escapes(picture, failure, kind, words):
    """Whatever the HTTP library raises, callers catch a PolicyError: of the kind that it is, in words that help."""

    def fail(_):
        raise failure("oops")

    client = PolicyClient("http://robot.test", timeout_s=7, transport=httpx.MockTransport(fail))
    for call in (lambda: client.act(picture, "reach"), client.reset, client.info):
        with pytest.raises(PolicyError, match=words) as caught:
            call()
        assert type(caught.value) is kind


def test_a_proxy_in_the_environment_is_not_used(daemon, picture, monkeypatch):
    """An arm is not moved through what the environment happens to name: nothing is asked of it."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with PolicyClient(daemon.url, timeout_s=20) as client:
        assert client.act(picture, "reach").shape == (7,)
        assert client._http.trust_env is False


class Clock:
    """Time that passes only while the client sleeps."""

    def __init__(self):
        self.now_s = 50.0
        self.naps = []

    def monotonic(self):
        """Say what time it is."""
        return self.now_s

    def sleep(self, for_s):
        """Let it pass."""
        self.naps.append(for_s)
        self.now_s += for_s


@pytest.fixture
def clock(monkeypatch):
    """Time as the client sees it."""
    clock = Clock()
    monkeypatch.setattr("stillframe_client.client.time", clock)
    return clock


def replying(*outcomes):
    """A transport that gives one outcome after the other, the last one again and again; and what it was asked."""
    asked = []

    def answer(request):
        outcome = outcomes[min(len(asked), len(outcomes) - 1)]
        asked.append(request)
        if isinstance(outcome, type):
            raise outcome("oops")
        return outcome

    return asked, httpx.MockTransport(answer)


def not_yet():
    return httpx.Response(503, json={"code": "not-ready", "detail": "It is loading."})


def test_wait_ready_goes_on_until_the_daemon_is_ready(clock):
    """Not listening, too slow to answer, out of reach, loading: each is waited out, a fifth of a second at a time."""
    outcomes = httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadTimeout, httpx.ReadError, not_yet()
    asked, transport = replying(*outcomes, httpx.Response(200, json={"state": "ready"}))
    PolicyClient("http://robot.test", transport=transport).wait_ready(60)

    assert [request.url.path for request in asked] == ["/readyz"] * 6
    assert clock.naps == [0.2] * 5


def test_wait_ready_ends_within_its_time(clock):
    """It sleeps no longer than its time lasts, and says what the daemon said last."""
    asked, transport = replying(httpx.ConnectError, not_yet())
    with pytest.raises(TimedOut, match=r"after 1\.1 s.*loading"):
        PolicyClient("http://robot.test", transport=transport).wait_ready(1.1, poll_s=0.25)

    assert clock.naps == [0.25] * 4
    assert len(asked) == 5


@pytest.mark.parametrize("timeout_s", [0, None, float("inf")])
def test_wait_ready_has_to_end(timeout_s):
    """To wait for ever for a daemon is not offered either."""
    with pytest.raises(ValueError, match="timeout_s"):
        PolicyClient("http://robot.test").wait_ready(timeout_s)


def test_wait_ready_does_not_wait_for_what_will_not_come(clock):
    """A token that the daemon does not take is told at once."""
    asked, transport = replying(httpx.Response(401, json={"code": "unauthorized", "detail": "No."}))
    with pytest.raises(Unauthorized):
        PolicyClient("http://robot.test", transport=transport).wait_ready(60)

    assert (len(asked), clock.naps) == (1, [])


def test_the_client_reads_as_python_38(request):
    """No file of the client uses syntax that the robots' Python 3.8 does not know."""
    files = sorted((request.config.rootpath / "client/stillframe_client").rglob("*.py"))

    assert len(files) >= 6
    for file in files:
        ast.parse(file.read_text(encoding="utf-8"), file.name, feature_version=(3, 8))


def test_the_readmes_examples_run(daemon, request):
    """The examples of client/README.md run as they stand, one after the other, against this daemon's address."""
    text = (request.config.rootpath / "client/README.md").read_text(encoding="utf-8")
    examples = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    here = {"http://127.0.0.1:8000": daemon.url, "port=8000": f"port={daemon.port}"}
    here |= {"hz=5.0": "hz=2.0", "range(10)": "range(3)"}  # calmer: other tests may have the processor
    names: dict = {}
    for example in examples:
        text = functools.reduce(lambda text, word: text.replace(word, here[word]), here, example)
        exec(compile(text, "README.md", "exec"), names)  # noqa: S102 -- our own text

    assert len(examples) == 5
    assert names["action"].shape == (7,)
    assert names["chunk"].shape == (2, 7)

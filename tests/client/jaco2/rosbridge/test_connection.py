from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stillframe_client.jaco2.rosbridge import connection as room
from stillframe_client.jaco2.rosbridge.calls import Reply
from stillframe_client.jaco2.rosbridge.connection import Connection
from stillframe_client.jaco2.rosbridge.dial import RosbridgeError
from stillframe_client.jaco2.rosbridge.session import SILENT_S

TOPIC, KIND = "/j2n6s300_driver/in/cartesian_velocity", "kinova_msgs/PoseVelocity"
POSE = "/j2n6s300_driver/out/tool_pose"
POSE_KIND = "geometry_msgs/PoseStamped"


@pytest.fixture
def new_connection() -> Iterator[Callable[..., Connection]]:
    """Make connections that are closed with the test."""
    made: list[Connection] = []

    def make(url: str, **options: Any) -> Connection:
        made.append(Connection(url, **options))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


@pytest.fixture
def link(fake_driver: Any, new_connection: Callable[..., Connection]) -> Connection:
    """An open connection that advertises the velocity topic and hears the driver's poses."""
    connection = new_connection(fake_driver.url)
    connection.advertise(TOPIC, KIND)
    connection.open(10)
    return connection


def ignore(message: Any) -> None:
    """Take it."""


def until(holds: Callable[[], Any], within_s: float = 60.0) -> None:
    """Wait until it holds."""
    ends_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends_s, "it did not come to hold"
        time.sleep(0.005)


def test_it_advertises_and_subscribes_with_queues_of_one(fake_driver: Any, link: Connection) -> None:
    """What is late is dropped in the server as well: queue_size and queue_length are 1."""
    link.subscribe(POSE, POSE_KIND, ignore, throttle_ms=50)
    fake_driver.until(lambda: POSE in fake_driver.sessions[-1].subscribed)

    session = fake_driver.sessions[-1]
    assert session.advertised[TOPIC]["queue_size"] == 1
    assert session.advertised[TOPIC]["type"] == KIND
    asked = session.subscribed[POSE]
    assert (asked["queue_length"], asked["throttle_rate"], asked["type"]) == (1, 50, POSE_KIND)


def test_messages_go_both_ways(fake_driver: Any, link: Connection) -> None:
    """A published twist reaches the driver, its poses reach the taker, and both are counted."""
    poses: list[dict[str, Any]] = []
    link.subscribe(POSE, POSE_KIND, poses.append)

    assert link.publish(TOPIC, {"twist_linear_x": 0.05})
    fake_driver.until(lambda: fake_driver.node.commands)
    until(lambda: len(poses) >= 2)

    assert fake_driver.node.commands[0][1][0] == pytest.approx(0.05)
    assert poses[0]["pose"]["position"]["z"] == pytest.approx(0.3)
    assert link.counts.published == 1
    assert link.counts.garbage == 0


def test_the_socket_has_no_nagle_delay(fake_driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP_NODELAY is on: a hundred small messages a second are not held back for an acknowledgement."""
    opened: list[Any] = []
    dial = room.dial
    monkeypatch.setattr(room, "dial", lambda *arguments: opened.append(dial(*arguments)) or opened[-1])
    connection = Connection(fake_driver.url)
    connection.open(10)
    assert opened[0].socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    connection.close()


def test_it_comes_back_and_says_all_again(fake_driver: Any, link: Connection) -> None:
    """After a break topics are advertised and subscribed anew, and messages flow again."""
    poses: list[dict[str, Any]] = []
    link.subscribe(POSE, POSE_KIND, poses.append)
    until(lambda: poses)
    fake_driver.cut()
    fake_driver.until(lambda: len(fake_driver.sessions) == 2 and POSE in fake_driver.sessions[1].subscribed)

    assert fake_driver.sessions[1].advertised.keys() == fake_driver.sessions[0].advertised.keys()
    until(lambda: link.is_open)
    seen = len(poses)
    assert link.publish(TOPIC, {"twist_linear_x": 0.01})
    fake_driver.until(lambda: fake_driver.node.commands)
    until(lambda: len(poses) > seen)
    assert link.counts.connects == 2


def test_on_open_is_called_after_every_connect(fake_driver: Any, new_connection: Callable[..., Connection]) -> None:
    """What has to be said to a server that is back is said as soon as it is."""
    opened: list[float] = []
    connection = new_connection(fake_driver.url)
    connection.on_open(lambda: opened.append(time.monotonic()))
    connection.open(10)
    until(lambda: len(opened) == 1)
    fake_driver.cut()
    until(lambda: len(opened) == 2)


def test_while_the_server_is_away_publishing_is_refused(fake_driver: Any, link: Connection) -> None:
    """Nothing is kept for later: what was published while there was no connection never arrives."""
    fake_driver.down()
    until(lambda: not link.is_open)
    assert not link.publish(TOPIC, {"twist_linear_x": 0.07})
    fake_driver.up()
    until(lambda: link.is_open)
    assert link.publish(TOPIC, {"twist_linear_x": 0.01})
    fake_driver.until(lambda: fake_driver.node.commands)
    assert [command[1][0] for command in fake_driver.node.commands] == pytest.approx([0.01])


def test_a_server_that_stands_still_gets_no_burst_afterwards(fake_driver: Any, link: Connection) -> None:
    """Publishing never waits for it, is dropped soon, and what it had before it when it comes back is bounded."""
    longest_s, taken = 0.0, 0
    fake_driver.hang(1.2)
    ends_s = time.monotonic() + 1.0
    while time.monotonic() < ends_s:
        begin_s = time.perf_counter()
        taken += link.publish(TOPIC, {"twist_linear_x": 0.05})
        longest_s = max(longest_s, time.perf_counter() - begin_s)
        time.sleep(0.01)
    time.sleep(1.0)

    assert longest_s < 0.2
    assert link.counts.dropped > 30
    assert taken < 50
    assert fake_driver.do(lambda: len(fake_driver.node.arrivals_s)) <= taken
    assert link.is_open
    assert link.publish(TOPIC, {"twist_linear_x": 0.01})


def test_a_server_that_never_answers_again_is_left(fake_driver: Any, link: Connection) -> None:
    """After SILENT_S without an answer to a ping the connection counts as broken, and is made anew."""
    fake_driver.hang(SILENT_S + 1.5)
    until(lambda: not link.is_open)
    assert "no answer to a ping" in link.why_closed
    until(lambda: link.is_open)


def test_a_peer_that_reads_nothing_blocks_no_caller(new_connection: Callable[..., Connection]) -> None:
    """Even with full socket buffers `publish` returns at once, and drops."""
    with Deaf() as deaf:
        connection = new_connection(deaf.url)
        connection.open(10)
        big = {"text": "x" * 400_000}
        longest_s = 0.0
        for _ in range(60):
            begin_s = time.perf_counter()
            connection.publish("/big", big)
            longest_s = max(longest_s, time.perf_counter() - begin_s)
            time.sleep(0.01)
        assert longest_s < 0.2
        assert connection.counts.dropped > 10
        begin_s = time.perf_counter()
        connection.close()
        assert time.perf_counter() - begin_s < 10


def test_only_the_newest_of_a_topic_waits(fake_driver: Any, link: Connection) -> None:
    """A burst of one topic never becomes a queue: what is not sent yet is replaced."""
    for number in range(500):
        link.publish(TOPIC, {"twist_linear_x": number / 1000})
    fake_driver.until(lambda: fake_driver.node.commands and fake_driver.node.commands[-1][1][0] == 0.499)
    fake_driver.until(lambda: link.counts.published + link.counts.dropped == 500)  # counted once it is sent

    assert link.counts.dropped > 0


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "",
        "[]",
        "null",
        "3",
        '"publish"',
        '{"op": "publish"}',
        '{"op": "publish", "topic": "/never/asked", "msg": {}}',
        json.dumps({"op": "publish", "topic": POSE, "msg": [1]}),
        json.dumps({"op": "publish", "topic": POSE, "msg": {"pose": 3}}),
        '{"op": ["publish"]}',
        '{"op": "service_response", "id": "call:/unasked:1", "result": true}',
        '{"op": "fragment", "data": "x"}',
        "[" * 100_000,
        "1" * 5000,
        b"\xff\x00binary",
        b"{}",
    ],
    ids=lambda text: f"{type(text).__name__}-{len(text)}-{str(text)[:12]}",
)
def test_garbage_is_counted_and_nothing_else(fake_driver: Any, link: Connection, text: str | bytes) -> None:
    """What is no message of this protocol changes nothing but a count; the connection stays."""

    def refuse(message: dict[str, Any]) -> None:
        if not isinstance(message.get("pose"), dict):
            raise ValueError("no pose")

    link.subscribe(POSE, POSE_KIND, refuse)
    fake_driver.send(text)
    until(lambda: link.counts.garbage == 1)

    seen = link.counts.received
    until(lambda: link.counts.received > seen)
    assert link.counts.connects == 1
    assert link.is_open


def test_statuses_are_kept_and_logged(fake_driver: Any, link: Connection, caplog: pytest.LogCaptureFixture) -> None:
    """What the server complains of is kept, the newest twenty, and logged, repeated ones once; news are not."""
    with caplog.at_level(logging.WARNING):
        fake_driver.say({"op": "status", "level": "info", "msg": "all is well"})
        for number in range(30):
            for _ in range(2):
                fake_driver.say({"op": "status", "level": "error", "msg": f"trouble {number}"})
        until(lambda: "trouble 29" in caplog.text)

    assert link.errors == tuple(f"trouble {number}" for number in range(10, 30))
    assert caplog.text.count("trouble 28") == 1
    assert "all is well" not in caplog.text


def test_a_call_is_answered(fake_driver: Any, link: Connection) -> None:
    """`call_and_wait` returns the service's values; `call` hands the reply to its caller."""
    assert link.call_and_wait("/j2n6s300_driver/in/stop", {}, 10) == {"stop_result": "done"}

    replies: list[Reply] = []
    link.call("/j2n6s300_driver/in/start", {}, replies.append)
    until(lambda: replies)
    assert replies == [Reply("", {"start_result": "done"})]
    assert [name for _, name in fake_driver.node.calls] == ["in/stop", "in/start"]


def test_a_call_that_fails_says_why(fake_driver: Any, link: Connection) -> None:
    """A service that is not there, one that fails, one that does not answer: RosbridgeError with the reason."""
    with pytest.raises(RosbridgeError, match=r"/none: rosbridge says: Service /none does not exist"):
        link.call_and_wait("/none", {}, 10)
    fake_driver.is_deaf = True
    with pytest.raises(RosbridgeError, match=r"no answer within 0\.2 s"):
        link.call_and_wait("/j2n6s300_driver/in/stop", {}, 0.2)


def test_a_break_ends_all_calls(fake_driver: Any, link: Connection) -> None:
    """A call that the connection did not survive ends with that reason, at once."""
    fake_driver.is_deaf = True
    failed: list[str] = []

    def call() -> None:
        try:
            link.call_and_wait("/j2n6s300_driver/in/stop", {}, 20)
        except RosbridgeError as error:
            failed.append(str(error))

    caller = threading.Thread(target=call)
    caller.start()
    time.sleep(0.2)
    fake_driver.cut()
    caller.join(60)
    assert len(failed) == 1
    assert "broke" in failed[0]


def test_calls_go_out_before_it_hangs_up(fake_driver: Any, link: Connection) -> None:
    """A call made just before `close` still arrives."""
    link.call("/j2n6s300_driver/in/stop", {}, ignore)
    link.close()
    fake_driver.until(lambda: fake_driver.node.calls)
    assert [name for _, name in fake_driver.node.calls] == ["in/stop"]


def test_nothing_there_is_said(new_port: Callable[[], int], new_connection: Callable[..., Connection]) -> None:
    """Where nothing listens, the error names the address and what to look at."""
    url = f"ws://127.0.0.1:{new_port()}"
    with pytest.raises(RosbridgeError, match=rf"{url}: no connection .*is rosbridge_server running"):
        new_connection(url).open(1)


def test_something_else_there_is_said(new_connection: Callable[..., Connection], daemon: Any) -> None:
    """Where another kind of server answers, the error says so."""
    with pytest.raises(RosbridgeError, match=r"what answers is no rosbridge_server"):
        new_connection(daemon.url.replace("http", "ws") + "/elsewhere").open(2)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9090", "127.0.0.1:9090", "ws://", "ws://host:port", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """Only ws:// addresses with a host are taken; the text shows one."""
    with pytest.raises(RosbridgeError, match=r"expected the address of rosbridge_server, such as ws://"):
        Connection(url)


def test_tls_is_refused_with_a_way_round_it() -> None:
    """Two threads use the connection; the text says how to reach a robot safely."""
    with pytest.raises(RosbridgeError, match=r"TLS is not spoken here.*ssh -L 9090"):
        Connection("wss://robot:9090")


def test_what_is_not_finite_is_not_published(link: Connection) -> None:
    """JSON has no NaN: a message with one is refused before it is sent."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        link.publish(TOPIC, {"twist_linear_x": float("nan")})


class Deaf:
    """A server that shakes hands and then reads nothing more."""

    def __enter__(self) -> Deaf:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for connected in self._sockets:
            connected.close()

    def _serve(self) -> None:
        from websockets.server import ServerProtocol

        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(connected)
            protocol = ServerProtocol()
            protocol.receive_data(connected.recv(65536))
            protocol.send_response(protocol.accept(protocol.events_received()[0]))
            connected.sendall(b"".join(protocol.data_to_send()))

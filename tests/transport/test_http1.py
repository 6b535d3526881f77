from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from stillframe.transport import http1, http_parser
from stillframe.transport.bounds import (
    BYTES_PER_EVENT,
    CONNECTION_BURST,
    EVENT_BURST,
    EVENTS_PER_TURN,
    HEAD_BYTES,
    HEAD_LINES,
    KEEP_ALIVE_S,
    MAX_CHUNKS,
)
from stillframe.transport.connections import Stage

Serve = Callable[..., Any]
WAIT_S = 60.0


def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition, not for ever."""
    give_up_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def test_a_connection_that_never_asks_is_closed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence, half a line, a line a while: without a complete head in time it is over; half a head is told why."""
    monkeypatch.setattr(http1, "HEAD_S", 0.3)
    served = serve()
    silent, half, slow = served.peer(), served.peer(), served.peer()
    half.send(b"GET / HT")
    slow.send(b"GET / HTTP/1.1\r\n")
    for _ in range(100):
        try:
            slow.send(b"X: y\r\n")
        except OSError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("a head that never ends was read for two seconds")

    assert silent.closed
    assert half.problem() == (408, "head-timeout")
    assert half.closed
    assert len(served.table) == 0


def test_a_second_request_has_a_deadline_too(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between requests a connection is kept far longer; once the next head begins it has to end in time."""
    monkeypatch.setattr(http1, "HEAD_S", 0.3)
    served = serve()
    idle, begun = served.peer(), served.peer()
    for peer in (idle, begun):
        peer.ask()
        assert peer.answer() == (200, b"{}")
    begun.send(b"GET / HTTP/1.1\r\nHo")

    assert begun.problem() == (408, "head-timeout")
    assert begun.closed
    idle.ask()
    assert idle.answer() == (200, b"{}")
    assert KEEP_ALIVE_S >= 75


def test_a_request_that_waits_for_its_answer_has_all_the_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are the client's, for what it owes; not the daemon's."""
    monkeypatch.setattr(http1, "HEAD_S", 0.05)
    monkeypatch.setattr(http1, "LINGER_S", 0.05)
    served = serve()
    peer = served.peer()
    peer.ask("/held")
    until(lambda: served.waiting == 1)
    time.sleep(0.3)
    served.server.config.loaded_app  # noqa: B018 (still serving)
    loop_of(served).call_soon_threadsafe(served.held.set)

    assert peer.answer() == (200, b'{"held":true}')


def loop_of(served: Any) -> Any:
    """The event loop that serves."""
    (connection,) = served.server.server_state.connections
    return connection.loop


def test_a_refused_body_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answered before its body is in, a connection is closed soon, whoever goes on sending it a byte at a time."""
    monkeypatch.setattr(http1, "LINGER_S", 0.3)
    served = serve()
    peer = served.peer()
    peer.ask("/nope", "Content-Length: 1000000", method="POST")
    assert peer.socket.recv(65536).startswith(b"HTTP/1.1 404 ")
    for _ in range(200):
        try:
            peer.send(b"x")
        except OSError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("the body of a refused request was taken for four seconds")

    until(lambda: len(served.table) == 0)


def test_a_refused_body_that_does_not_come_is_not_waited_for(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for as long as for the next request: nothing more comes at all, and the connection is closed soon."""
    monkeypatch.setattr(http1, "LINGER_S", 0.1)
    served = serve()
    peer = served.peer()
    peer.ask("/nope", "Content-Length: 1000000", method="POST")
    assert peer.answer()[0] == 404

    assert rest_of(peer) == b""


def test_a_refused_body_that_comes_is_left_behind(serve: Serve) -> None:
    """A client that sends on and then reads gets its answer, and the connection serves its next request."""
    served = serve()
    peer = served.peer()
    peer.ask("/nope", f"Content-Length: {2**20}", method="POST", body=bytes(2**20))
    assert peer.answer()[0] == 404
    peer.ask()

    assert peer.answer() == (200, b"{}")


@pytest.mark.parametrize("at_once", [True, False])
def test_a_body_in_too_many_chunks_is_refused(serve: Serve, at_once: bool) -> None:  # noqa: FBT001 (a parameter)
    """One chunk too many, in one go or many: a problem, and the connection is cut; the next client is served."""
    served = serve()
    peer = served.peer()
    peer.ask("/body", "Transfer-Encoding: chunked", method="POST")
    chunks = b"1\r\nx\r\n" * (MAX_CHUNKS + 1)
    for at in range(0, len(chunks), len(chunks) if at_once else 1000):
        peer.send(chunks[at : at + (len(chunks) if at_once else 1000)])

    assert peer.problem() == (413, "body-too-large")
    assert peer.closed
    assert served.alive()


def test_a_body_in_many_chunks_is_taken(serve: Serve) -> None:
    """As many as may be: byte for byte, and in turns of a few."""
    served = serve()
    peer = served.peer()
    peer.ask("/body", "Transfer-Encoding: chunked", method="POST")
    body = bytes(n % 251 for n in range(MAX_CHUNKS))
    peer.send(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")

    assert peer.answer()[0] == 200
    assert served.seen == [body]


def test_one_read_is_not_parsed_in_one_go() -> None:
    """A turn ends after a few events, and goes on where it was; nothing is lost."""
    parser = http_parser.BoundedH11()
    parser.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200)
    turns = []
    while True:
        parser.begin_turn()
        events = 0
        while parser.next_event() is not http1.h11.NEED_DATA:
            events += 1
        turns.append(events)
        if not parser.interrupted:
            break

    assert sum(turns) == 201
    assert max(turns) == EVENTS_PER_TURN


def test_others_are_served_between_two_turns(serve: Serve) -> None:
    """While a flood of tiny chunks is parsed, a request that came after it is answered before its end."""
    served = serve()
    flood, robot = served.peer(), served.peer()
    flood.ask("/body", "Transfer-Encoding: chunked", method="POST")
    until(lambda: len(served.server.server_state.connections) == 2)
    loop = next(iter(served.server.server_state.connections)).loop
    ours, theirs = socket.socketpair()  # the loop is held until both have sent
    loop.call_soon_threadsafe(theirs.recv, 1)
    flood.send(b"1\r\nx\r\n" * MAX_CHUNKS + b"0\r\n\r\n")
    robot.ask()
    ours.send(b"x")
    assert robot.answer() == (200, b"{}")
    assert flood.answer()[0] == 200
    ours.close()
    theirs.close()

    assert served.order == ["plain", "body"]
    assert served.seen == [b"x" * MAX_CHUNKS]


@pytest.mark.parametrize(
    "head",
    [
        [f"X-{n}: y" for n in range(HEAD_LINES)],  # beside Host
        ["X: " + "y" * HEAD_BYTES],
        [f"X-{n}: " + "y" * 1000 for n in range(20)],
    ],
    ids=["lines", "one line", "bytes"],
)
def test_a_head_has_bounds(serve: Serve, head: list[str]) -> None:
    """Lines and bytes, though it comes in one go: a problem, and the connection is cut."""
    served = serve()
    peer = served.peer()
    peer.ask("/", *head)

    assert peer.problem() == (431, "head-too-large")
    assert peer.closed
    assert served.alive()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HT",
        b"POST /body HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nX : y\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["both lengths", "chunks in 1.0", "two lengths", "gzip", "TLS", "a space", "nonsense"],
)
def test_what_is_no_request_is_answered_with_a_problem(serve: Serve, request_bytes: bytes) -> None:
    """And cut: what comes behind it could be anything. A 4xx or 501, never text that clients cannot read."""
    served = serve()
    peer = served.peer()
    peer.send(request_bytes)
    status, code = peer.problem()

    assert (status, code) == (400, "bad-request")
    assert peer.closed
    assert served.seen == []


def test_a_client_that_sends_no_more_gets_its_answer(serve: Serve) -> None:
    """As `nc -N` does: its end of sending is closed, and it reads until the other is."""
    served = serve()
    peer = served.peer()
    peer.ask("/held")
    peer.socket.shutdown(socket.SHUT_WR)
    until(lambda: served.waiting == 1)
    time.sleep(0.2)
    loop_of(served).call_soon_threadsafe(served.held.set)

    assert peer.answer() == (200, b'{"held":true}')
    assert peer.closed
    assert served.gone == 0


def test_a_client_that_has_gone_is_noticed(serve: Serve) -> None:
    """Its socket is closed altogether, which looks the same at first: nothing is computed for it."""
    served = serve()
    peer = served.peer()
    peer.ask("/held")
    until(lambda: served.waiting == 1)
    peer.socket.close()

    until(lambda: served.gone == 1)
    until(lambda: len(served.table) == 0)


def test_half_a_body_is_not_waited_for_once_it_cannot_come(serve: Serve) -> None:
    """The client has ended what it sends in the middle of a body: the app is told that it left."""
    served = serve()
    peer = served.peer()
    peer.ask("/body", "Content-Length: 10", method="POST", body=b"half")
    until(lambda: len(served.table) == 1)
    peer.socket.shutdown(socket.SHUT_WR)

    until(lambda: len(served.seen) == 1)
    assert served.seen[0] is not None
    assert not isinstance(served.seen[0], bytes)


def test_a_flood_of_connections_displaces_itself(serve: Serve) -> None:
    """More than may be: the oldest silent one goes for each, and a client that asks is answered all the while."""
    served = serve(capacity=4)
    flood = [served.reached() for _ in range(3)]
    robot = served.reached()
    robot.ask()
    assert robot.answer()[0] == 200
    for n in range(20):
        flood.append(served.peer())
        until(lambda n=n: served.table.displaced == n + 1)
        robot.ask()
        assert robot.answer()[0] == 200

    assert flood[0].closed
    assert len(served.table) == 4


def test_without_room_one_is_told_so(serve: Serve) -> None:
    """Each connection waits for an answer: 503 with a problem and the time to wait, and it is closed."""
    served = serve(capacity=1)
    busy = served.peer()
    busy.ask("/held")
    until(lambda: served.waiting == 1)
    peer = served.peer()

    assert peer.problem() == (503, "overloaded")
    assert peer.closed
    assert served.table.refused == 1


def test_requests_in_a_row_are_all_answered(serve: Serve) -> None:
    """More of them in one go than one turn parses, in their order."""
    served = serve()
    peer = served.peer()
    one = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    peer.send(one * (2 * EVENTS_PER_TURN))

    assert [peer.answer() for _ in range(2 * EVENTS_PER_TURN)] == [(200, b"{}")] * 2 * EVENTS_PER_TURN


def test_too_many_connections_of_one_address_wait_unread(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what comes at once from one place: they are closed after a while, and displace none that came before."""
    monkeypatch.setattr(http1, "TARPIT_S", 0.3)
    served = serve(requests_per_s=1e-6)
    first = [served.reached() for _ in range(CONNECTION_BURST)]
    late = served.peer()
    late.ask()
    assert late.closed
    until(lambda: served.table._tarpitted == 0)
    first[0].ask()

    assert first[0].answer() == (200, b"{}")
    assert (served.table.refused, served.table.displaced, len(served.table)) == (1, 0, CONNECTION_BURST)


def test_where_none_may_wait_they_are_cut_at_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptors do not suffice for more."""
    monkeypatch.setattr(http1, "TARPIT_S", 3600.0)
    served = serve(requests_per_s=1e-6, max_tarpitted=1)
    for _ in range(CONNECTION_BURST):
        served.reached()
    waiting = served.peer()
    until(lambda: served.table._tarpitted == 1)

    assert served.peer().closed
    waiting.socket.close()


def test_a_connection_that_asks_for_too_much_is_read_more_slowly(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is lost: what is over the allowance of its address waits until that has filled again."""
    monkeypatch.setattr(http1, "THROTTLE_DELAY_S", 0.01)
    now_s = [0.0]
    served = serve(requests_per_s=1.0, clock=lambda: now_s[0])
    peer = served.reached()
    (connection,) = served.server.server_state.connections
    served.table.event_bucket(connection).charge(EVENT_BURST)
    peer.ask("/body", "Content-Length: 4", method="POST", body=b"slow")
    peer.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        peer.socket.recv(1)
    peer.socket.settimeout(WAIT_S)
    now_s[0] = 10.0

    assert peer.answer()[0] == 200
    assert served.seen == [b"slow"]


def test_bytes_count_too(serve: Serve) -> None:
    """A large body takes of its address' allowance by its size, though it comes in few events."""
    served = serve(requests_per_s=1.0, clock=lambda: 0.0)
    peer = served.peer()
    peer.ask("/body", f"Content-Length: {2**22}", method="POST", body=bytes(2**22))

    assert peer.answer()[0] == 200
    (connection,) = served.server.server_state.connections
    left = served.table.event_bucket(connection).available(0.0)
    assert EVENT_BURST - left >= 2**22 / BYTES_PER_EVENT


@pytest.mark.parametrize("one_caller", [True, False])
def test_where_addresses_tell_nothing_each_connection_has_its_own(serve: Serve, one_caller: bool) -> None:  # noqa: FBT001
    """One that had too much parsed is read more slowly; another of the same machine has an allowance of its own."""
    served = serve(requests_per_s=1e-9, clock=lambda: 0.0, one_caller=one_caller)
    flood = served.reached()
    (connection,) = served.server.server_state.connections
    served.table.event_bucket(connection).charge(2 * EVENT_BURST)
    robot = served.peer()
    robot.ask()
    robot.socket.settimeout(WAIT_S if one_caller else 0.3)
    if one_caller:
        assert robot.answer() == (200, b"{}")
    else:
        with pytest.raises(TimeoutError):
            robot.answer()
    flood.socket.close()


def test_the_next_body_may_have_as_many_chunks(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted for each request, not for its connection."""
    monkeypatch.setattr(http_parser, "MAX_CHUNKS", 20)
    served = serve()
    peer = served.peer()
    for _ in range(3):
        peer.ask("/body", "Transfer-Encoding: chunked", method="POST", body=b"1\r\nx\r\n" * 20 + b"0\r\n\r\n")
        assert peer.answer()[0] == 200

    assert served.seen == [b"x" * 20] * 3


def request_of(target_bytes: int, headers: int, header_bytes: int) -> bytes:
    """A request whose target has so many bytes, and so many headers, which have so many names' and values' bytes."""
    each, rest = divmod(header_bytes - len("Hosta"), headers - 1)
    lines = [b"%04d" % n + b": " + b"y" * (each - 4 + (rest if n == 0 else 0)) for n in range(headers - 1)]
    return b"\r\n".join([b"GET /" + b"t" * (target_bytes - 1) + b" HTTP/1.1", b"Host: a", *lines, b"", b""])


@pytest.mark.parametrize(
    ("size", "taken"),
    [
        ((1, HEAD_LINES, 1000), True),
        ((1, HEAD_LINES + 1, 1000), False),
        ((1, 50, HEAD_BYTES - 1), True),
        ((1, 50, HEAD_BYTES), False),
        ((1000, 50, HEAD_BYTES - 1000), True),
        ((1001, 50, HEAD_BYTES - 1000), False),
    ],
)
def test_a_head_at_its_bounds_is_taken(size: tuple[int, int, int], taken: bool) -> None:  # noqa: FBT001 (a parameter)
    """A line or a byte more is too many, in the target as in the headers; though all of it comes in one go."""
    parser = http_parser.BoundedH11()
    parser.receive_data(request_of(*size))
    if taken:
        assert isinstance(parser.next_event(), http1.h11.Request)
    else:
        with pytest.raises(http_parser.RefusedRequest) as caught:
            parser.next_event()
        assert caught.value.error.code == "head-too-large"


class Reading:
    """A transport that knows whether it is read."""

    on = True

    def is_closing(self) -> bool:
        """It is not."""
        return False

    def pause_reading(self) -> None:
        """Do not read."""
        self.on = False

    def resume_reading(self) -> None:
        """Read."""
        self.on = True


def test_reading_waits_until_all_is_parsed() -> None:
    """And until uvicorn has room, whichever comes last."""
    transport = Reading()

    async def script() -> list[bool]:
        flow = http1.ReadFlow(transport)  # type: ignore[arg-type]
        seen = []
        for step in ("hold", "resume", "parsed", "pause", "hold", "parsed", "resume", "pause", "hold", "resume"):
            if step in {"hold", "parsed"}:
                flow.set_unparsed(unparsed=step == "hold")
            else:
                getattr(flow, f"{step}_reading")()
            seen.append(transport.on)
        return seen

    assert asyncio.run(script()) == [False, False, True, False, False, False, True, False, False, False]


def test_one_is_not_read_while_there_is_something_to_parse(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each turn that ended early; after the last it is read again."""
    reads: list[bool] = []
    resume = http1.HttpConnection._resume

    def resumed(self: http1.HttpConnection) -> None:
        reads.append(self.transport.is_reading())
        resume(self)

    monkeypatch.setattr(http1.HttpConnection, "_resume", resumed)
    served = serve()
    peer = served.peer()
    body = b"1\r\nx\r\n" * (4 * EVENTS_PER_TURN) + b"0\r\n\r\n"
    peer.ask("/body", "Transfer-Encoding: chunked", method="POST", body=body)
    assert peer.answer()[0] == 200
    peer.ask()

    assert peer.answer() == (200, b"{}")
    assert len(reads) >= 1
    assert not any(reads)


def held_by(served: Any) -> Any:
    """The one connection of the table."""
    (connection,) = served.table._open
    return connection


def test_how_far_a_connection_is(serve: Serve) -> None:
    """Nothing asked, answered, a body that comes, an answer that is waited for; and whose it is."""
    served = serve()
    peer = served.reached()
    until(lambda: len(served.table) == 1)
    assert held_by(served).stage is Stage.NEW
    peer.ask()
    assert peer.answer()[0] == 200
    until(lambda: held_by(served).stage is Stage.IDLE)
    peer.ask("/body", "Content-Length: 4", method="POST", body=b"ha")
    until(lambda: held_by(served).stage is Stage.SENDING)
    peer.send(b"lf")
    assert peer.answer()[0] == 200
    peer.ask("/held")
    until(lambda: served.waiting == 1)

    assert held_by(served).stage is Stage.BUSY
    assert held_by(served).address == "127.0.0.1"


def test_a_stages_time_begins_with_it(serve: Serve) -> None:
    """What a connection did before does not make it older."""
    now_s = [1.0]
    served = serve(clock=lambda: now_s[0])
    peer = served.reached()
    until(lambda: len(served.table) == 1)
    assert held_by(served).since_s == 1.0
    now_s[0] = 5.0
    peer.ask("/body", "Content-Length: 4", method="POST", body=b"ha")

    until(lambda: held_by(served).since_s == 5.0)


def test_a_client_that_goes_later_is_noticed(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sent no more and waited for a while: it is asked again and again whether it is there."""
    checks: list[None] = []
    check = http1.HttpConnection._check_half_closed

    def checked(self: http1.HttpConnection) -> None:
        checks.append(None)
        check(self)

    monkeypatch.setattr(http1.HttpConnection, "_check_half_closed", checked)
    monkeypatch.setattr(http1, "HALF_CLOSED_EVERY_S", 0.01)
    served = serve()
    peer = served.peer()
    peer.ask("/held")
    until(lambda: served.waiting == 1)
    peer.socket.shutdown(socket.SHUT_WR)
    until(lambda: len(checks) >= 3)
    assert served.gone == 0
    peer.socket.close()

    until(lambda: served.gone == 1)


def rest_of(peer: Any) -> bytes:
    """All that comes until the connection is closed."""
    parts = []
    while part := peer.socket.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_no_problem_is_written_into_an_answer(serve: Serve) -> None:
    """What is wrong with a body that was answered already closes the connection, and no more."""
    served = serve()
    peer = served.peer()
    peer.ask("/nope", "Transfer-Encoding: chunked", method="POST", body=b"1\r\nx\r\n")
    assert peer.answer()[0] == 404
    peer.send(b"no chunk\r\n")

    assert rest_of(peer) == b""


def test_without_room_one_is_told_when_to_come_again(serve: Serve) -> None:
    """And that the connection is closed, as with every problem that is written before there is a request."""
    served = serve(capacity=1)
    busy = served.peer()
    busy.ask("/held")
    until(lambda: served.waiting == 1)
    head = rest_of(served.peer()).lower()

    assert b"\r\nretry-after: 5\r\n" in head
    assert b"\r\nconnection: close\r\n" in head


def test_a_head_that_does_not_end_has_bounds(serve: Serve) -> None:
    """It is refused as one that came whole is, and not waited for."""
    served = serve()
    peer = served.peer()
    peer.send(b"GET / HTTP/1.1\r\nX: " + b"y" * HEAD_BYTES)

    assert peer.problem() == (431, "head-too-large")
    assert peer.closed

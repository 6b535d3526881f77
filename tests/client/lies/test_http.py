"""PolicyClient against servers that lie: every call ends in time, and in a PolicyError."""

from __future__ import annotations

import base64
import gzip
import json
import time
import zlib

import numpy as np
import pytest

from stillframe_client import BadReply, PolicyClient, PolicyError, Refused, TimedOut, Unreachable
from stillframe_client.http.limits import MAX_REPLY_BYTES

PAUSE_S = 0.01
PICTURE = np.zeros((2, 2, 3), np.uint8)
ACTION = {"actions": [[0.0] * 7]}
CALLS = {
    "act": lambda client: client.act(PICTURE, "reach"),
    "act_with_report": lambda client: client.act_with_report(PICTURE, "reach", encoding="png"),
    "reset": lambda client: client.reset(),
    "info": lambda client: client.info(),
    "wait_ready": lambda client: client.wait_ready(0.01, poll_s=0.01),
}
HUGE = "9" * 5000


def raw(*lines, body=""):
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("utf-8")


def said(body, status="200 OK", *headers):
    """A whole reply with this body."""
    data = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(data)}"])
    return head.encode("utf-8") + b"\r\n\r\n" + data


PROBLEM = json.dumps({"code": "overloaded", "detail": "So it is."})
LIES = {
    "nothing": b"",
    "noise": bytes(range(256)),
    "another protocol": b"220 mail.example ESMTP\r\n\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "an old protocol": b"HTTP/0.9 200 OK\r\n\r\n<html>",
    "a protocol of next year": raw("HTTP/9.9 200 OK", body="<html>"),
    "no status": raw("HTTP/1.1 OK", body="{}"),
    "a short status": raw("HTTP/1.1 99 Hm", body="{}"),
    "a long status": raw("HTTP/1.1 2000 OK", body="{}"),
    "a status in other digits": raw("HTTP/1.1 2\u0660\u0660 OK", body="{}"),
    "a status of next year": said(b"{}", "999 Hm"),
    "a head that ends": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a body that ends": raw("HTTP/1.1 200 OK", "Content-Length: 100", body="{"),
    "a negative length": raw("HTTP/1.1 200 OK", "Content-Length: -1", body="{}"),
    "a length in words": raw("HTTP/1.1 200 OK", "Content-Length: two", body="{}"),
    "a length of 5000 digits": raw("HTTP/1.1 200 OK", f"Content-Length: {HUGE}", body="{}"),
    "two lengths": raw("HTTP/1.1 200 OK", "Content-Length: 2", "Content-Length: 3", body="{}"),
    "an unknown framing": raw("HTTP/1.1 200 OK", "Transfer-Encoding: sideways", body="{}"),
    "a chunk without a size": raw("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body="zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk of 5000 digits": raw("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body=f"{HUGE}\r\n{{}}\r\n"),
    "chunks that end": raw("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", body="2\r\n{}\r\n"),
    "a header without a colon": raw("HTTP/1.1 200 OK", "Nonsense", body="{}"),
    "a header with a NUL": raw("HTTP/1.1 200 OK", "X-A: \0", body="{}"),
    "a header that goes on": b"HTTP/1.1 200 OK\r\n X-A: 1\r\n\r\n{}",
    "a head of 200 KB": raw("HTTP/1.1 200 OK", "X-A: " + "a" * 200_000, body="{}"),
    "10,000 headers": raw("HTTP/1.1 200 OK", *[f"X-A{n}: {'a' * 9}" for n in range(10_000)], body="{}"),
    "go on, go on": raw("HTTP/1.1 100 Continue") * 1000,
    "another protocol from now on": raw("HTTP/1.1 101 Switching Protocols", "Upgrade: h2c", "Connection: upgrade"),
    "no content": raw("HTTP/1.1 204 No Content"),
    "not modified": raw("HTTP/1.1 304 Not Modified"),
    "a redirect": said(b"", "307 Elsewhere", "Location: http://127.0.0.1:1/act"),
    "a redirect to nowhere": said(b"", "301 Elsewhere", "Location: http://[::1"),
    "a compressed reply": said(gzip.compress(b"{}"), "200 OK", "Content-Encoding: gzip"),
    "a bomb": said(gzip.compress(bytes(2**20)), "200 OK", "Content-Encoding: gzip"),
    "a bomb in a bomb": said(gzip.compress(gzip.compress(bytes(2**20))), "200 OK", "Content-Encoding: gzip, gzip"),
    "deflated": said(zlib.compress(b"{}"), "200 OK", "Content-Encoding: deflate"),
    "what is no brotli": said(b"{}", "200 OK", "Content-Encoding: br"),
    "an unknown encoding": said(b"{}", "200 OK", "Content-Encoding: zstd, sideways"),
    "an empty body": said(b""),
    "a page": said("<html>It works!</html>", "200 OK", "Content-Type: text/html"),
    "a gateway's page": said("<html>Bad Gateway</html>", "502 Bad Gateway"),
    "no UTF-8": said(b'{"epoch": "\xff"}'),
    "UTF-16": said('{"epoch": 1}'.encode("utf-16")),
    "half a pair": said('{"epoch": 1, "x": "\\ud800"}'),
    "a key twice": said('{"epoch": 1, "epoch": 2}'),
    "NaN": said('{"epoch": NaN}'),
    "infinity": said('{"epoch": 1e999}'),
    "5000 digits": said(f'{{"epoch": {HUGE}}}'),
    "deep lists": said("[" * 100_000 + "]" * 100_000),
    "lists too deep to be shown": said('{"epoch": 1, "x": ' + "[" * 900 + "]" * 900 + "}"),
    "many parts": said("[" + "0," * 1_000_000 + "0]"),
    "a problem, again in other digits": said(PROBLEM, "503 No", "Retry-After: ²"),
    "a problem, again after 5000 digits": said(PROBLEM, "503 No", f"Retry-After: {HUGE}"),
    "a problem, again on Friday": said(PROBLEM, "429 No", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT"),
    "a problem without a code": said('{"status": 503}', "503 No"),
    "a problem with a code that is none": said('{"code": 7}', "503 No"),
    "a problem whose words are maps": said('{"code": "x", "detail": {}, "errors": {"a": 1}}', "422 No"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_every_lie_is_a_policy_error(liar, lie, call):
    """Whatever the library or Python calls it: robots catch PolicyError."""
    with PolicyClient(liar(lie).url, timeout_s=5) as client, pytest.raises(PolicyError) as caught:
        call(client)

    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("lie", "kind", "words"),
    [
        ("a TLS alert", Unreachable, "https://"),
        ("nothing", Unreachable, "broke before the answer.*https://"),
        ("another protocol", BadReply, "does not speak HTTP"),
        ("a compressed reply", BadReply, "compressed.*gzip.*proxy"),
        ("a redirect", BadReply, "redirects to 'http://127.0.0.1:1/act'"),
        ("a page", BadReply, "not JSON"),
        ("many parts", BadReply, "not JSON"),
        ("a problem, again in other digits", Refused, "overloaded"),
    ],
)
def test_lies_are_told_as_what_they_are(liar, lie, kind, words):
    """The text says what was wrong and what to do."""
    with PolicyClient(liar(LIES[lie]).url, timeout_s=5) as client, pytest.raises(kind, match=words):
        client.act(PICTURE, "reach")


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed", "403 Forbidden"])
def test_an_address_with_a_path_too_many(liar, status):
    """The route is ours to add: the text says what the address should be."""
    url = liar(said('{"detail": "Not Found"}', status)).url
    with PolicyClient(f"{url}/act", timeout_s=5) as client:
        with pytest.raises(BadReply, match=r"/act/act a stillframe daemon\?.*without the path of a route"):
            client.act(PICTURE, "reach")
        if not status.startswith("403"):
            assert client.reset() is None  # as from a daemon that keeps no sessions


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("at", ["status", "head", "body", "chunks", "silence"])
def test_a_trickle_holds_no_call(liar, call, at):
    """A byte now and then keeps each single wait short; the call as a whole has its time, wherever it is spent."""

    def script(talk):
        talk.hear()
        if at == "silence":
            talk.hear()
        elif at == "status":
            talk.trickle(b"HTTP/1.1 200 " + 150 * b"O" + b"K\r\nContent-Length: 2\r\n\r\n{}")
        elif at == "head":
            talk.trickle(b"HTTP/1.1 200 OK\r\nX-A: " + 150 * b"a" + b"\r\nContent-Length: 2\r\n\r\n{}")
        elif at == "body":
            talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 150\r\n\r\n")
            talk.trickle(json.dumps({**ACTION, "epoch": 1, "models": []}).ljust(150).encode())
        else:
            talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            talk.trickle(30 * b"1\r\n \r\n" + b"0\r\n\r\n")

    with PolicyClient(liar(script).url, timeout_s=0.6) as client, pytest.raises(TimedOut):
        call(client)


def test_a_peer_that_reads_slowly(liar):
    """Sending has its time too, though each bit of it is taken."""

    def script(talk):
        while part := talk.sock.recv(65536):
            time.sleep(PAUSE_S)
            if part.endswith(b"}"):
                talk.say(said(json.dumps(ACTION)))

    with PolicyClient(liar(script).url, timeout_s=0.6) as client, pytest.raises(TimedOut):
        client.act(np.zeros((2000, 2000, 3), np.uint8), "reach")


@pytest.mark.parametrize("framing", ["Content-Length: 99999999999", "Transfer-Encoding: chunked", "Connection: close"])
def test_a_reply_without_end(liar, framing):
    """A reply has a largest size, however it is framed."""

    def script(talk):
        talk.hear()
        talk.say(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        part = b" " * 2**20
        chunk = b"100000\r\n" + part + b"\r\n" if "chunked" in framing else part
        for _ in range(MAX_REPLY_BYTES // 2**20 + 2):
            talk.say(chunk)

    with PolicyClient(liar(script).url, timeout_s=20) as client, pytest.raises(BadReply, match="bytes"):
        client.act(PICTURE, "reach")


def test_endless_interim_replies(liar):
    """Informational replies count as well, though none of them ends the wait."""

    def script(talk):
        talk.hear()
        part = b"HTTP/1.1 102 Processing\r\nX-A: " + 50_000 * b"a" + b"\r\n\r\n"
        for _ in range(MAX_REPLY_BYTES // len(part) + 10):
            talk.say(part)

    with PolicyClient(liar(script).url, timeout_s=20) as client, pytest.raises(BadReply, match="bytes"):
        client.info()


ACTIONS = {
    "text": [["1.0"] * 7],
    "one text": [[0.0] * 6 + ["1"]],
    "truth values": [[True] * 7],
    "one truth value": [[0.0] * 6 + [False]],
    "null": [[0.0] * 6 + [None]],
    "maps": [[0.0] * 6 + [{}]],
    "lists": [[0.0] * 6 + [[0.0]]],
    "json_numpy inside": [[0.0] * 6 + [{"__numpy__": "AAAAAAAAAAA=", "dtype": "<f8", "shape": []}]],
    "1e300": [[0.0] * 6 + [1e300]],
    "-1e300": [[-1e300] + [0.0] * 6],
    "1e30": [[1e30] + [0.0] * 6],
    "a number of 60 digits": [[int("9" * 60)] + [0] * 6],
    "no rows": [],
    "empty rows": [[]],
    "rows of two lengths": [[0.0] * 7, [0.0] * 6],
    "one row": [0.0] * 7,
    "a number": 0.0,
    "a word": "actions",
    "nothing": None,
    "a map": {"0": [0.0] * 7},
    "2000 rows": [[0.0] * 7] * 2000,
    "2000 numbers": [[0.0] * 2000],
}


@pytest.mark.parametrize("rows", ACTIONS.values(), ids=ACTIONS)
def test_what_is_no_action(liar, http_reply, rows):
    """Numbers are numbers, of a size that something can move by: nothing else is ever returned."""
    with PolicyClient(liar(http_reply({"actions": rows})).url, timeout_s=5) as client, pytest.raises(BadReply):
        client.act(PICTURE, "reach")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(7, bool),
        np.zeros(7, complex),
        np.array(["1"] * 7),
        np.zeros((1, 1, 7)),
        np.zeros((0, 7)),
        np.full(7, np.nan),
        np.full(7, 1e300),
        np.array([0, 0, 0, np.inf, 0, 0, 0], np.float32),
    ],
    ids=str,
)
def test_arrays_that_are_no_actions(liar, http_reply, array):
    """The same in json_numpy's form, whatever type it claims."""
    text = base64.b64encode(array.tobytes()).decode()
    document = {"__numpy__": text, "dtype": array.dtype.str, "shape": list(array.shape)}
    with PolicyClient(liar(http_reply(document)).url, timeout_s=5) as client, pytest.raises(PolicyError):
        client.act(PICTURE, "reach")


def card(n_numbers=7, horizon=1, **stats):
    """A model's card."""
    fields = [{"name": f"d{n}"} for n in range(n_numbers)]
    return {
        "name": "sums",
        "family": "openvla",
        "observation": {"cameras": ["front"], "image_size": [224, 224]},
        "action": {"fields": fields, "gripper": "1 = open", "chunk_horizon": horizon},
        "norm_stats": {"jaco": stats},
        "default_unnorm_key": "jaco",
    }


def daemon(*answers, models=None):
    """A script: answer frames in turn, and /v1/models with `models`."""
    left = list(answers)

    def script(talk):
        while True:
            request = talk.hear()
            if request.startswith(b"GET /v1/models"):
                talk.say(said("{}", "404 Not Found") if models is None else said(json.dumps({"models": models})))
            elif request.startswith(b"POST"):
                talk.say(said(json.dumps(left.pop(0))))
            else:
                talk.say(said(b""))

    return script


@pytest.mark.parametrize("asked", [True, False], ids=["info", "no info"])
@pytest.mark.parametrize("n_numbers", [3, 6, 8, 14])
def test_as_many_numbers_as_named(liar, n_numbers, asked):
    """The daemon names seven: an action of another count is refused, whether the caller asked for the names or not."""
    url = liar(daemon({"actions": [[0.0] * n_numbers]}, models=[card()])).url
    with PolicyClient(url, timeout_s=5) as client:
        if asked:
            client.info()
        with pytest.raises(BadReply, match=f"has {n_numbers} numbers; expected 7"):
            client.act(PICTURE, "reach")


def test_a_robot_of_fourteen_numbers(liar):
    """Where the daemon names them, they are right, and seven are not."""
    answers = [{"actions": [[0.0] * n]} for n in (14, 14, 7)]
    with PolicyClient(liar(daemon(*answers, models=[card(14)])).url, timeout_s=5) as client:
        assert [client.act(PICTURE, "reach").shape for _ in range(2)] == [(14,)] * 2
        with pytest.raises(BadReply, match="expected 14"):
            client.act(PICTURE, "reach")


@pytest.mark.parametrize("first", [7, 3])
def test_where_nothing_is_named(liar, first):
    """A server that names nothing is held to its first answer."""
    answers = [{"actions": [[0.0] * n]} for n in (first, first, 5)]
    with PolicyClient(liar(daemon(*answers)).url, timeout_s=5) as client:
        assert [client.act(PICTURE, "reach").shape for _ in range(2)] == [(first,)] * 2
        with pytest.raises(BadReply, match=f"expected {first}"):
            client.act(PICTURE, "reach")


def test_no_more_rows_than_the_horizon(liar):
    """A chunk is as long as was named, or shorter."""
    url = liar(daemon({"actions": [[0.0] * 7] * 2}, {"actions": [[0.0] * 7] * 3}, models=[card(horizon=2)])).url
    with PolicyClient(url, timeout_s=5) as client:
        client.info()
        assert client.act_with_report(PICTURE, "reach").actions.shape == (2, 7)
        with pytest.raises(BadReply, match="3 actions; expected at most 2"):
            client.act(PICTURE, "reach")


def test_large_statistics_allow_large_actions(liar):
    """Where a robot counts in large units, as its statistics say, so may its actions."""
    large = {"actions": [[5e6] + [0.0] * 6]}
    named = card(q01=[-100.0] * 7, q99=[1000.0] * 7)
    with PolicyClient(liar(daemon(large, large, models=[named])).url, timeout_s=5) as client:
        with pytest.raises(BadReply, match="5e\\+06"):
            client.act(PICTURE, "reach")
        client.info()
        assert client.act(PICTURE, "reach")[0] == 5e6

"""Whose answer it is over HTTP: only that of the frame which was asked about is returned."""

from __future__ import annotations

import json
import threading

import httpx
import numpy as np
import pytest

from stillframe_client import PolicyClient, PolicyError, StaleAnswer, TimedOut, Unreachable
from stillframe_client.wire import CACHE_HEADER, IDEMPOTENCY_HEADER, PLACE_HEADER, encode_array

PICTURE = np.zeros((2, 2, 3), np.uint8)
KEYFRAME = {
    "mode": "adaptive",
    "frame": "keyframe",
    "reason": "first-frame",
    "reuse_ratio": 0.0,
    "reused_tokens": 0,
    "total_tokens": 20,
    "kv_bytes": 1000,
    "age_max": 0,
}


class Daemon:
    """Answers frames with what it is told to: members of the answer, or a whole response; resets with epochs."""

    def __init__(self, *answers, epochs=(), model="sums"):
        self.answers, self.epochs, self.model = list(answers), list(epochs), model
        self.keys = []

    def __call__(self, request):
        """Answer one request."""
        if request.url.path == "/reset":
            epoch = self.epochs.pop(0)
            if isinstance(epoch, type):
                raise epoch("oops")
            return httpx.Response(200, json={"session_id": "arm", "epoch": epoch})
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"models": [CARD]})
        if request.method == "DELETE":
            return httpx.Response(204)
        self.keys.append(request.headers.get(IDEMPOTENCY_HEADER))
        answer = self.answers.pop(0)
        if isinstance(answer, httpx.Response):
            return answer
        headers = {"X-Request-Id": answer.pop("request_id", f"frame-{len(self.answers)}")}
        return httpx.Response(200, json={"actions": [[0.0] * 7], **answer}, headers=headers)

    def client(self, **options):
        """A client of it."""
        return PolicyClient("http://robot.test", transport=httpx.MockTransport(self), **{"session": "arm", **options})


CARD = {
    "name": "sums",
    "family": "openvla",
    "observation": {"cameras": ["front"], "image_size": [224, 224]},
    "action": {"fields": [{"name": f"d{n}"} for n in range(7)], "gripper": "1 = open", "chunk_horizon": 1},
    "norm_stats": {"jaco": {}, "bridge": {}},
    "default_unnorm_key": "jaco",
}


def at(seq, epoch=0, session="arm", **members):
    """What an answer says of its frame."""
    return {"session": {"id": session, "epoch": epoch, "seq": seq}, **members}


def bare(**place):
    """An answer that is an array alone: its frame stands in a header."""
    return httpx.Response(
        200, json=encode_array(np.zeros(7)), headers={PLACE_HEADER: json.dumps(at(**place)["session"])}
    )


@pytest.mark.parametrize(
    ("answers", "stale"),
    [
        ([at(0, session="leg")], "session 'leg', not of 'arm'"),
        ([bare(seq=0, session="leg")], "session 'leg'"),
        ([at(4), at(3)], "3 of epoch 0; expected one of epoch 0 after 4"),
        ([at(4), at(4)], "4 of epoch 0"),
        ([bare(seq=4), bare(seq=3)], "3 of epoch 0"),
        ([at(4), at(5, epoch=1)], "5 of epoch 1"),
        ([at(4, epoch=2), at(5, epoch=1)], "5 of epoch 1; expected one of epoch 2"),
        ([at(4), {}], "names no session"),
        ([at(4), {"session": {"id": 7, "epoch": 0, "seq": 5}}], "names no session"),
        ([at(4), at(0)], "0 of epoch 0"),
        ([at(0, cache=KEYFRAME, request_id="a"), at(4), at(0, cache=KEYFRAME, request_id="a")], "0 of epoch 0"),
        ([at(4), at(0, cache=KEYFRAME, replayed=True)], "0 of epoch 0"),
        ([at(4), at(0, epoch=1, cache=KEYFRAME)], "0 of epoch 1"),
        ([at(4), at(0, cache={**KEYFRAME, "frame": "delta"})], "0 of epoch 0"),
    ],
)
def test_another_frames_answer(answers, stale):
    """Of another session, another epoch, a seq that was answered: it is never returned, and harms none that follow."""
    daemon = Daemon(*answers, at(9, epoch=next((a["session"]["epoch"] for a in answers if type(a) is dict), 0)))
    with daemon.client() as client:
        for _ in answers[:-1]:
            client.act(PICTURE, "reach")
        with pytest.raises(StaleAnswer, match=stale):
            client.act(PICTURE, "reach")
        if len(answers) > 1:
            assert client.act_with_report(PICTURE, "reach").session.seq == 9


def test_answers_in_order():
    """Seqs rise, gaps in them are frames that failed; after a reset they begin again."""
    daemon = Daemon(at(0), at(1), at(5), at(0, epoch=1), at(1, epoch=1), epochs=[1])
    with daemon.client() as client:
        places = [client.act_with_report(PICTURE, "reach").session.seq for _ in range(3)]
        assert client.reset() == 1
        places += [client.act_with_report(PICTURE, "reach").session.seq for _ in range(2)]

    assert places == [0, 1, 5, 0, 1]


@pytest.mark.parametrize("answer", [at(0), at(1, epoch=0), at(0, epoch=2), bare(seq=3)])
def test_an_answer_of_the_episode_before(answer):
    """A reset says which epoch begins: what belongs to any other is not of this episode."""
    with Daemon(at(0), answer, epochs=[1]).client() as client:
        client.act(PICTURE, "reach")
        client.reset()
        with pytest.raises(StaleAnswer, match="expected one of epoch 1"):
            client.act(PICTURE, "reach")


def test_a_reset_goes_on_from_where_the_daemon_stands():
    """Another program has reset the session: nothing of its episode is played until this one begins its own."""
    daemon = Daemon(at(4), at(0, epoch=1), at(1, epoch=1), at(0, epoch=2), epochs=[2])
    with daemon.client() as client:
        client.act(PICTURE, "reach")
        for _ in range(2):
            with pytest.raises(StaleAnswer, match=r"call reset\(\)"):
                client.act(PICTURE, "reach")
        client.reset()
        assert client.act_with_report(PICTURE, "reach").session.epoch == 2


def test_a_reset_that_was_not_answered():
    """Whether it was done is not known: the next answer tells, whichever epoch it is of."""
    daemon = Daemon(at(4), at(0, epoch=1), at(1, epoch=1), epochs=[httpx.ReadTimeout])
    with daemon.client() as client:
        client.act(PICTURE, "reach")
        with pytest.raises(TimedOut):
            client.reset()
        assert [client.act_with_report(PICTURE, "reach").session.seq for _ in range(2)] == [0, 1]


def test_a_daemon_that_was_restarted():
    """A session that it has begun anew goes on: its first frame is a keyframe under an id that no answer had."""
    daemon = Daemon(at(0, cache=KEYFRAME), at(7), at(0, cache=KEYFRAME), at(1), at(7))
    with daemon.client() as client:
        assert [client.act_with_report(PICTURE, "reach").session.seq for _ in range(5)] == [0, 7, 0, 1, 7]


def test_headers_alone():
    """The cache's report of a bare answer counts as well."""
    anew = bare(seq=0)
    anew.headers.update({CACHE_HEADER: json.dumps(KEYFRAME), "X-Request-Id": "b"})
    with Daemon(bare(seq=3), anew).client() as client:
        assert [client.act_with_report(PICTURE, "reach").session.seq for _ in range(2)] == [3, 0]


def test_a_stateless_client_of_a_session():
    """A daemon may give those that name none a session of its own: it has to stay that one."""
    daemon = Daemon(at(0, session="door"), at(1, session="door"), at(2, session="leg"))
    with daemon.client(session=None, stateless=True) as client:
        assert [client.act_with_report(PICTURE, "reach").session.seq for _ in range(2)] == [0, 1]
        with pytest.raises(StaleAnswer, match="leg"):
            client.act(PICTURE, "reach")
    assert daemon.keys == [None] * 3


@pytest.mark.parametrize(
    ("said", "fine"), [({}, True), ({"unnorm_key": "bridge"}, True), ({"unnorm_key": "jaco"}, False)]
)
def test_the_statistics_that_were_asked_for(said, fine):
    """An answer that is scaled by others is not one to this frame."""
    with Daemon(at(0, **said)).client() as client:
        if fine:
            assert client.act(PICTURE, "reach", unnorm_key="bridge").shape == (7,)
        else:
            with pytest.raises(StaleAnswer, match=r"scaled by 'jaco'.*asked for 'bridge'"):
                client.act(PICTURE, "reach", unnorm_key="bridge")


def test_the_model_that_was_named():
    """Whose numbers were explained is who answers; `info` learns of another one."""
    with Daemon(at(0, model="other"), at(1, model="sums"), at(2, model="other")).client() as client:
        client.act(PICTURE, "reach")
        client.info()
        client.act(PICTURE, "reach")
        with pytest.raises(StaleAnswer, match=r"'other'.*'sums'.*info\(\)"):
            client.act(PICTURE, "reach")


def test_every_frame_has_a_key_of_its_own():
    """By it a daemon knows a frame that is sent again; whoever keeps no session is not confused with one."""
    daemon = Daemon(at(0), at(1))
    with daemon.client() as client:
        client.act(PICTURE, "reach")
        client.act(PICTURE, "reach")

    assert len(set(daemon.keys)) == 2
    assert all(key and len(key) <= 128 for key in daemon.keys)


def answer(talk, seq):
    document = json.dumps({"actions": [[float(seq)] * 7], **at(seq)}).encode()
    talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(document) + document)


def serving(first, *ends):
    """A script: answer as many frames as there are seqs, hear one more, and end in that way."""

    def script(talk):
        for seq in first:
            talk.hear()
            answer(talk, seq)
        for end in ends:
            talk.hear()
            talk.say(end)

    return script


def key_of(request):
    return next(line for line in request.split(b"\r\n") if line.lower().startswith(b"idempotency-key"))


@pytest.mark.parametrize("before", [0, 2])
def test_a_connection_that_dies_unheard(liar, before):
    """The frame is sent once more, byte for byte and under its key, on a new connection."""
    server = liar(serving(range(before), b""), serving(range(before, before + 1)))
    with PolicyClient(server.url, timeout_s=10, session="arm") as client:
        assert [client.act(PICTURE, "reach")[0] for _ in range(before + 1)] == list(range(before + 1))

    assert (server.connections, len(server.requests)) == (2, before + 2)
    assert server.requests[-1] == server.requests[-2]
    assert len({key_of(request) for request in server.requests}) == before + 1


def test_it_is_sent_once_more_and_no_oftener(liar):
    """A daemon that dies of a frame is not killed again and again."""
    server = liar(serving([], b""))
    with (
        PolicyClient(server.url, timeout_s=10) as client,
        pytest.raises(Unreachable, match=r"broke .* once more, in vain"),
    ):
        client.act(PICTURE, "reach")

    assert len(server.requests) == 2


@pytest.mark.parametrize("part", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_after_a_byte_of_the_answer(liar, part):
    """Something had begun to answer: what became of the frame is not known, and it is not sent again."""
    server = liar(serving([], part))
    with PolicyClient(server.url, timeout_s=10) as client, pytest.raises(Unreachable, match="broke"):
        client.act(PICTURE, "reach")

    assert len(server.requests) == 1


def test_a_stateless_frame_is_not_repeated(liar):
    """Nothing tells the daemon that it is the same one."""
    server = liar(serving([], b""))
    with PolicyClient(server.url, timeout_s=10, stateless=True) as client, pytest.raises(Unreachable):
        client.act(PICTURE, "reach")

    assert len(server.requests) == 1
    assert b"idempotency-key" not in server.requests[0].lower()


def test_what_changes_nothing_is_asked_once_more(liar):
    """The same for a reset and for what is only read: an idle connection may have died."""
    reset = b'{"session_id": "arm", "epoch": 0}'
    server = liar(serving([], b""), serving([], b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(reset) + reset))
    with PolicyClient(server.url, timeout_s=10, session="arm") as client:
        assert client.reset() == 0


def test_a_frame_that_the_daemon_had_computed(daemon, picture):
    """The connection breaks under a frame: its repeat gets the answer there is, and the policy sees it once."""
    daemon.policy.go_on.clear()
    with PolicyClient(daemon.url, timeout_s=20, session="arm") as client:

        def cut():
            daemon.until_asked(1)
            daemon.cut()
            daemon.policy.go_on.set()

        thread = threading.Thread(target=cut)
        thread.start()
        reply = client.act_with_report(picture, "reach")
        thread.join(60)

    assert (reply.session.epoch, reply.session.seq) == (0, 0)
    assert {session.seq for session in daemon.policy.sessions} == {0}


def test_a_closed_client():
    """It says so, in a PolicyError as everything."""
    client = Daemon().client()
    client.close()
    for call in (lambda: client.act(PICTURE, "reach"), client.reset, client.info, lambda: client.wait_ready(1)):
        with pytest.raises(PolicyError, match="closed; make a new one"):
            call()

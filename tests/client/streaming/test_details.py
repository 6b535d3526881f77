"""Single rules of the client's half of a stream, without a socket."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.testing import ManualClock
from stillframe_client import errors
from stillframe_client.streaming.handshake import Reconnect
from stillframe_client.streaming.incoming import Close
from stillframe_client.streaming.protocol import StreamProtocol
from stillframe_client.streaming.requests import RequestKind
from stillframe_client.wire import FATAL, GOING, LATER, POLICY, RESTART, TOO_BIG, pack, unpack

SESSION = {"session_id": "arm", "secret": "it resumes", "epoch": 0, "service": "lockstep", "resumed": False}
PLACE = {"id": "arm", "epoch": 0, "seq": 0}
ACTION = {"actions": np.ones((2, 7), np.float32), "timing_ms": {"total": 2.0}, "session": PLACE}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def talk(clock):
    """A conversation whose session is open."""
    talk = StreamProtocol("arm", clock=clock)
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)
    talk.data_to_send()
    hear(talk, "session", **SESSION)
    return talk


def hear(talk, kind, **members):
    talk.receive_data(pack({"type": kind, **members}))


def said(talk):
    return [unpack(data) for data in talk.data_to_send()]


def reopen(talk):
    """Lose the connection, and resume the session on another."""
    talk.connection_lost()
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)
    talk.data_to_send()
    hear(talk, "session", **{**SESSION, "resumed": True})


def problem(code, status=400, **members):
    return {"code": code, "status": status, "detail": "So it is.", **members}


def test_nothing_is_said_before_hello():
    """The daemon speaks first; then the session is opened, and only then the frame goes out."""
    talk = StreamProtocol("arm", service="realtime", reuse="exact")
    talk.submit(RequestKind.FRAME, {"instruction": "reach"})
    talk.connection_made()

    assert said(talk) == []
    hear(talk, "hello", protocol=1, state="ready", model=None)
    assert said(talk) == [{"type": "open", "session_id": "arm", "service": "realtime", "reuse": "exact"}]
    hear(talk, "session", **SESSION)
    assert said(talk) == [{"type": "frame", "session_id": "arm", "epoch": 0, "seq": 0, "instruction": "reach"}]
    assert said(talk) == []


def test_an_answer_says_everything(talk):
    """What the daemon says of a frame arrives, in exact float64."""
    asked = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    cache = {"mode": "exact", "frame": "keyframe", "reason": "evicted", "reuse_ratio": 0, "age_max": 0}
    cache.update(reused_tokens=0, total_tokens=20, kv_bytes=5)
    hear(talk, "action", **{**ACTION, "cache": cache, "replayed": True, "late": True, "t_obs_ns": 5})

    reply = asked.answer
    assert reply.actions.dtype == np.float64
    assert reply.action.tolist() == [1.0] * 7
    assert (reply.replayed, reply.late, reply.t_obs_ns, reply.timing_ms["total"]) == (True, True, 5, 2.0)
    assert (reply.cache.reason, reply.session.seq) == ("evicted", 0)


def test_seq_starts_anew_with_each_episode(talk):
    """A reset names the epoch that begins, so that one which is sent again is done once; frames behind it wait."""
    talk.submit(RequestKind.FRAME)
    reset = talk.submit(RequestKind.RESET)
    talk.submit(RequestKind.FRAME)

    assert [(m["type"], m["epoch"]) for m in said(talk)] == [("frame", 0), ("reset", 1)]
    hear(talk, "reset", session_id="arm", epoch=1)
    assert reset.answer == 1
    assert [(m["epoch"], m["seq"]) for m in said(talk)] == [(1, 0)]


def test_an_episode_without_frames_is_not_ended(talk):
    """The first reset, as an episode begins, costs nothing and is epoch 0; so does a second one at once."""
    first, second = talk.submit(RequestKind.RESET), talk.submit(RequestKind.RESET)

    assert said(talk) == []
    assert (first.answer, second.answer) == (0, 0)


def test_a_resumed_frame_is_the_same_to_the_byte(talk):
    """After a lost connection the secret is shown, and the frame goes out again exactly as it was."""
    talk.submit(RequestKind.FRAME, {"image": np.zeros((2, 2, 3), np.uint8)})
    before = talk.data_to_send()
    talk.connection_lost(Close(RESTART))
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)

    assert said(talk)[0]["secret"] == SESSION["secret"]
    hear(talk, "session", **{**SESSION, "resumed": True})
    assert talk.data_to_send() == before


def test_a_reset_that_was_done_is_not_done_again(talk):
    """The answer to a reset was lost; to resume says the new epoch, and that is the answer. The old frame has ended."""
    frame, reset = talk.submit(RequestKind.FRAME), talk.submit(RequestKind.RESET)
    talk.data_to_send()
    talk.connection_lost()
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)
    talk.data_to_send()
    hear(talk, "session", **{**SESSION, "resumed": True, "epoch": 1})

    assert said(talk) == []
    assert reset.answer == 1
    assert isinstance(frame.error, errors.Superseded)


@pytest.mark.parametrize(
    "about",
    [
        {"id": "arm", "epoch": 0, "seq": 1},
        {"id": "arm", "epoch": 1, "seq": 0},
        {"id": "leg", "epoch": 0, "seq": 0},
        {"id": "arm", "epoch": 0},
        {"id": "arm", "epoch": True, "seq": False},
        {"id": "arm", "epoch": 0, "seq": -1},
        None,
    ],
)
@pytest.mark.parametrize("kind", ["action", "superseded"])
def test_an_answer_that_nobody_asked_for(talk, kind, about):
    """Another seq, epoch or session than what is under way is never taken for the answer."""
    asked = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    with pytest.raises(errors.StaleAnswer):
        hear(talk, kind, **{**ACTION, "session": about})

    assert not asked.settled


def test_an_answer_comes_once(talk):
    """A second answer to the same frame is one that nobody asked for."""
    talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    hear(talk, "action", **ACTION)
    with pytest.raises(errors.StaleAnswer):
        hear(talk, "action", **ACTION)


@pytest.mark.parametrize("kind", ["action", "superseded", "problem"])
def test_a_late_answer_is_dropped(talk, kind):
    """Whatever comes for a frame that was given up is no news to the frame after it, and known only once."""
    given_up = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    talk.cancel(given_up)
    awaited = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    hear(talk, kind, **{**ACTION, "problem": problem("overloaded", 503)})

    assert not given_up.settled
    assert not awaited.settled
    with pytest.raises(errors.StaleAnswer):
        hear(talk, kind, **{**ACTION, "problem": problem("overloaded", 503)})


@pytest.mark.parametrize(("kind", "members"), [("reset", {"epoch": 1}), ("closed", {}), ("session", SESSION)])
def test_what_nobody_asked_for(talk, kind, members):
    """A reset, a close, a session out of the blue: the daemon is confused, or is none."""
    with pytest.raises(errors.StaleAnswer):
        hear(talk, kind, **{"session_id": "arm", **members})


@pytest.mark.parametrize(
    ("actions", "error"),
    [
        (np.array([[np.nan] * 7], np.float32), errors.BadReply),
        (np.array([[np.inf] * 7], np.float32), errors.BadReply),
        (np.zeros((0, 7), np.float32), errors.BadReply),
        (np.zeros(7, np.float32), errors.BadReply),
        ([[1.0], [1.0, 2.0]], errors.BadReply),
        ("up", errors.BadReply),
        (None, errors.BadReply),
    ],
)
def test_what_is_no_action(talk, actions, error):
    """Never an action: NaN, infinity, nothing, ragged rows, text."""
    talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    with pytest.raises(error):
        hear(talk, "action", **{**ACTION, "actions": actions})


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("unknown-unnorm-key", 422, errors.Unprocessable),
        ("stale-seq", 409, errors.Conflict),
        ("seq-conflict", 409, errors.Conflict),
        ("session-busy", 429, errors.TooMany),
        ("overloaded", 503, errors.Overloaded),
        ("out-of-memory", 503, errors.Overloaded),
        ("not-ready", 503, errors.NotReady),
        ("stuck", 503, errors.NotReady),
        ("deadline-exceeded", 504, errors.DeadlineExceeded),
        ("superseded", 409, errors.Superseded),
        ("non-finite-action", 500, errors.ServerFault),
        ("a-code-of-next-year", 418, errors.Refused),
    ],
)
def test_a_refused_frame(talk, code, status, kind):
    """A problem ends its frame as its kind, with everything that was said; the next frame goes on."""
    asked = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    told = problem(code, status, request_id="r-1", retry_after_ms=250, errors=[{"pointer": "/x", "detail": "y"}, 3])
    hear(talk, "problem", problem=told, session=PLACE)

    assert type(asked.error) is kind
    assert (asked.error.request_id, asked.error.retry_after_s) == ("r-1", 0.25)
    assert asked.error.problem.faults == (errors.FieldFault("/x", "y"),)
    talk.submit(RequestKind.FRAME)
    assert [message["seq"] for message in said(talk)] == [1]


def test_a_problem_of_no_frame(talk):
    """A message that the daemon could not even read ends whatever was under way, and a late answer is known."""
    asked = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    hear(talk, "problem", problem=problem("bad-codec"))

    assert isinstance(asked.error, errors.BadRequest)
    hear(talk, "action", **ACTION)


def test_a_refused_reset(talk):
    """A reset that the daemon refuses raises why."""
    talk.submit(RequestKind.FRAME)
    reset = talk.submit(RequestKind.RESET)
    talk.data_to_send()
    hear(talk, "problem", problem=problem("overloaded", 503), session={"id": "arm", "epoch": 1})

    assert isinstance(reset.error, errors.Overloaded)


def test_somebody_elses_reset(talk):
    """A frame of an epoch that somebody else has ended belongs to the new one; refused there too, that is told."""
    asked = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    with pytest.raises(Reconnect):
        hear(talk, "problem", problem=problem("stale-epoch", 409), session=PLACE)
    talk.connection_lost()
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)
    assert said(talk)[0]["secret"] == SESSION["secret"]
    hear(talk, "session", **{**SESSION, "resumed": True, "epoch": 4})

    assert [(message["epoch"], message["seq"]) for message in said(talk)] == [(4, 0)]
    hear(talk, "problem", problem=problem("stale-epoch", 409), session={**PLACE, "epoch": 4})
    assert (asked.error.code, asked.error.status) == ("stale-epoch", 409)


@pytest.mark.parametrize("code", ["session-evicted", "session-expired", "session-closed", "unknown-session"])
def test_a_session_that_is_gone(talk, code):
    """Its frame is sent once more, in a new session; gone a second time, it is told."""
    asked = talk.submit(RequestKind.FRAME)
    for _ in range(2):
        talk.data_to_send()
        if asked.was_reopened:
            break
        with pytest.raises(Reconnect):
            hear(talk, "problem", problem=problem(code, 410), session=PLACE)
        talk.connection_lost()
        talk.connection_made()
        hear(talk, "hello", protocol=1, state="ready", model=None)
        assert "secret" not in said(talk)[0]
        hear(talk, "session", **SESSION)
    hear(talk, "problem", problem=problem(code, 410), session=PLACE)

    assert isinstance(asked.error, (errors.SessionGone, errors.UnknownSession))


def test_a_session_that_was_taken_over(talk):
    """Another connection has resumed it: what is asked fails, now and from now on, and nothing more is sent."""
    asked = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    with pytest.raises(errors.Conflict) as caught:
        hear(talk, "problem", problem=problem("session-in-use", 409), session={"id": "arm"})
    talk.fail(caught.value)

    assert asked.error.code == talk.submit(RequestKind.FRAME).error.code == "session-in-use"
    assert not talk.has_waiters


def test_a_frame_that_is_too_old_is_not_sent(talk, clock):
    """max_age_ms holds on the way too: neither late nor again does a frame go out that is older."""
    unsent, sent = (talk.submit(RequestKind.FRAME, {"max_age_ms": 100}) for _ in range(2))
    talk.cancel(unsent)
    talk.data_to_send()
    talk.connection_lost()
    clock.now_s = 0.2
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)
    talk.data_to_send()
    hear(talk, "session", **{**SESSION, "resumed": True})

    assert talk.data_to_send() == []
    assert isinstance(sent.error, errors.DeadlineExceeded)
    assert "200 ms" in str(sent.error)


def test_an_answer_past_its_frames_age_is_late(talk, clock):
    """What the network took counts too."""
    asked = talk.submit(RequestKind.FRAME, {"max_age_ms": 100})
    talk.data_to_send()
    clock.now_s = 0.2
    hear(talk, "action", **ACTION)

    assert asked.answer.late


def test_goaway(talk):
    """What is under way is waited for; what is asked then waits for the next connection."""
    under_way = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    hear(talk, "goaway", finish_within_s=5)
    after = talk.submit(RequestKind.FRAME)

    assert talk.data_to_send() == []
    assert not talk.may_close
    hear(talk, "action", **ACTION)
    assert under_way.settled
    assert not after.settled
    assert talk.may_close
    reopen(talk)
    assert [message["seq"] for message in said(talk)] == [1]
    assert not talk.may_close


def test_a_ping_is_for_a_daemon_that_listens(talk):
    """None goes out before hello, and one that was for a connection that is gone goes to no other."""
    talk.ping()
    assert [message["type"] for message in said(talk)] == ["ping"]
    talk.ping()
    talk.connection_lost()
    talk.connection_made()
    talk.ping()

    assert said(talk) == []
    hear(talk, "hello", protocol=1, state="ready", model=None)
    assert [message["type"] for message in said(talk)] == ["open"]


def test_answers_are_counted(talk):
    """Actions and resets, not what merely comes."""
    talk.submit(RequestKind.FRAME)
    talk.submit(RequestKind.RESET)
    talk.data_to_send()
    hear(talk, "pong")
    assert talk.answer_count == 0
    hear(talk, "action", **ACTION)
    assert talk.answer_count == 1
    hear(talk, "reset", session_id="arm", epoch=1)
    assert talk.answer_count == 2


def test_a_second_hello(talk):
    """It says what is served, and opens nothing again."""
    hear(talk, "hello", protocol=1, state="ready", model=None)

    assert said(talk) == []
    assert talk.is_open


@pytest.mark.parametrize(("kind", "other"), [(RequestKind.RESET, "closed"), (RequestKind.CLOSE, "reset")])
def test_what_answers_a_barrier(talk, kind, other):
    """A reset is answered by a reset of its session, a close by its close."""
    talk.submit(RequestKind.FRAME)
    asked = talk.submit(kind)
    talk.data_to_send()
    word = "reset" if kind is RequestKind.RESET else "closed"
    for wrong, session_id in ((other, "arm"), (word, "leg"), (word, None)):
        with pytest.raises(errors.StaleAnswer):
            hear(talk, wrong, session_id=session_id, epoch=1)

    assert not asked.settled
    hear(talk, word, session_id="arm", epoch=1)
    assert asked.settled


def test_a_close_that_is_refused(talk):
    """The session is given up all the same: its time runs out by itself."""
    closing = talk.submit(RequestKind.CLOSE)
    talk.data_to_send()
    hear(talk, "problem", problem=problem("overloaded", 503), session={"id": "arm"})

    assert (closing.settled, closing.error) == (True, None)


@pytest.mark.parametrize("name", ["arm", None])
def test_a_session_that_is_gone_when_it_is_resumed(name):
    """It is opened anew, without the secret; where none was shown, that it is gone is an answer."""
    talk = StreamProtocol(name)
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)
    talk.data_to_send()
    hear(talk, "session", **{**SESSION, "session_id": talk.session_id})
    talk.connection_lost()
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)
    assert said(talk)[0]["secret"] == SESSION["secret"]
    hear(talk, "problem", problem=problem("session-expired", 410), session={"id": talk.session_id})

    assert said(talk) == [{"type": "open", "session_id": talk.session_id, "service": "lockstep"}]
    with pytest.raises(errors.SessionGone):
        hear(talk, "problem", problem=problem("session-expired", 410), session={"id": talk.session_id})


@pytest.mark.parametrize(
    ("code", "status", "kind"), [("not-ready", 503, Reconnect), ("forbidden", 403, errors.Forbidden)]
)
def test_a_problem_instead_of_hello(code, status, kind):
    """A daemon that is not ready may be another time; whatever else it says first is final."""
    talk = StreamProtocol("arm")
    talk.connection_made()
    with pytest.raises(kind):
        hear(talk, "problem", problem=problem(code, status))


def test_a_daemon_that_loads():
    """Nothing is opened before it is ready; then a new hello says what is served."""
    talk = StreamProtocol("arm")
    asked = talk.submit(RequestKind.OPEN)
    talk.connection_made()
    hear(talk, "status", state="loading")
    assert "loading" in talk.status_text
    hear(talk, "hello", protocol=1, state="warming", model=None)
    assert "warming" in talk.status_text

    assert talk.data_to_send() == []
    with pytest.raises(Reconnect):
        hear(talk, "status", state="ready")
    assert not asked.settled


@pytest.mark.parametrize("code", ["not-ready", "draining", "session-exists"])
def test_an_open_that_may_work_later(code):
    """Not ready, draining, the name's last connection not let go of yet: another try may do."""
    talk = StreamProtocol("arm")
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)
    with pytest.raises(Reconnect):
        hear(talk, "problem", problem=problem(code, 409 if code == "session-exists" else 503))


def test_a_name_of_our_own_making_is_made_up_anew():
    """Where the answer to the first open was lost, nobody can tell that the session is ours: it takes another name."""
    talk = StreamProtocol()
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)
    first = said(talk)[0]["session_id"]
    hear(talk, "problem", problem=problem("session-exists", 409), session={"id": first})

    assert said(talk)[0]["session_id"] == talk.session_id != first


@pytest.mark.parametrize("code", ["unauthorized", "forbidden", "too-many-sessions", "unknown-service"])
def test_an_open_that_will_not_work(code):
    """A refusal that waiting does not mend is raised."""
    talk = StreamProtocol("arm")
    talk.connection_made()
    hear(talk, "hello", protocol=1, state="ready", model=None)
    with pytest.raises(errors.Refused, match=code):
        hear(talk, "problem", problem=problem(code, 403))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93",
        b"\x80",
        b"\xff" * 100,
        pack([1, 2]),
        pack({"type": "action", **ACTION}),
        pack({"type": "hello", "protocol": 2, "state": "ready"}),
        pack({"type": "hello", "state": "ready"}),
        pack({"type": "hello", "protocol": 1}),
        pack({"type": "hello", "protocol": 1, "state": "ready", "model": {"name": "x"}}),
        pack({"type": "hello", "protocol": 1, "state": "ready", "model": 7}),
        pack({"type": "problem"}),
        pack({"type": "status"}),
        pack({b"policy": "openpi"}),
        "Traceback (most recent call last):",
    ],
    ids=repr,
)
def test_what_is_no_hello(data):
    """Another server, another protocol, no server at all: told, and nothing is sent to it."""
    talk = StreamProtocol("arm")
    talk.connection_made()
    with pytest.raises(errors.BadReply):
        talk.receive_data(data)

    assert talk.data_to_send() == []


def test_words_of_next_year(talk):
    """A message whose type we do not know does no harm, nor does a member."""
    asked = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    hear(talk, "applause", volume=11)
    hear(talk, "pong")
    hear(talk, "action", **ACTION, mood="calm")

    assert asked.settled


def test_what_cannot_be_packed(talk):
    """A frame that has no form on the wire fails by itself; the next one is sent."""
    bad, good = talk.submit(RequestKind.FRAME, {"instruction": object()}), talk.submit(RequestKind.FRAME)

    assert [message["seq"] for message in said(talk)] == [1]
    assert isinstance(bad.error, errors.WireError)
    assert not good.settled


@pytest.mark.parametrize(
    ("close", "kind"),
    [
        (Close(POLICY, "too slow a reader"), errors.Forbidden),
        (Close(TOO_BIG), errors.TooLarge),
        (Close(FATAL, "oops"), errors.ServerFault),
        (Close(TOO_BIG, by_us=True), errors.BadReply),
        (Close(FATAL, "keepalive ping timeout"), None),
        (Close(FATAL, "keepalive ping timeout", by_us=True), None),
        (Close(GOING), None),
        (Close(RESTART), None),
        (Close(LATER), None),
        (Close(1000), None),
        (Close(), None),
        (Close(4999, "whatever"), None),
    ],
)
def test_how_a_connection_ends(talk, close, kind):
    """Some ends say that another try is of no use; after all others the frame goes on."""
    asked = talk.submit(RequestKind.FRAME)
    talk.data_to_send()
    talk.connection_lost(close)

    assert (asked.error is None) if kind is None else isinstance(asked.error, kind)
    assert str(close.unreachable())


WORDS = st.sampled_from(
    [
        "hello",
        "status",
        "session",
        "action",
        "superseded",
        "problem",
        "reset",
        "closed",
        "goaway",
        "pong",
        "arm",
        "ready",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats() | st.binary(max_size=9) | WORDS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4))
MEMBERS = st.sampled_from(
    [
        "type",
        "protocol",
        "state",
        "model",
        "session",
        "session_id",
        "secret",
        "epoch",
        "actions",
        "problem",
        "by",
        "late",
    ]
)
MESSAGES = st.dictionaries(MEMBERS, VALUES, max_size=8).flatmap(
    lambda members: WORDS.map(lambda kind: {**members, "type": kind})
)


@given(st.lists(MESSAGES.map(pack) | st.binary(max_size=64), max_size=12))
@settings(max_examples=3 * settings().max_examples)
def test_whatever_is_heard(messages):
    """No message raises anything but what callers and the link know."""
    talk = StreamProtocol("arm")
    asked = talk.submit(RequestKind.FRAME), talk.submit(RequestKind.RESET), talk.submit(RequestKind.FRAME)
    talk.connection_made()
    for data in messages:
        try:
            talk.receive_data(data)
            talk.data_to_send()
        except (Reconnect, errors.PolicyError):
            talk.connection_lost()
            talk.connection_made()

    assert all(one.answer is None or np.isfinite(getattr(one.answer, "actions", 0)).all() for one in asked)

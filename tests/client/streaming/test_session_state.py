from __future__ import annotations

import pytest

from stillframe_client import BadReply
from stillframe_client.streaming.session_state import SessionState


def told(*, epoch=0, resumed=False, secret="s-1"):  # noqa: S107 -- of no daemon
    return {"type": "session", "epoch": epoch, "resumed": resumed, "secret": secret}


def test_what_opens_a_session():
    """Its name, its service, and the mode where one was asked for; the secret once there is one."""
    state = SessionState("arm", "realtime", "exact")

    assert state.open_message() == {"type": "open", "session_id": "arm", "service": "realtime", "reuse": "exact"}
    state.session_opened(told())
    assert state.open_message()["secret"] == "s-1"  # noqa: S105 -- of no daemon
    assert "reuse" not in SessionState("arm", "lockstep", None).open_message()


@pytest.mark.parametrize(
    ("answer", "place", "said"),
    [
        (told(epoch=3, resumed=True), (3, 2), 3),
        (told(epoch=4, resumed=True), (4, 0), 4),
        (told(epoch=3, resumed=False), (3, 0), None),
        (told(epoch=0, resumed=False), (0, 0), None),
        (told(epoch=3, resumed=1), (3, 0), None),
    ],
    ids=["resumed", "in another epoch", "a new one", "a restart", "no truth value"],
)
def test_where_it_goes_on(answer, place, said):
    """A resumed episode counts on; whatever else the daemon says is an episode that begins."""
    state = SessionState("arm", "lockstep", None)
    state.session_opened(told(epoch=3))
    assert [state.next_position() for _ in range(2)] == [(3, 0), (3, 1)]

    assert state.session_opened(answer) == said
    assert state.is_fresh is (place[1] == 0)
    assert state.next_position() == place


def test_without_a_secret_nothing_is_resumed():
    """Whatever the daemon says: it was not shown that the session is ours."""
    state = SessionState("arm", "lockstep", None)
    state.next_position()

    assert state.session_opened(told(resumed=True)) is None
    assert state.next_position() == (0, 0)
    state.drop_session()
    assert not state.is_resumable
    assert state.session_opened(told(resumed=True)) is None
    assert state.next_position() == (0, 0)


def test_the_secret_is_the_last_one_told():
    """A new session's takes the place of the one before."""
    state = SessionState("arm", "lockstep", None)
    state.session_opened(told())
    state.session_opened(told(secret="s-2"))  # noqa: S106 -- of no daemon

    assert state.open_message()["secret"] == "s-2"  # noqa: S105 -- of no daemon


def test_an_episode_that_begins():
    """Its frames count from 0."""
    state = SessionState(None, "lockstep", None)
    state.session_opened(told())
    state.next_position()
    state.begin_epoch(9)

    assert state.is_fresh
    assert [state.next_position() for _ in range(2)] == [(9, 0), (9, 1)]


def test_another_name():
    """Of our own making, without the secret of the one before; a name that was given is known as such."""
    state = SessionState(None, "lockstep", None)
    state.session_opened(told())
    before = state.session_id
    state.new_id()

    assert state.session_id != before
    assert "secret" not in state.open_message()
    assert (state.is_named, SessionState("arm", "lockstep", None).is_named) == (False, True)


@pytest.mark.parametrize("change", [{"epoch": -1}, {"epoch": True}, {"epoch": 0.0}, {"secret": None}, {"secret": 7}])
def test_what_opens_nothing(change):
    """An epoch that is no count, a secret that is no text."""
    with pytest.raises(BadReply):
        SessionState("arm", "lockstep", None).session_opened({**told(), **change})

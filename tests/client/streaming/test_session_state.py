from __future__ import annotations

import pytest

from stillframe_client import BadReply
from stillframe_client.streaming.session_state import Footing


def told(*, epoch=0, resumed=False, secret="s-1"):  # noqa: S107 -- of no daemon
    return {"type": "session", "epoch": epoch, "resumed": resumed, "secret": secret}


def test_what_opens_a_session():
    """Its name, its service, and the mode where one was asked for; the secret once there is one."""
    footing = Footing("arm", "realtime", "exact")

    assert footing.opening() == {"type": "open", "session_id": "arm", "service": "realtime", "reuse": "exact"}
    footing.opened(told())
    assert footing.opening()["secret"] == "s-1"  # noqa: S105 -- of no daemon
    assert "reuse" not in Footing("arm", "lockstep", None).opening()


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
    footing = Footing("arm", "lockstep", None)
    footing.opened(told(epoch=3))
    assert [footing.next_place() for _ in range(2)] == [(3, 0), (3, 1)]

    assert footing.opened(answer) == said
    assert footing.fresh is (place[1] == 0)
    assert footing.next_place() == place


def test_without_a_secret_nothing_is_resumed():
    """Whatever the daemon says: it was not shown that the session is ours."""
    footing = Footing("arm", "lockstep", None)
    footing.next_place()

    assert footing.opened(told(resumed=True)) is None
    assert footing.next_place() == (0, 0)
    footing.forget()
    assert not footing.resumable
    assert footing.opened(told(resumed=True)) is None
    assert footing.next_place() == (0, 0)


def test_the_secret_is_the_last_one_told():
    """A new session's takes the place of the one before."""
    footing = Footing("arm", "lockstep", None)
    footing.opened(told())
    footing.opened(told(secret="s-2"))  # noqa: S106 -- of no daemon

    assert footing.opening()["secret"] == "s-2"  # noqa: S105 -- of no daemon


def test_an_episode_that_begins():
    """Its frames count from 0."""
    footing = Footing(None, "lockstep", None)
    footing.opened(told())
    footing.next_place()
    footing.begin(9)

    assert footing.fresh
    assert [footing.next_place() for _ in range(2)] == [(9, 0), (9, 1)]


def test_another_name():
    """Of our own making, without the secret of the one before; a name that was given is known as such."""
    footing = Footing(None, "lockstep", None)
    footing.opened(told())
    before = footing.session_id
    footing.rename()

    assert footing.session_id != before
    assert "secret" not in footing.opening()
    assert (footing.named, Footing("arm", "lockstep", None).named) == (False, True)


@pytest.mark.parametrize("change", [{"epoch": -1}, {"epoch": True}, {"epoch": 0.0}, {"secret": None}, {"secret": 7}])
def test_what_opens_nothing(change):
    """An epoch that is no count, a secret that is no text."""
    with pytest.raises(BadReply):
        Footing("arm", "lockstep", None).opened({**told(), **change})

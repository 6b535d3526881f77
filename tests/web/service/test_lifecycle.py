from __future__ import annotations

import pytest

from stillframe.errors import NotReady
from stillframe.web.service.lifecycle import Lifecycle, State


class Policy:
    """One that says how it stands."""

    def __init__(self, busy_s: float = 0.0, *, ready: bool = True):
        self.ready, self.busy_s = ready, busy_s


@pytest.mark.parametrize(
    ("policy", "drains", "state", "wait_s", "code"),
    [
        (None, False, State.LOADING, 5.0, "not-ready"),
        (None, True, State.DRAINING, 10.0, "draining"),
        (Policy(ready=False), False, State.WARMING, 1.0, "not-ready"),
        (Policy(99.0, ready=False), False, State.WARMING, 1.0, "not-ready"),
        (Policy(), False, State.READY, None, None),
        (Policy(3.0), False, State.READY, None, None),
        (Policy(3.1), False, State.STUCK, 5.0, "stuck"),
        (Policy(3.1), True, State.DRAINING, 10.0, "draining"),
        (Policy(), True, State.DRAINING, 10.0, "draining"),
    ],
)
def test_how_a_daemon_stands(policy, drains, state, wait_s, code):
    """Its state, whether frames are taken, and what is said where they are not."""
    lifecycle = Lifecycle(policy, watchdog_s=3.0)
    if drains:
        lifecycle.drain()

    assert lifecycle.state is state
    if wait_s is None:
        assert lifecycle.ready_policy() is policy
    else:
        with pytest.raises(NotReady, match=state.value) as caught:
            lifecycle.ready_policy()
        assert (caught.value.code, caught.value.retry_after_s) == (code, wait_s)
    if policy is None:
        with pytest.raises(NotReady, match="loading"):
            lifecycle.loaded_policy()
    else:
        assert lifecycle.loaded_policy() is policy


def test_who_wants_to_know_hears_of_the_drain():
    """Each of them, as it begins, when new frames are refused already."""
    lifecycle, heard = Lifecycle(Policy()), []
    for name in "ab":
        lifecycle.on_drain(lambda name=name: heard.append((name, lifecycle.state)))
    before = list(heard)
    lifecycle.drain()

    assert before == []
    assert heard == [("a", State.DRAINING), ("b", State.DRAINING)]


@pytest.mark.parametrize("policy", [None, Policy(), Policy(ready=False), Policy(99.0)])
@pytest.mark.parametrize("drains", [True, False])
def test_an_engine_that_has_ended_takes_no_frame(policy, drains):
    """Whatever the state was; whoever waits for a drain is told."""
    lifecycle, heard = Lifecycle(policy, watchdog_s=3.0), []
    if drains:
        lifecycle.drain()
    lifecycle.on_drain(lambda: heard.append(lifecycle.state))
    lifecycle.fail()

    assert heard == [State.FAILED]
    with pytest.raises(NotReady, match="failed") as caught:
        lifecycle.ready_policy()
    assert (caught.value.code, caught.value.retry_after_s) == ("engine-ended", 10.0)

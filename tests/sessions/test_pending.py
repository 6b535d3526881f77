from __future__ import annotations

from concurrent.futures import Future

import pytest

from stillframe.domain import Step
from stillframe.sessions.pending import PendingFrame, Superseded


def test_who_comes_later_is_told_what_the_others_were() -> None:
    """An answer, or by which frame it was superseded, the very first included."""
    answered, late = PendingFrame(0, 3, b"three", step=Step(None, None)), Future()  # type: ignore[arg-type]  # any step
    answered.add_waiter(late)
    assert late.result(0) is answered.step
    for by in (0, 1):
        superseded, late = PendingFrame(0, 3, b"three", superseded_by=by), Future()
        superseded.add_waiter(late)

        assert isinstance(late.exception(0), Superseded)
        assert not superseded.failed


def test_what_was_not_begun_cannot_be_settled() -> None:
    """Nor withdrawn: an pending without a computation has ended, and ends once."""
    pending = PendingFrame(0, 0, b"")

    assert (pending.settled, pending.failed, pending.withdraw()) == (True, True, False)
    with pytest.raises(AssertionError):
        pending.settle()

from __future__ import annotations

import asyncio
import errno
import logging

import pytest

from stillframe.web.service.loop_errors import LoopErrorHandler


def test_that_nothing_can_be_accepted_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """The loop tries again every second; other trouble is logged as ever."""
    now_s = [0.0]
    handler = LoopErrorHandler(logging.getLogger("stillframe"), lambda: now_s[0])
    loop = asyncio.new_event_loop()
    for second in range(121):
        now_s[0] = float(second)
        handler(loop, {"message": "accept", "exception": OSError(errno.EMFILE, "Too many open files")})
    handler(loop, {"message": "something else", "exception": ValueError("x")})
    loop.close()

    ours = [record.getMessage() for record in caplog.records if record.name == "stillframe"]
    assert ours == ["no connection can be accepted: Too many open files; raise the limit of open files (ulimit -n)"] * 3
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == ["something else"]


def test_another_error_of_the_system_is_logged_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    """A broken pipe is no want of files."""
    loop = asyncio.new_event_loop()
    LoopErrorHandler(logging.getLogger("stillframe"))(
        loop, {"message": "pipe", "exception": OSError(errno.EPIPE, "Broken pipe")}
    )
    loop.close()

    assert [(record.name, record.getMessage()) for record in caplog.records] == [("asyncio", "pipe")]

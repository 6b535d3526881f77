"""`stillframe top` beside a real daemon: printed once, and drawn on a terminal until q is typed."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import Any

import httpx
import numpy as np
import pytest

from stillframe_client.wire import encode_array

WAIT_S = 60.0
COMMAND = [sys.executable, "-m", "stillframe", "top"]
FULL_SCREEN, PUT_BACK = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.fixture
def watched(tiny: Any) -> str:
    """The URL of a daemon that answered two frames of one robot."""
    picture = np.random.default_rng(5).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    body = {"image": encode_array(picture), "instruction": "pick up the red cube", "session_id": "seen-by-top"}
    for _ in range(2):
        httpx.post(f"{tiny.url}/v1/act", json=body, timeout=WAIT_S).raise_for_status()
    return str(tiny.url)


def test_a_pipe_gets_one_snapshot(watched: str) -> None:
    """Plain text: the contract, the session and its second frame, which reused what the first one left."""
    printed = subprocess.run([*COMMAND, watched], capture_output=True, text=True, timeout=WAIT_S, check=True)
    lines = printed.stdout.splitlines()
    (row, stages) = [re.split(r"\s{2,}", line) for line in lines if line.startswith("seen-by-top ")]

    assert printed.stderr == ""
    assert "\x1b" not in printed.stdout
    assert lines[0].split() == ["stillframe", lines[0].split()[1], "ready", watched]
    assert lines[1].startswith("jaco-tiny (openvla) on cpu, float32, weights as-is ")
    assert (row[2], row[6]) == ("1", "delta")
    assert len(stages) == 9  # its name, seven stages and their sum


def test_a_terminal_is_drawn_on_until_q(watched: str) -> None:
    """On a screen of its own, which is left as it ends with status 0."""
    person, program = pty.openpty()
    terminal = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        [*COMMAND, watched, "--refresh", "0.2"], stdin=program, stdout=program, stderr=program, env=terminal
    )
    os.close(program)
    try:
        drawn = _until(person, b"", b"seen-by-top")
        os.write(person, b"q")
        status = process.wait(WAIT_S)
        drawn = _until(person, drawn, PUT_BACK)
    finally:
        process.kill()
        process.wait()
        os.close(person)

    assert status == 0
    assert drawn.index(FULL_SCREEN) < drawn.index(b"seen-by-top") < drawn.index(PUT_BACK)
    assert b"Traceback" not in drawn


def _until(terminal: int, read: bytes, wanted: bytes) -> bytes:
    """All that is drawn, up to `wanted`."""
    give_up_s = time.monotonic() + WAIT_S
    while wanted not in read:
        assert time.monotonic() < give_up_s, read
        if select.select([terminal], [], [], 0.1)[0]:
            read += os.read(terminal, 65536)
    return read

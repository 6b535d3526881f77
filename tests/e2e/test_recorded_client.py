"""The recordings that the dialects are tested with: what the real clients send, still."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "web" / "dialects" / "recorded"
recorder = runpy.run_path(str(FOLDER / "record.py"), run_name="recorder")
RECORDINGS = recorder["RECORDINGS"]


SENDERS = dict.fromkeys((name, made.program) for made in RECORDINGS.values() for name in made.environments)


@pytest.mark.parametrize(("packages", "program"), SENDERS)
def test_the_client_still_sends_it(
    environment: Callable[[str], Path], programs: Any, packages: str, program: str
) -> None:
    """In each environment that is pinned, the client puts the recorded bytes on the wire."""
    if program == "curl" and shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    sent = recorder["record"](packages, program, environment(packages), programs)

    assert sent == {file: (FOLDER / file).read_bytes() for file in sent}


def test_every_recording_has_its_maker() -> None:
    """No file lies there that record.py would not make again."""
    made = {file.name for file in FOLDER.iterdir() if file.suffix in (".http", ".msgpack")}

    assert made == set(RECORDINGS)

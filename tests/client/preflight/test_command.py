from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from stillframe.testing import EchoPolicy, policy_info, running, state_info
from stillframe_client.preflight.command import main

FITS = ("--camera", "front=224x224", "--camera", "wrist=224x224", "--state", "x,y")


@pytest.fixture(scope="module")
def policy() -> EchoPolicy:
    """Two cameras and a state of two numbers."""
    return EchoPolicy(policy_info(cameras=("front", "wrist"), state=state_info("x", "y", unit="m")))


@pytest.fixture(scope="module")
def url(policy: EchoPolicy) -> Iterator[str]:
    """Its daemon."""
    with running(policy) as address:
        yield address


def levels(out: str) -> set[str]:
    """The first word of every line."""
    return {line.split()[0] for line in out.splitlines()}


def test_a_frame_that_is_taken(url: str, policy: EchoPolicy, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0; one frame was sent, of no session."""
    before = len(policy.seen)
    status = main([url, *FITS, "--instruction", "pick up the cube"])

    assert (status, levels(capsys.readouterr().out)) == (0, {"ok"})
    assert len(policy.seen) == before + 1
    assert policy.sessions[-1] is None
    assert (policy.seen[-1].instruction, list(policy.seen[-1].images)) == ("pick up the cube", ["front", "wrist"])


def test_the_policys_own_picture(url: str, policy: EchoPolicy, tmp_path: Path) -> None:
    """A PNG and measured numbers reach the policy as they are."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")

    assert main([url, "--camera", f"front={tmp_path}/a.png", "--camera=wrist=32x32", "--state=-0.5,0.25"]) == 0
    assert np.array_equal(policy.seen[-1].images["front"], pixels)
    assert policy.seen[-1].state is not None
    assert policy.seen[-1].state.tolist() == [-0.5, 0.25]


def test_what_the_daemon_warns_of_is_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As a warning: the frame is taken."""
    assert main([url, *FITS, "--instruction", "Pick up the cube."]) == 0
    assert "warning  frame         The instruction ends with '.'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ((), "refused, missing-state"),
        (("--camera", "front=224x224", "--state", "2"), "refused, missing-camera"),
        ((*FITS[:4], "--state", "8"), "refused, wrong-state"),
        ((*FITS, "--camera", "mast=224x224"), "refused, unknown-camera"),
        ((*FITS, "--unnorm-key", "bridge"), "refused, unknown-unnorm-key"),
    ],
)
def test_a_frame_that_is_refused(
    url: str, capsys: pytest.CaptureFixture[str], typed: tuple[str, ...], words: str
) -> None:
    """Status 1: what the contract says, and the daemon's own words."""
    status = main([url, *typed])
    out = capsys.readouterr().out

    assert status == 1
    assert words in out
    assert [line.split()[0] for line in out.splitlines()].count("wrong") >= 2


def test_a_picture_without_a_name_is_the_only_cameras(capsys: pytest.CaptureFixture[str]) -> None:
    """As PolicyClient takes one."""
    with running(EchoPolicy()) as url:
        assert main([url, "--camera", "480x480"]) == 0
    assert "camera front  480x480, resized to 224x224" in capsys.readouterr().out


def test_where_there_is_no_daemon(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, in one line."""
    assert main(["http://127.0.0.1:9", *FITS]) == 1
    assert capsys.readouterr().out.startswith("wrong    daemon  Nothing answers")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("nothing",), "url is 'nothing'"),
        (("http://127.0.0.1:9", "--camera", "front=480"), "--camera: '480' is neither"),
        (("http://127.0.0.1:9", "--camera", "a=8x8", "--camera", "a=8x8"), "each has a name of its own"),
        (("http://127.0.0.1:9", "--camera", "8x8", "--camera", "a=8x8"), "each has a name of its own"),
        (("http://127.0.0.1:9", "--state", "x,x"), "--state: a name is empty or stands twice"),
        (("http://127.0.0.1:9", "--timeout", "0"), "timeout_s is 0.0"),
        ((), "required: URL"),
    ],
)
def test_what_was_mistyped(capsys: pytest.CaptureFixture[str], typed: tuple[str, ...], words: str) -> None:
    """Status 2, before anything is asked."""
    with pytest.raises(SystemExit) as end:
        main(typed)

    assert end.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("program", [["stillframe_client.preflight"], ["stillframe", "preflight"]], ids=" ".join)
def test_both_programs_are_one(url: str, program: list[str]) -> None:
    """The client's module, and the server's command, which hands its options on in their order."""
    done = subprocess.run(
        [sys.executable, "-m", *program, url, *FITS[:-1], "8"], capture_output=True, text=True, timeout=120, check=False
    )
    shown = subprocess.run(
        [sys.executable, "-m", *program, "--help"], capture_output=True, text=True, timeout=120, check=False
    )

    assert (done.returncode, done.stderr) == (1, "")
    assert "8 numbers sent; the policy reads 2 numbers: x [m], y [m]" in done.stdout
    assert (shown.returncode, "--camera NAME=HxW" in shown.stdout) == (0, True)

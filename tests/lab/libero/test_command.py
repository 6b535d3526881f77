from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stillframe.errors import ConfigError
from stillframe.testing import EchoPolicy, policy_info, running
from stillframe_lab.libero.process import simulator_python
from stillframe_lab.libero.suites import DRAWN_SEED, INIT_STATES, MOST_STEPS
from stillframe_lab.train.libero.demonstrations import FIRST_SEED

FAKE = Path(__file__).parent / "fake_simulator.py"
STATS = {"libero_spatial": {"q01": [-0.5] * 6 + [0.0], "q99": [0.5] * 6 + [1.0], "mask": [True] * 6 + [False]}}
POLICY = policy_info(family="openvla", norm_stats=STATS, default_unnorm_key=None, gripper="0 = close, 1 = open")
Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch, typed: Typed) -> Typed:
    """Type `stillframe eval --suite libero_spatial` with more words -> status, stdout, stderr; the simulator counts."""
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    process = "stillframe_lab.libero.process"
    monkeypatch.setattr(f"{process}.simulator_python", lambda: Path(sys.executable))
    monkeypatch.setattr(f"{process}.start_command", lambda python: [str(python), str(FAKE), "{}"])
    return partial(typed, "eval", "--suite", "libero_spatial")


def test_a_daemon_is_evaluated_and_goes_on_where_it_stopped(evaluated: Typed, tmp_path: Path) -> None:
    """What is printed is what is written; a second command with more episodes plays only those."""
    policy = EchoPolicy(POLICY, actions=np.array([[0.4, 0, 0, 0, 0, 0, 1.0]]))
    file = tmp_path / "new" / "spatial.json"
    with running(policy) as url:
        common = ["--server", url, "--tasks", "1,4", "--json", file, "--processes", 2]
        first = evaluated(*common, "--episodes", 2)
        asked = len(policy.seen)
        status, out, err = evaluated(*common, "--episodes", 3)
    document: dict[str, Any] = json.loads(out)

    assert (first[0], status) == (0, 0)
    assert document == json.loads(file.read_text())
    assert (asked, len(policy.seen)) == (6, 9)  # three steps to a metre
    assert [(one["task"], one["wins"], one["episodes"]) for one in document["by_task"]] == [(1, 2, 2), (4, 1, 1)]
    assert (document["server"], document["family"], document["frames"]) == (url, "openvla", 9)
    assert document["warnings"] == [line.removeprefix("warning: ") for line in err.splitlines() if "warning" in line]
    assert "whole pictures" in document["warnings"][0]


def test_the_expert_is_evaluated_and_filmed(evaluated: Typed, tmp_path: Path) -> None:
    """Without a daemon; its figures are success and steps alone."""
    status, out, _ = evaluated("--expert", "--tasks", 1, "--episodes", 3, "--seed", 2, "--video", tmp_path / "films")
    document = json.loads(out)

    assert status == 0
    assert (document["policy"], document["seed"], document["episodes"]) == ("expert", 2, 3)
    assert document["latency_ms"] == {"p50": None, "p99": None}
    assert "frames" not in document
    names = sorted(file.name for file in (tmp_path / "films").iterdir())
    assert [name[:15] for name in names] == ["task-1-state-00", "task-1-state-01", "task-1-state-02"]
    with Image.open(tmp_path / "films" / names[0]) as film:
        assert film.size == (4, 4)  # the hand's camera is not drawn for it


def test_drawn_scenes_are_no_fixed_states(evaluated: Typed, tmp_path: Path) -> None:
    """Each has a seed of its own, which neither fixed states nor demonstrations have; the result and its log say so."""
    policy, file = EchoPolicy(POLICY, actions=np.array([[0.4, 0, 0, 0, 0, 0, 1.0]])), tmp_path / "drawn.json"
    with running(policy) as url:
        common = ["--server", url, "--tasks", 1, "--json", file]
        status, out, _ = evaluated(*common, "--episodes", 2, "--scenes", "drawn")
        again, _, err = evaluated(*common, "--episodes", 3)
    document = json.loads(out)
    lines = [json.loads(line) for line in file.with_suffix(".episodes.jsonl").read_text().splitlines()[1:]]

    assert (status, document["scenes"], document["seed"]) == (0, "drawn", DRAWN_SEED)
    assert DRAWN_SEED + INIT_STATES <= FIRST_SEED
    assert [line["seed"] for line in lines] == [DRAWN_SEED, DRAWN_SEED + 1]
    assert any("drawn" in warning for warning in document["warnings"])
    assert again == 1  # fixed states do not go into their log
    assert "scenes was 'drawn'" in " ".join(err.split())


@pytest.mark.process
@pytest.mark.parametrize(
    ("said", "words", "drawn"),
    [
        ("fast", [], "fast"),
        pytest.param(None, [], "full", marks=pytest.mark.slow),
        pytest.param("fast", ["--pictures", "full"], "full", marks=pytest.mark.slow),
        pytest.param("none", [], None, marks=pytest.mark.slow),
    ],
)
def test_a_policy_is_shown_the_pictures_that_it_was_trained_on(
    evaluated: Typed,
    monkeypatch: pytest.MonkeyPatch,
    golden_folder: Path,
    tmp_path: Path,
    said: str | None,
    words: list[str],
    drawn: str | None,
) -> None:
    """By a daemon of its own, which ends with the command; nothing is reused unless that is asked for.

    Its config.json names the pictures, the option wins, and the result says which they were; the others get full ones.
    """
    monkeypatch.setitem(MOST_STEPS, "libero_spatial", 2)
    folder = tmp_path / "checkpoint"
    shutil.copytree(golden_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | ({} if said is None else {"libero_pictures": said})))
    status, out, err = evaluated("--checkpoint", folder, "--tasks", 0, "--episodes", 1, *words)
    if drawn is None:
        assert status == 1
        assert "libero_pictures is 'none'; expected full or fast" in " ".join(err.split())
        return
    document = json.loads(out)

    assert (status, document["pictures"]) == (0, drawn)
    assert (document["frames"], document["reuse"], document["reuse_asked"]) == (2, "off", "off")
    assert (document["family"], document["server"], document["steps_mean"]) == ("openvla", None, 2)
    assert document["simulator"] == {"fake": "1", "drawn": drawn}
    assert any("fast ones" in warning for warning in document["warnings"]) == (drawn == "fast")


def test_a_checkpoint_is_loaded_as_the_options_say(
    evaluated: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the daemon that serves it, which chooses what is not said."""
    asked: list[list[str]] = []

    def daemon(words: list[str]) -> None:
        asked.append(words)
        raise ConfigError("far enough")

    monkeypatch.setattr("stillframe.tools.local_daemon.daemon", daemon)
    policy = ("--checkpoint", tmp_path, "--pictures", "full")
    evaluated(*policy)
    evaluated(*policy, "--device", "cpu", "--dtype", "bfloat16", "--weights", "int8", "--threads", 2)
    plain, told = asked

    assert plain == ["--checkpoint", str(tmp_path), "--threads", "1"]
    assert told == [*plain[:2], "--device", "cpu", "--dtype", "bfloat16", "--weights", "int8", "--threads", "2"]


def test_experts_need_no_pictures(evaluated: Typed) -> None:
    """The simulator is told to draw nothing."""
    _, out, _ = evaluated("--expert", "--tasks", 0, "--episodes", 1)
    document = json.loads(out)

    assert document["simulator"] == {"fake": "1", "drawn": ""}
    assert "pictures" not in document


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "expected one of --checkpoint, --server and --expert"),
        (["--expert", "--server", "http://127.0.0.1:1"], "expected one of --checkpoint, --server and --expert"),
        (["--expert", "--tasks", "10"], "numbers from 0 to 9"),
        (["--expert", "--episodes", "501"], "expected 1 to 500"),
        (["--expert", "--suite", "libero_90"], "--suite libero_90: expected one of"),
        (["--expert", "--suite", "libero_goal", "--episodes", "1"], "libero_goal has none"),
    ],
)
def test_what_cannot_be_evaluated_is_said_in_one_line(evaluated: Typed, words: list[str], problem: str) -> None:
    """Before an episode is played, with status 1."""
    status, out, err = evaluated(*words)

    assert (status, out) == (1, "")
    assert problem in " ".join(err.split())


def test_a_missing_simulator_says_what_installs_it(
    evaluated: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command is `make libero`, and the folder is named."""
    monkeypatch.setattr("stillframe_lab.libero.process.simulator_python", simulator_python)
    monkeypatch.setenv("STILLFRAME_LIBERO", str(tmp_path))
    status, out, err = evaluated("--expert", "--episodes", 1)

    assert (status, out) == (1, "")
    assert "`make libero` installs it" in " ".join(err.split())

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stillframe.errors import ConfigError
from stillframe_client.errors import WireError
from stillframe_lab.libero.process import SimulatorError, SimulatorProcess, simulator_python, start_command
from stillframe_lab.libero.simulator.messages import receive, send

Start = Callable[..., SimulatorProcess]
FAILS, DIES, HANGS = 7.0, 8.0, 9.0  # the fake simulator's


def action(x: float) -> np.ndarray:
    """Along x."""
    return np.array([x, 0, 0, 0, 0, 0, -1.0])


def test_a_task_is_opened_reset_stepped_and_drawn(fake: Start) -> None:
    """What is asked arrives with its numbers, and what is answered comes back with them."""
    simulator = fake()
    scene = simulator.open("libero_spatial", 3)
    first = simulator.reset(init_state=4, seed=5)
    second = simulator.step(action(0.7))
    pictures = simulator.pictures()

    assert (scene.instruction, scene.init_states, scene.versions) == ("do 3", 50, {"fake": "1", "drawn": ""})
    assert scene.bounds["bowl"].tolist() == [[-0.05, -0.05, 0.0], [0.05, 0.05, 0.05]]
    assert first.objects["bowl"].tolist()[:3] == [4, 5, 3]
    assert (first.position.tolist(), second.position.tolist()) == ([0, 0, 0], [0.7, 0, 0])
    assert (second.quaternion.tolist(), second.fingers.tolist()) == ([1, 0, 0, 0], [0.04, -0.04])
    assert {name: (one.dtype, one.shape, one[0, 0, 0]) for name, one in pictures.items()} == {
        "agentview": (np.uint8, (4, 4, 3), 7),
        "wrist": (np.uint8, (4, 4, 3), 8),
    }
    assert [*simulator.pictures(["wrist"])] == ["wrist"]
    assert {name: (one.dtype, int(one.sum())) for name, one in simulator.masks().items()} == {
        "agentview": (np.bool_, 1),
        "wrist": (np.bool_, 16),
    }
    assert (simulator.camera("agentview").position.tolist(), simulator.camera("wrist").fovy_deg) == ([9, 0, 0], 5.0)
    assert [second.success, simulator.step(action(0.3)).success] == [False, True]


def test_a_drawn_initial_state_is_asked_for_by_none(fake: Start) -> None:
    """The fixed states are for evaluation; training lets the simulator draw."""
    simulator = fake()
    simulator.open("libero_spatial", 0)

    assert simulator.reset(init_state=None, seed=9).objects["bowl"][:2].tolist() == [-1, 9]


def test_what_fails_is_said_and_the_next_request_is_answered(fake: Start) -> None:
    """A failure is the request's own: a suite that is not there, a step beyond the end, a reset before a task."""
    simulator = fake()
    with pytest.raises(SimulatorError, match="'reset' before a task is open"):
        simulator.reset(0, 0)
    with pytest.raises(SimulatorError, match="failed at 'open': KeyError: 'libero_90'"):
        simulator.open("libero_90", 0)
    simulator.open("libero_spatial", 0)
    simulator.reset(0, 0)
    with pytest.raises(SimulatorError, match="ValueError: executing action in terminated episode"):
        simulator.step(action(FAILS))

    assert simulator.step(action(0.5)).position[0] == 0.5


def test_the_last_words_of_a_process_that_dies_are_told(fake: Start) -> None:
    """A crash of the simulator is no hanging evaluation, and its output says why it was."""
    simulator = fake()
    simulator.open("libero_spatial", 0)
    simulator.reset(0, 0)

    with pytest.raises(SimulatorError, match=r"ended at 'step'.*out of memory"):
        simulator.step(action(DIES))


def test_a_process_that_hangs_is_given_up(fake: Start) -> None:
    """No wait is without an end."""
    simulator = fake(answer_s=120.0)
    simulator.open("libero_spatial", 0)
    simulator.reset(0, 0)
    simulator._socket.settimeout(0.5)  # the rest of this test need not wait

    with pytest.raises(SimulatorError, match=r"did not answer 'step' in time.*thinking"):
        simulator.step(action(HANGS))


def test_the_process_ends_with_its_socket(fake: Start) -> None:
    """Closing is enough: no simulator stays behind, and the scene is closed before the next one is opened."""
    simulator = fake()
    simulator.open("libero_spatial", 1)
    simulator.open("libero_spatial", 2)
    said = simulator._last_words()
    simulator.close()

    assert said == "its last words: closed 1"
    assert simulator._process.returncode == 0


def test_a_missing_environment_says_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is half installed is missing too."""
    monkeypatch.setenv("STILLFRAME_LIBERO", str(tmp_path))
    with pytest.raises(ConfigError, match="make libero"):
        simulator_python()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    with pytest.raises(ConfigError, match="make libero"):
        simulator_python()
    (tmp_path / ".installed").touch()

    assert start_command(simulator_python())[0] == str(tmp_path / "bin" / "python")


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (struct.pack("<I", 9) + b"short", "closed after 5 of 9 bytes"),
        (struct.pack("<I", 2**31), "at most 67108864"),
        (struct.pack("<I", 1) + b"\x07", "type int; expected a map"),
        (struct.pack("<I", 2) + b"\xd4\x01", "extensions"),
        (b"\x01", "closed after 1 of 4 bytes"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, problem: str) -> None:
    """Cut short, too long, no map, an object: never built."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(WireError, match=problem):
            receive(ours)


def test_messages_come_one_by_one() -> None:
    """Each is whole, with its arrays to the bit; the end is none."""
    ours, theirs = socket.socketpair()
    sent = np.arange(21.0).reshape(3, 7) / 3
    with ours, theirs:
        send(theirs, {"do": "step", "action": sent})
        send(theirs, {"do": "pictures"})
        theirs.shutdown(socket.SHUT_WR)
        first, second, end = receive(ours), receive(ours), receive(ours)

    assert first is not None
    assert np.array_equal(first["action"], sent)
    assert (second, end) == ({"do": "pictures"}, None)

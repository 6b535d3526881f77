"""OpenVLA's documented client, unmodified, in an environment of its own, against a daemon that serves a network.

Knows nothing of our client: the programs use `requests`, `httpx` and `json-numpy` as their users do.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CURRENT, OLDEST = "json-numpy-2.1.1", "json-numpy-1.0.1"
CLIENTS = [(CURRENT, "openvla"), (OLDEST, "openvla"), (CURRENT, "openvla_double")]
FRAMES = [  # of two sizes; each client sees one every day
    *((*client, frame) for client, frame in zip(CLIENTS, ("f0", "f2", "f0"), strict=True)),
    *(
        pytest.param(*client, frame, marks=pytest.mark.slow)
        for client, frame in zip(CLIENTS, ("f2", "f0", "f2"), strict=True)
    ),
]


@pytest.mark.parametrize(("packages", "program", "frame"), FRAMES)
def test_the_documented_client_gets_the_references_action(
    golden_url: str, goldens: Mapping[str, Any], connect: Callable[..., Any], packages: str, program: str, frame: str
) -> None:
    """The snippet of OpenVLA's documentation gets seven float64 numbers: those of the reference, to the bit."""
    golden = goldens[frame]
    action = connect(packages, program, golden_url)("robot", "act", golden.picture, golden.instruction)

    assert (action.dtype, action.shape) == (np.float64, (7,))
    assert action.tobytes() == golden.action.tobytes()


@pytest.mark.parametrize(
    ("packages", "program"), [CLIENTS[0], *(pytest.param(*client, marks=pytest.mark.slow) for client in CLIENTS[1:])]
)
def test_an_episode(
    tiny: Any, natively: Any, connect: Callable[..., Any], play: Callable[..., Any], packages: str, program: str
) -> None:
    """Two robots in turn get what the native wire answers; a bad frame's answer is no action."""
    episode = play(connect(packages, program, tiny.url))

    for robot, answers in episode.answers.items():
        assert all(answer.dtype == np.float64 for answer in answers)
        assert np.array_equal(answers, natively[robot][:, 0])
    assert not isinstance(episode.spoilt, np.ndarray | list)
    assert "image-invalid" in str(episode.spoilt)


def test_statistics_by_name(tiny: Any, natively: Any, scenes: Any, connect: Callable[..., Any]) -> None:
    """`unnorm_key` names one, or is null where there is but one; an unknown one is a problem that lists them."""
    order, picture = connect(CURRENT, "openvla", tiny.url), scenes["left"][0]
    named, null, unknown = [order("left", "key", picture, "pick up the red cube", k) for k in ("jaco_sim", None, "bri")]

    assert np.array_equal(named, natively["left"][0, 0])
    assert np.array_equal(null, named)
    assert unknown["code"] == "unknown-unnorm-key"
    assert "jaco_sim" in unknown["detail"]


def test_that_environment_is_the_clients_own(environment: Callable[[str], Path]) -> None:
    """Nothing of ours is in the client's environment: what it decodes, it decodes by itself."""
    script = "import importlib.util as u; print([u.find_spec(n) for n in ('stillframe', 'stillframe_client', 'torch')])"
    said = subprocess.run([environment(CURRENT), "-I", "-c", script], capture_output=True, text=True, check=True).stdout

    assert said == "[None, None, None]\n"

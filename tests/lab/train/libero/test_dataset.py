from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from PIL import Image

from stillframe.errors import ConfigError
from stillframe.models.scales import ENDS
from stillframe.models.state import STATISTICS, state_scales
from stillframe_lab.libero.pictures import lanczos
from stillframe_lab.train.libero.dataset import HORIZON, frames_of
from stillframe_lab.train.libero.demonstrations import DemoFolder, DemoId
from stillframe_lab.train.libero.words import (
    ACTION_LIMIT,
    INSTRUCTIONS,
    WORDS,
    action_scale,
    action_statistics,
    as_answered,
    with_state,
)
from stillframe_lab.train.new_checkpoint import build_tokenizer

SUITE = "libero_spatial"
WANTED = [DemoId(0, 0), DemoId(6, 0)]


def test_frames_are_what_the_policy_is_sent_and_should_say(tmp_path: Path, demos: Callable[[int], DemoFolder]) -> None:
    """Pictures resized as evaluation does; a chunk is the next actions, the last one held beyond the end."""
    folder = demos(1)
    store, demo = frames_of(tmp_path / "frames", folder, WANTED, SUITE, 28), folder.load(WANTED[1])
    labels, at = store.labels, len(folder.load(WANTED[0]).kept) + 2  # the third of the second
    step = int(demo.kept[2])
    sent = lanczos(np.asarray(Image.open(io.BytesIO(demo.pictures[2][1]))), (28, 28))

    assert len(store) == 10
    assert np.array_equal(store.images[at, 1], sent)
    assert labels.task[at] == 6  # type: ignore[attr-defined]  # TaskLabels
    assert_allclose(labels.state[at], demo.states[step])  # type: ignore[attr-defined]
    chunk = labels.chunks[at]  # type: ignore[attr-defined]
    answers = as_answered(demo.actions[step:], SUITE)
    assert_allclose(chunk[: len(answers)], answers)
    assert_allclose(chunk[len(answers) :], np.repeat(answers[-1:], HORIZON - len(answers), axis=0))
    assert_allclose(labels.points_px[at], demo.points_px[step] * 28 / 32, rtol=1e-6)


def test_frames_are_written_once_and_only_for_what_they_are(tmp_path: Path, demos: Callable[[int], DemoFolder]) -> None:
    """Other demonstrations or another size in the same folder are refused."""
    folder, store = demos(1), tmp_path / "frames"
    frames_of(store, folder, WANTED, SUITE, 28)
    written = (store / "labels.npz").stat().st_mtime_ns
    frames_of(store, folder, WANTED, SUITE, 28)

    assert (store / "labels.npz").stat().st_mtime_ns == written
    for other in (WANTED[:1], WANTED[::-1]):
        with pytest.raises(ConfigError, match="another recipe"):
            frames_of(store, folder, other, SUITE, 28)
    with pytest.raises(ConfigError, match="another recipe"):
        frames_of(store, folder, WANTED, SUITE, 42)


@given(
    st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3),
    st.sampled_from([-1.0, 1.0]),
)
def test_an_answer_means_the_action_that_it_was_made_of(move: list[float], turn: list[float], gripper: float) -> None:
    """Unnormalised as the daemon does and with the gripper as evaluation plays it, it is the expert's again."""
    action = np.array([*move, *turn, gripper], np.float32)
    said = action_scale(SUITE).unnormalise(as_answered(action, SUITE).astype(float))

    assert_allclose(said[:6], action[:6], atol=1e-6)
    assert -np.sign(2 * said[6] - 1) == gripper


def test_states_of_demonstrations_are_scaled_into_their_range() -> None:
    """With room beyond both ends; the action's statistics stay."""
    states = np.linspace(0, 1, 101)[:, None] * np.arange(1, 9)
    statistics = with_state(action_statistics(SUITE), SUITE, states)
    scaled = state_scales(statistics, 8, ENDS)[SUITE].normalise(states)

    assert np.abs(scaled).max() < 1.0
    assert scaled.min(axis=0).max() < -0.7
    assert statistics[SUITE]["action"]["q99"] == [*ACTION_LIMIT, 1.0]
    assert statistics[SUITE][STATISTICS]["mask"] == [True] * 8


def test_every_instruction_is_told_from_every_other() -> None:
    """No word is unknown, and no two tasks of a suite have the same tokens."""
    tokenizer = build_tokenizer(WORDS)
    for texts in INSTRUCTIONS.values():
        ids = [tuple(tokenizer.encode(text).ids) for text in texts]

        assert len({*ids}) == len(texts) == 10
        assert all(tokenizer.token_to_id("<unk>") not in one for one in ids)


def test_instructions_are_the_benchmarks() -> None:
    """Of the recorded task, as the simulator says it."""
    from stillframe_client.wire import PackLimits, unpack

    file = Path(__file__).parents[2] / "libero" / "recorded" / "spatial-0.msgpack"
    document: Mapping[str, Any] = unpack(file.read_bytes(), limits=PackLimits(max_parts=100_000))

    assert INSTRUCTIONS[document["suite"]][document["task"]] == document["scene"]["instruction"]
    assert json.dumps(INSTRUCTIONS).count("and place it") == 20

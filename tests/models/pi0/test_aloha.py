from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.domain import Observation
from stillframe.errors import CheckpointError
from stillframe.models.pi0.aloha import commanded, from_openpi, to_openpi
from stillframe.models.pi0.model import Pi0

FolderOf = Callable[[str], Path]
Load = Callable[..., Pi0]
SIZE = 14
MIRRORED, GRIPPERS = [1, 2, 8, 9], [6, 13]
OTHERS = [at for at in range(SIZE) if at not in (*MIRRORED, *GRIPPERS)]
PICTURE = np.full((224, 224, 3), 90, np.uint8)


@pytest.fixture
def trossen(folder_of: FolderOf) -> Callable[..., Path]:
    """A micro checkpoint whose statistics are of two arms, under an asset's name."""

    def made(name: str = "pi0-micro", asset: str = "trossen", size: int = SIZE) -> Path:
        folder = folder_of(name)
        (folder / "assets" / "physical-intelligence" / "libero" / "norm_stats.json").unlink()
        (folder / "assets" / asset).mkdir(parents=True)
        numbers = {"mean": [0.1] * size, "std": [0.5] * size, "q01": [-1.0] * size, "q99": [1.2] * size}
        stats = {"norm_stats": {"state": numbers, "actions": numbers}}
        (folder / "assets" / asset / "norm_stats.json").write_text(json.dumps(stats))
        return folder

    return made


# What openpi's aloha_policy.py makes of these grippers, run by itself: of a state, and of an action.
@pytest.mark.parametrize(
    ("said", "known", "told"),
    [
        (0.0, -1.0798655475132917, 0.5533778345878898),
        (0.25, -0.5130776068814178, 0.6717322350044973),
        (0.5, -0.1400559217021429, 0.7900866354211049),
        (0.75, 0.22332757987422025, 0.9084410358377123),
        (1.0, 0.945652797407483, 1.0267954362543197),
        (-0.1, -1.6497652739264412, 0.5060360744212469),
        (1.1, 0.945652797407483, 1.074137196420963),
    ],
)
def test_grippers_are_those_of_the_reference(said: float, known: float, told: float) -> None:
    """Both arms', a state's by the angle of its motor, an action's as it is commanded."""
    numbers = np.full(SIZE, said)

    np.testing.assert_allclose(to_openpi(numbers)[GRIPPERS], known, rtol=1e-12)
    np.testing.assert_allclose(commanded(numbers[None])[0, GRIPPERS], told, rtol=1e-12)


def test_four_joints_turn_the_other_way() -> None:
    """Shoulders and elbows, there and back; what was handed in stays as it is."""
    state = np.linspace(0.1, 0.9, SIZE)
    kept = state.copy()
    for turned in (to_openpi(state), from_openpi(state), commanded(state)):
        assert np.array_equal(turned[MIRRORED], -state[MIRRORED])
        assert np.array_equal(turned[OTHERS], state[OTHERS])

    assert np.array_equal(state, kept)
    np.testing.assert_allclose(from_openpi(to_openpi(state)), state, rtol=0, atol=1e-12)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["pi0-micro", "pi05-micro"])
def test_a_chunk_is_in_the_robots_numbers(trossen: Callable[..., Path], load: Load, name: str) -> None:
    """Read in openpi's space, the state added there, commanded in ALOHA's; the contract has ALOHA's ends."""
    policy = load(trossen(name))
    info, key, state = policy.info, "trossen", np.linspace(0.2, 0.8, SIZE)
    prepared = policy.prepare(Observation(dict.fromkeys(info.cameras, PICTURE), "lift", state=state))
    decoded = policy.scaled(prepared, np.zeros((2, 32)))
    known = policy.states[key].unnormalise(prepared.state.numpy()) if prepared.state is not None else None
    network = policy.actions[key].unnormalise(np.zeros(SIZE))
    expected = np.where(policy.config.relative, network + known, network)

    assert policy.config.adapted
    np.testing.assert_allclose(known, to_openpi(state), atol=1e-5)
    np.testing.assert_allclose(decoded.chunk.actions, commanded(np.stack([expected] * 2)), atol=1e-12)
    assert info.state is not None
    low, high = (np.array(info.state.norm_stats[key][end]) for end in ("low", "high"))
    assert (low < high).all()
    np.testing.assert_allclose(low[1], -policy.states[key].high[1])
    np.testing.assert_allclose(to_openpi(low)[GRIPPERS], policy.states[key].low[GRIPPERS], atol=1e-9)
    stats = info.norm_stats[key]
    assert all(stats["q01"][at] < stats["q99"][at] for at in range(SIZE))
    np.testing.assert_allclose(stats["q99"][1], -(policy.actions[key].low[1] + policy.states[key].low[1]))
    np.testing.assert_allclose(stats["q99"][6], commanded(policy.actions[key].high)[6])


@pytest.mark.parametrize(
    ("asset", "keys", "expected"),
    [
        ("trossen", {}, (True, 3, True)),
        ("physical-intelligence/aloha_pen_uncap_diverse", {}, (True, 3, True)),
        ("lerobot/aloha_sim_transfer_cube_human", {}, (True, 1, False)),
        ("trossen", {"adapt_to_pi": False}, (False, 3, True)),
        ("my_robot", {}, (False, 3, False)),
        ("my_robot", {"adapt_to_pi": True}, (True, 3, False)),
    ],
)
def test_what_is_known_of_alohas(
    trossen: Callable[..., Path], load: Load, asset: str, keys: dict[str, Any], expected: tuple[bool, int, bool]
) -> None:
    """By the asset's name, where the deployment does not say it: adapted or not, cameras, differences."""
    config = load(trossen(asset=asset), **keys).config

    assert (config.adapted, len(config.cameras), any(config.relative)) == expected


def test_lerobots_word_for_it(folder_of: FolderOf, load: Load, edit: Callable[..., None]) -> None:
    """Is understood; another robot's numbers are refused."""
    folder = folder_of("pi0-micro-lerobot")
    edit(folder / "config.json", lambda config: config.update(adapt_to_pi_aloha=True))

    with pytest.raises(
        CheckpointError, match="adapt_to_pi is true with an action of 7 and a state of 8 numbers; expec"
    ):
        load(folder)
    assert not load(folder, adapt_to_pi=False).config.adapted
    with pytest.raises(CheckpointError, match="adapt_to_pi is 'yes'; expected true or false"):
        load(folder, adapt_to_pi="yes")

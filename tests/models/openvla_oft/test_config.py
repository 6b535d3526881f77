from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillframe.errors import CheckpointError
from stillframe.models.openvla_oft.model import OpenVLAOFT
from stillframe.models.openvla_oft.platforms import PLATFORMS, platform_of

Load = Callable[..., OpenVLAOFT]


@pytest.mark.parametrize(
    ("data_sets", "action_dim", "state_dim", "expected"),
    [
        (["libero_spatial_no_noops"], 7, 8, "LIBERO"),
        (["libero_10", "libero_goal"], 7, None, "LIBERO"),
        (["aloha_scoop_x_into_bowl"], 14, 14, "ALOHA"),
        (["bridge_orig"], 7, None, "Bridge"),
        (["mine"], 7, 8, "LIBERO"),
        (["mine"], 14, 14, "ALOHA"),
        (["mine"], 7, 7, "Bridge"),
        (["mine"], 7, None, None),
        (["mine"], 7, 9, None),
        (["libero_spatial"], 14, None, None),
    ],
)
def test_a_robot_is_known_by_its_data_or_its_sizes(
    data_sets: list[str], action_dim: int, state_dim: int | None, expected: str | None
) -> None:
    """Names go first, as long as the sizes fit; without a state sizes alone say nothing."""
    found = platform_of(data_sets, action_dim, state_dim)

    assert (found and found.name) == expected


def test_the_references_constants() -> None:
    """Chunk, action and state of each, and by what they are scaled."""
    found = {one.name: (one.chunk, len(one.action_names), len(one.state_names), one.ends) for one in PLATFORMS}

    assert found == {
        "LIBERO": (8, 7, 8, ("q01", "q99")),
        "ALOHA": (25, 14, 14, ("min", "max")),
        "Bridge": (5, 7, 7, ("q01", "q99")),
    }
    assert all(len(one.state_units) == len(one.state_names) for one in PLATFORMS)


def test_what_a_published_checkpoint_leaves_out_is_its_robots(
    oft: Path, edit: Callable[..., None], load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    """Chunk and cameras; a head of seven and a state of eight numbers are LIBERO's."""
    edit("config.json", lambda config: [config.pop(key, None) for key in ("num_actions_chunk", "cameras")])
    with caplog.at_level(logging.INFO):
        info = load(oft).info

    assert (info.family, info.chunk_horizon, info.cameras) == ("openvla-oft", 8, ("image", "wrist"))
    assert info.state is not None
    assert info.state.names[:3] == ("x", "y", "z")
    assert info.state.units[:4] == ("m", "m", "m", "rad")
    (guess,) = [each for each in caplog.records if "num_actions_chunk" in each.getMessage()]
    assert guess.levelname == "WARNING"
    assert guess.getMessage().endswith("8 actions an answer and cameras image, wrist, as LIBERO's, by its heads' sizes")


def test_a_deployments_keys_go_first(oft: Path, load: Load) -> None:
    """Names, units, cameras and the chunk may be said, in config.json or over it."""
    names, units = [f"joint_{at}" for at in range(8)], ["rad"] * 8
    policy = load(oft, cameras=["front", "left", "right"], num_actions_chunk=3, state_names=names, state_units=units)

    assert (policy.info.cameras, policy.info.chunk_horizon) == (("front", "left", "right"), 3)
    assert policy.info.state is not None
    assert (policy.info.state.names, policy.info.state.units) == (tuple(names), tuple(units))
    assert policy.fixed_rows == 1 + 3 * 256 + 1 + 3 * 7 + 1


def test_a_state_may_be_left_unread(oft: Path, load: Load) -> None:
    """A projector that is there is then no part of the policy."""
    policy = load(oft, use_proprio=False)

    assert policy.info.state is None
    assert policy.projector is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"num_actions_chunk": None, "use_proprio": False}, "config.json has no num_actions_chunk"),
        ({"num_actions_chunk": 0}, "num_actions_chunk is 0; expected a whole number from 1 to 1024"),
        ({"num_actions_chunk": True}, "num_actions_chunk is True"),
        ({"num_actions_chunk": 1025}, "num_actions_chunk is 1025"),
        ({"num_actions_chunk": 500}, "the pictures and 500 actions alone take"),
        ({"action_head": "diffusion"}, "action_head is 'diffusion'; served are 'l1' or 'discrete'"),
        ({"action_head": "descrete"}, "Did you mean 'discrete'?"),
        ({"use_proprio": 1}, "use_proprio is 1; expected true or false"),
        ({"action_proprio_normalization": ["bounds"]}, "action_proprio_normalization is ['bounds']; served are"),
        ({"action_proprio_normalization": "normal"}, "action_proprio_normalization is 'normal'; served are bounds_q99"),
        ({"state_names": ["x"]}, "state_names has 1 words; expected 8, one for each number"),
        ({"state_units": "m"}, "state_units is 'm'; expected a list of words"),
        ({"action_names": ["dx"]}, "action_names has 1 words; expected 7"),
        ({"cameras": ["a", "b", "c", "d"]}, "expected at most 3"),
    ],
)
def test_what_cannot_be_is_named(oft: Path, load: Load, config: dict[str, Any], said: str) -> None:
    """The key, what it says and what is expected."""
    with pytest.raises(CheckpointError) as caught:
        load(oft, **config)

    assert said in str(caught.value)


def test_a_state_that_is_wanted_needs_a_projector(oft: Path, load: Load) -> None:
    """And says where it goes."""
    (oft / "proprio_projector--5_checkpoint.pt").unlink()
    with pytest.raises(CheckpointError, match="use_proprio is true, and there is no projector"):
        load(oft, use_proprio=True)

    assert load(oft).info.state is None


def test_bounds_are_the_least_and_the_greatest(oft: Path, edit: Callable[..., None], load: Load) -> None:
    """Where training scaled by them: actions and states go from min to max."""
    action, state = {"min": [-3.0] * 7, "max": [3.0] * 7}, {"min": [-2.0] * 8, "max": [2.0] * 8}
    edit("dataset_statistics.json", lambda sets: sets["jaco_sim"]["action"].update(action))
    edit("dataset_statistics.json", lambda sets: sets["jaco_sim"]["proprio"].update(state))
    info = load(oft, action_proprio_normalization="bounds").info

    assert info.norm_stats["jaco_sim"]["q99"] == [3.0] * 7
    assert info.state is not None
    assert info.state.norm_stats["jaco_sim"]["high"] == [2.0] * 8

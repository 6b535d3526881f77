from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from stillframe.daemon.config import DaemonConfig, load_config
from stillframe.daemon.serve import open_engine, open_model
from stillframe.engine.local import LocalPolicy
from stillframe.errors import Unprocessable
from stillframe.metrics import Metrics
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.testing import running
from stillframe_lab.evaluation.actors import LocalActor, drift, open_local_actor, open_server_actor

if TYPE_CHECKING:
    from stillframe.models.base import PolicyModel

GOLDENS = Path(__file__).parents[2] / "goldens"
NEVER_WHOLE = {"age_limit": 10_000, "keyframe_every": 10_000, "scene_cut": 0.0}
ALL_STALE = AdaptiveSettings(distance=2.0, top_k=4096, task_top_k=0, **NEVER_WHOLE)
STALE = ReuseSettings(mode="adaptive", gap_s=3600, adaptive=ALL_STALE)
RNG = np.random.default_rng(5)
PICTURES = RNG.integers(0, 255, (2, 224, 224, 3)).astype(np.uint8)


def opened(folder: Path, **options: Any) -> DaemonConfig:
    """A checkpoint as one thread serves it in fp32."""
    return load_config(None, {"checkpoint": folder, "dtype": "float32", "device": "cpu", "threads": 1, **options})


@pytest.fixture(scope="module")
def oft(oft_folder: Path) -> DaemonConfig:
    """Reads a state of eight numbers, answers chunks."""
    return opened(oft_folder)


@pytest.fixture(scope="module")
def oft_model(oft: DaemonConfig) -> PolicyModel:
    """Loaded once."""
    return open_model(oft)


@pytest.fixture(scope="module")
def cogact_model(tmp_path_factory: pytest.TempPathFactory) -> PolicyModel:
    """Draws chunks of 16 by chance."""
    folder = tmp_path_factory.mktemp("goldens") / "cogact-micro"
    shutil.copytree(GOLDENS / "cogact" / "cogact-micro", folder)
    shutil.copy(GOLDENS / "openvla-micro" / "tokenizer.json", folder)
    statistics = json.loads((folder / "dataset_statistics.json").read_text())
    (folder / "dataset_statistics.json").write_text(json.dumps({"arm": statistics["bridge_orig"]}))
    return open_model(opened(folder))


def observed(model: PolicyModel, step: int) -> dict[str, Any]:
    """What the robot sees in step 0 and 1: other pictures, another state."""
    seen: dict[str, Any] = {"images": dict.fromkeys(model.info.cameras, PICTURES[step]), "instruction": "wait"}
    if model.info.state is not None:
        seen["state"] = np.linspace(-0.5, 0.5, len(model.info.state.names)) * (step + 1)
    return seen


def answered(actor: LocalActor, model: PolicyModel, executed: int | None) -> np.ndarray:
    """The chunk [horizon, 7] of the second frame of an episode: all its patches are stale."""
    actor.reset()
    for step in range(2):
        actor(observed(model, step))
        actor.rest(executed)
    assert [frame.keyframe_reason is None for frame in actor.trace.frames[-2:]] == [False, True]
    return actor.chunk


def whole(model: PolicyModel) -> np.ndarray:
    """The same frame's chunk, computed whole in its place in the episode."""
    dense = LocalPolicy(model)
    dense.reset()
    for step in range(2):
        dense(observed(model, step))
    return dense.last.chunk.actions


@pytest.mark.parametrize("executed", [1, 3, None])
@pytest.mark.parametrize("slack", [True, False])
@pytest.mark.parametrize("family", ["oft", "cogact"])
def test_drift_is_that_of_the_actions_that_are_played(
    request: pytest.FixtureRequest,
    family: str,
    slack: bool,  # noqa: FBT001
    executed: int | None,
) -> None:
    """The worst of those, whether a refresh or a second policy measures it, which draws what the first one drew."""
    model = request.getfixturevalue(f"{family}_model")
    actor = LocalActor(model, replace(STALE, slack=slack))
    stale, dense = answered(actor, model, executed), whole(model)

    assert actor.trace.drifts == [pytest.approx(drift(stale[:executed], dense[:executed], model.info), rel=1e-4)]
    assert 0 < actor.trace.drifts[0] < 2


def test_an_actor_knows_its_policys_chunks(oft: DaemonConfig, oft_model: PolicyModel) -> None:
    """All of a chunk is played, or what the deployment says; where it answers one action of each, that one."""
    assert (LocalActor(oft_model, STALE).horizon, LocalActor(oft_model, STALE).execute) == (8, 8)
    for decoding, expected in (({"execute": 3}, (8, 3)), ({"ensemble": 4}, (1, 1))):
        settings = opened(oft.checkpoint, decoding=decoding).decoding
        actor = LocalActor(oft_model, STALE, decoding=settings)
        actor(observed(oft_model, 0))

        assert (actor.horizon, actor.execute) == expected
        assert len(actor.chunk) == actor.horizon


def test_both_actors_hand_on_the_state(oft: DaemonConfig, oft_model: PolicyModel) -> None:
    """In process and over HTTP the same chunks, to the bit; another state gives others, and none is an error."""
    first, second = (observed(oft_model, step) for step in range(2))
    moved = {**first, "state": second["state"]}
    engine = open_engine(oft, Metrics(CollectorRegistry(), drift_budget=0.02), logging.getLogger("test"))
    engine.warm_up()
    with running(engine) as url, open_server_actor(url) as there, open_local_actor(oft) as here:
        chunks = []
        for one in (first, second, moved):
            here(one)
            there(one)
            assert np.array_equal(here.chunk, there.chunk)
            chunks.append(here.chunk)

        assert (here.horizon, there.horizon, here.execute, there.execute) == (8, 8, 8, 4)
        assert not np.array_equal(chunks[0], chunks[2])
        with pytest.raises(Unprocessable, match="state"):
            here({key: value for key, value in first.items() if key != "state"})

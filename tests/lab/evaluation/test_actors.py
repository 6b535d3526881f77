from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from stillframe.daemon.config import load_config
from stillframe.daemon.serve import open_model
from stillframe.domain import HistoryReport
from stillframe.engine.local import LocalPolicy
from stillframe.errors import ConfigError, StillframeError
from stillframe.reuse.pruning_settings import FastVSettings
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.testing import EchoPolicy, policy_info, running, state_info
from stillframe_client import PolicyClient
from stillframe_client.errors import Unreachable
from stillframe_client.sim import JacoEnv, SensorNoise, gl
from stillframe_client.sim.proprioception import STATE_NAMES
from stillframe_client.sim.rollout import Act, Episode, play
from stillframe_lab.evaluation.actors import (
    LocalActor,
    ServerActor,
    drift,
    open_local_actor,
    open_server_actor,
    user_errors,
)
from stillframe_lab.evaluation.macs import decoder_macs

if TYPE_CHECKING:
    from stillframe.models.base import PolicyModel

STEPS = 12


@contextmanager
def scene() -> Iterator[JacoEnv]:
    """A short episode seen through a bad camera."""
    env = JacoEnv("pick", noise=SensorNoise(sigma=2.0, jpeg_quality=90), max_steps=STEPS)
    yield env
    env.close()


def acted(act: Act, seed: int) -> tuple[Episode, np.ndarray]:
    """One episode and its actions [steps, 7]."""
    actions: list[Any] = []

    def remember(observed: dict[str, Any]) -> Any:
        actions.append(act(observed))
        return actions[-1]

    with scene() as env:
        return play(env, remember, seed=seed), np.array(actions)


@pytest.mark.usefixtures("needs_gl")
@pytest.mark.parametrize("seed", [0, 1])
def test_both_ways_give_the_same_episode(golden_model: PolicyModel, golden_url: str, seed: int) -> None:
    """In process and over HTTP: every action equal to the bit, so the whole episode is."""
    local, local_actions = acted(LocalPolicy(golden_model), seed)
    with open_server_actor(golden_url) as act:
        remote, remote_actions = acted(act, seed)

    assert local_actions.dtype == remote_actions.dtype == np.float64
    assert np.array_equal(local_actions, remote_actions)
    assert (local.steps, local.success, local.instruction) == (remote.steps, remote.success, remote.instruction)
    assert len(np.unique(local_actions, axis=0)) > 1  # it looked


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_checkpoint_is_asked_as_configured(golden_folder: Path, goldens: Mapping[str, Any], dtype: str) -> None:
    """In this process, with the configuration's precision: its actions are those of a model opened so."""
    config, golden = load_config(None, {"checkpoint": golden_folder, "dtype": dtype, "threads": 1}), goldens["f2"]
    observed = {"images": {"front": golden.picture}, "instruction": golden.instruction}
    with open_local_actor(config) as act:
        action = act(observed)

    assert act.policy.info.dtype == dtype
    assert np.array_equal(action, LocalPolicy(open_model(config))(observed))
    assert dtype != "float32" or np.array_equal(action, golden.action)


@pytest.mark.parametrize("url", ["localhost:8000", "", "ftp://127.0.0.1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """With the option's name and an example."""
    with pytest.raises(ConfigError, match=r"--server: url is .*; expected something like"), open_server_actor(url):
        pass


@pytest.mark.parametrize("cause", [Unreachable("nothing there"), gl.NoOpenGLError("no way to draw")])
def test_what_client_and_simulator_complain_of_becomes_ours(cause: Exception) -> None:
    """In the same words, so that the command line can print it in one line."""
    with pytest.raises(StillframeError, match=str(cause)) as caught, user_errors():
        raise cause

    assert caught.value.__cause__ is cause


def test_a_bug_stays_a_bug() -> None:
    """Anything else keeps its type and its traceback."""
    with pytest.raises(KeyError), user_errors():
        raise KeyError


FORCED = AdaptiveSettings(distance=2.0, top_k=2, task_top_k=0, age_limit=10_000, keyframe_every=10_000, scene_cut=0.0)
ADAPTIVE = ReuseSettings(mode="adaptive", gap_s=3600, adaptive=FORCED)


def frames(goldens: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Three pictures under one instruction; the first two of one size."""
    return [
        {"images": {"front": goldens[name].picture}, "instruction": goldens[name].instruction}
        for name in ("f0", "f0", "f0")
    ]


def answered(actor: LocalActor, observed: list[dict[str, Any]]) -> LocalActor:
    """The actor after an episode of these pictures."""
    actor.reset()
    for one in observed:
        actor(one)
        actor.rest()
    return actor


def test_an_actor_tells_keyframes_from_delta_frames(golden_model: PolicyModel, goldens: Mapping[str, Any]) -> None:
    """The first frame of an episode is whole, the others reuse two patches and BOS, and multiply less for it."""
    trace = answered(LocalActor(golden_model, ADAPTIVE), frames(goldens)).trace
    whole, *deltas = trace.frames
    config, rows = golden_model.decoder.config, whole.total_tokens

    assert [frame.keyframe_reason is None for frame in trace.frames] == [False, True, True]
    assert [frame.reused_tokens for frame in trace.frames] == [0, 3, 3]
    assert {frame.mode for frame in trace.frames} == {"adaptive"}
    assert deltas[0].reuse_ratio == pytest.approx(3 / rows)
    for frame, reused in ((whole, 0), (deltas[0], 3)):
        counts = [reused] * config.num_hidden_layers
        assert frame.gmacs == pytest.approx(
            decoder_macs(config, rows, counts, action_tokens=7, passes=frame.passes) / 1e9
        )


def test_an_actor_rests_as_a_daemon_does(golden_model: PolicyModel, goldens: Mapping[str, Any]) -> None:
    """With slack each delta frame is computed again: its drift is known and its time is kept."""
    trace = answered(LocalActor(golden_model, ADAPTIVE), frames(goldens)).trace

    assert len(trace.rests_ms) == len(trace.drifts) == 2
    assert trace.drifts == [0.0, 0.0]  # the same picture: what is reused is what would have been computed


@pytest.mark.parametrize(("every", "measured"), [(1, 4), (2, 2), (3, 1), (0, 0)])
def test_without_slack_a_twin_measures(
    golden_model: PolicyModel, goldens: Mapping[str, Any], every: int, measured: int
) -> None:
    """Every so many delta frames, and no dense pass touches the session."""
    knobs = replace(ADAPTIVE, slack=False)
    trace = answered(LocalActor(golden_model, knobs, every), frames(goldens)[:1] * 5).trace

    assert (len(trace.drifts), trace.rests_ms) == (measured, [])


def test_a_twin_sees_what_reuse_did(golden_model: PolicyModel, goldens: Mapping[str, Any]) -> None:
    """Its drift is the distance of the two actions; another picture with stale patches gives one above nought."""
    patches = replace(FORCED, top_k=4096)
    actor = LocalActor(golden_model, replace(ADAPTIVE, slack=False, adaptive=patches))
    first = frames(goldens)[0]
    changed = {**first, "images": {"front": 255 - first["images"]["front"]}}
    answered(actor, [first, changed])
    stale, dense = actor.chunk[0], LocalPolicy(golden_model)(changed)

    assert actor.trace.frames[-1].keyframe_reason is None
    assert actor.trace.drifts == [drift(stale, dense, golden_model.info)]
    assert actor.trace.drifts[0] > 0


def test_a_twin_sees_what_pruning_did(golden_model: PolicyModel, goldens: Mapping[str, Any]) -> None:
    """Each frame is measured and says its share; it multiplies less than a whole one."""
    actor = LocalActor(golden_model, replace(ADAPTIVE, mode="fastv", fastv=FastVSettings(1, 1.0)))
    first = frames(goldens)[0]
    trace = answered(actor, [first, first]).trace
    dense, whole = (
        LocalPolicy(golden_model)(first),
        answered(LocalActor(golden_model, replace(ADAPTIVE, mode="off")), [first]).trace.frames[0],
    )

    assert [frame.keyframe_reason for frame in trace.frames] == ["pruned"] * 2
    assert all(0 < frame.pruned_ratio < 1 and 0 < frame.gmacs < whole.gmacs for frame in trace.frames)
    assert trace.drifts == [drift(actor.chunk[0], dense, golden_model.info)] * 2


def test_drift_is_counted_in_normalised_units(golden_model: PolicyModel) -> None:
    """From q01 to q99 is 2, the worst dimension counts, and an unscaled one counts as it is."""
    info = replace(
        golden_model.info,
        default_unnorm_key="arm",
        norm_stats={"arm": {"q01": [-0.02, 0.0], "q99": [0.02, 1.0], "mask": [True, False]}},
    )

    assert drift(np.array([0.0, 0.5]), np.array([0.01, 0.5]), info) == pytest.approx(0.5)
    assert drift(np.array([0.0, 1.0]), np.array([0.01, 0.0]), info) == pytest.approx(1.0)
    assert drift(np.zeros((3, 2)), np.array([[0.01, 0.0], [0.0, 0.0], [0.0, 0.75]]), info) == pytest.approx(0.75)


@pytest.mark.parametrize("mode", ["off", "paper", None])
def test_a_daemon_is_asked_in_the_mode(mode: Any) -> None:
    """The mode and the session travel with every frame, /reset with every episode; what it says becomes the trace."""
    asked: list[tuple[str, Any]] = []
    cache = {
        "mode": "paper",
        "frame": "delta",
        "reason": None,
        "reuse_ratio": 0.25,
        "reused_tokens": 80,
        "total_tokens": 268,
        "kv_bytes": 5,
        "age_max": 2,
    }
    history = {"enabled": True, "held": 2, "kept": 3, "dropped": 1, "kv_bytes": 16}

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.path, json.loads(request.content)))
        if request.url.path == "/reset":
            return httpx.Response(200, json={"session_id": "a", "epoch": 1})
        timing = "plan;dur=0.5, prefill;dur=4.0, total;dur=9.0"
        reply = {"actions": [[0.0] * 7], "cache": cache, "history": history}
        return httpx.Response(200, json=reply, headers={"server-timing": timing})

    pictures = {name: np.zeros((4, 4, 3), np.uint8) for name in ("front", "wrist")}
    with PolicyClient("http://robot", transport=httpx.MockTransport(answer)) as client:
        actor = ServerActor(client, mode)
        actor.reset()
        actor({"images": pictures, "instruction": "wait"})
        actor({"images": {"front": pictures["front"]}, "instruction": "wait"})
    (reset, _), (_, two), (_, one) = asked
    frame = actor.trace.frames[0]

    assert reset == "/reset"
    assert two.get("reuse") == one.get("reuse") == mode
    assert [*two["images"]] == ["front", "wrist"]
    assert "image" in one
    assert (frame.mode, frame.keyframe_reason, frame.reuse_ratio, frame.total_tokens) == ("paper", None, 0.25, 268)
    assert frame.stages_ms == {"plan": 0.5, "prefill": 4.0}
    assert frame.history == HistoryReport(held=2, slots=0, kept=3, dropped=1, nbytes=16)
    assert actor.trace.drifts == []  # the daemon keeps them to itself


@pytest.mark.parametrize("reads", [True, False])
def test_a_daemon_is_told_the_state_that_it_reads(reads: bool) -> None:  # noqa: FBT001
    """The simulated arm's seven numbers, to the bit; a policy that reads none is not bothered."""
    policy = EchoPolicy(policy_info(state=state_info(*STATE_NAMES) if reads else None))
    state = np.arange(7) / 3
    with running(policy) as url, open_server_actor(url) as actor:
        actor({"images": {"front": np.zeros((8, 8, 3), np.uint8)}, "instruction": "wait", "state": state})

    assert [None if seen.state is None else seen.state.tolist() for seen in policy.seen] == [
        state.tolist() if reads else None
    ]

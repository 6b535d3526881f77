from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stillframe.errors import ConfigError, StillframeError
from stillframe.testing import EchoPolicy, policy_info, running, state_info
from stillframe_lab.evaluation.evaluate import wilson
from stillframe_lab.libero.bench import LiberoBench
from stillframe_lab.libero.episode import Answers, Draw, EpisodeRules, PlayedEpisode
from stillframe_lab.libero.film import Film
from stillframe_lab.libero.log import EpisodeLog, log_file
from stillframe_lab.libero.policy import ServedPolicy, served_policy
from stillframe_lab.libero.process import Reading, Scene, SimulatorError, SimulatorProcess, Vector
from stillframe_lab.libero.run import Agenda, Run, Worker
from stillframe_lab.libero.suites import EpisodeId, episodes_of
from stillframe_lab.libero.summary import summarise

Start = Callable[..., SimulatorProcess]
BENCH = LiberoBench("libero_spatial", "full")
FAILS = 7.0  # the fake simulator's
STATE = ("x", "y", "z", "ax", "ay", "az", "left", "right")
STATS = {"libero_spatial": {"q01": [-0.5] * 6 + [0.0], "q99": [0.5] * 6 + [1.0], "mask": [True] * 6 + [False]}}


def chunk_policy(forwards: float, horizon: int = 4) -> EchoPolicy:
    """OpenVLA-OFT's contract; each action goes along x with an open hand."""
    info = policy_info(
        family="openvla-oft", cameras=("image", "wrist"), image_size=(8, 8), gripper="0 = close, 1 = open",
        chunk_horizon=horizon, norm_stats=STATS, default_unnorm_key=None, state=state_info(*STATE),
    )  # fmt: skip
    return EchoPolicy(info, actions=np.array([[forwards, 0, 0, 0, 0, 0, 1.0]] * horizon))


@contextmanager
def served(policy: EchoPolicy, **options: Any) -> Iterator[ServedPolicy]:
    """The policy behind a real daemon's wire."""
    asked = {"mode": None, "execute": None, "unnorm_key": None, **options}
    with running(policy) as url:
        yield served_policy(url, BENCH, **asked)


def play(
    fake: Start,
    policy: ServedPolicy,
    episodes: list[EpisodeId],
    log: EpisodeLog,
    *,
    workers: int = 1,
    most_steps: int = 6,
    film: Film | None = None,
) -> list[PlayedEpisode]:
    """Play what is missing -> what was watched."""
    watched: list[PlayedEpisode] = []

    @contextmanager
    def worker() -> Iterator[Worker]:
        with policy.player() as player:
            yield Worker(fake(), player)

    run = Run("libero_spatial", EpisodeRules(most_steps, seed=100), log, film)
    run.play(episodes, workers, worker, watched.append)
    return watched


def test_an_episode_over_the_wire(fake: Start) -> None:
    """It settles first, is asked with turned pictures, state and the suite's statistics, and plays whole chunks."""
    policy = chunk_policy(0.15)
    with served(policy) as asked:
        (played,) = play(fake, asked, [EpisodeId(3, 7)], EpisodeLog(None, {}), most_steps=9)

    # The metre is gone after seven actions: two answers of four.
    assert (played.success, played.steps, played.instruction, played.seed) == (True, 7, "do 3", 107)
    assert len(policy.seen) == len(played.answers_ms) == len(played.frames) == 2
    assert [one.keyframe_reason is None for one in played.frames] == [False, True]
    first, second = policy.seen
    assert (first.instruction, first.unnorm_key) == ("do 3", "libero_spatial")
    assert {name: one.shape for name, one in first.images.items()} == {"image": (8, 8, 3), "wrist": (8, 8, 3)}
    assert second.images["image"].mean() == pytest.approx(6, abs=1)  # 0.6 m on
    assert first.state is not None
    assert second.state is not None
    assert first.state[:7] == pytest.approx([0, 0, 0, np.pi, 0, 0, 0.04])
    assert second.state[0] == pytest.approx(0.6)


@pytest.mark.parametrize(("drawn", "state"), [(False, 7), (True, -1)])
def test_a_scene_is_a_fixed_state_or_drawn(fake: Start, *, drawn: bool, state: int) -> None:
    """The simulator is told which; both are seeded."""
    seen: list[Reading] = []

    class Watcher:
        """Stands still and looks."""

        def begin(self, scene: Scene) -> None:
            """Nothing."""

        def action(self, reading: Reading, draw: Draw) -> Vector:  # noqa: ARG002 (the protocol's signature)
            """Stay."""
            seen.append(reading)
            return np.zeros(7)

        def taken(self) -> Answers:
            """None."""
            return Answers()

    simulator = fake()
    rules = EpisodeRules(1, seed=100, drawn=drawn)
    scene = simulator.open("libero_spatial", 0)
    rules.play(simulator, scene, EpisodeId(0, 7), Watcher(), simulator.pictures, threading.Event())

    assert seen[0].objects["bowl"][:2] == pytest.approx([state, 107])


def test_an_episode_ends_unsolved_after_the_most_steps(fake: Start) -> None:
    """The steps in which the scene settles do not count."""
    with served(chunk_policy(0.01)) as asked:
        (played,) = play(fake, asked, [EpisodeId(0, 0)], EpisodeLog(None, {}), most_steps=6)

    assert (played.success, played.steps, len(played.answers_ms)) == (False, 6, 2)


def test_each_episode_begins_anew(fake: Start) -> None:
    """What was left of the last one's chunk is not played, and the policy's session begins an epoch."""
    policy = chunk_policy(0.4)
    with served(policy) as asked:
        play(fake, asked, episodes_of((0,), 3), EpisodeLog(None, {}))

    epochs = [session.epoch for session in policy.sessions if session is not None]
    assert len(epochs) == len({*epochs}) == 3  # three actions of four each


def test_an_evaluation_goes_on_where_it_stopped(fake: Start, tmp_path: Path) -> None:
    """Finished episodes are not played again, a line that was cut short is, and the figures are those of all."""
    file, origin = tmp_path / "out" / "a.episodes.jsonl", {"policy": "p"}
    episodes = episodes_of((0, 1), 4)
    policy = chunk_policy(0.3)
    with served(policy) as asked:
        first = play(fake, asked, episodes[:3], EpisodeLog(file, origin))
        asked_before = len(policy.seen)
        whole = file.read_bytes()
        file.write_bytes(whole[:-20])  # killed while it wrote
        log = EpisodeLog(file, origin)
        second = play(fake, asked, episodes, log)

    assert [one.id for one in first] == episodes[:3]
    assert [one.id for one in second] == episodes
    assert len(policy.seen) - asked_before == asked_before * 2 / 3
    assert len(file.read_bytes().splitlines()) == 5
    assert EpisodeLog(file, origin).played == log.played == {one.id: one for one in second}


def test_episodes_of_another_policy_are_not_mixed_in(tmp_path: Path) -> None:
    """The message says what differs; a file that is something else is left alone."""
    file = tmp_path / "a.episodes.jsonl"
    EpisodeLog(file, {"policy": "p", "execute": 8})
    with pytest.raises(ConfigError, match=r"another evaluation: execute was 8 and is 1; choose another --json"):
        EpisodeLog(file, {"policy": "p", "execute": 1})
    file.write_text('{"success": 1.0}\n')
    with pytest.raises(ConfigError, match="holds no episodes"):
        EpisodeLog(file, {})

    assert file.read_text() == '{"success": 1.0}\n'
    assert log_file(Path("runs/spatial.json")) == Path("runs/spatial.episodes.jsonl")


def test_several_simulators_play_every_episode_once(fake: Start) -> None:
    """Side by side, each with a session of its own."""
    policy, episodes = chunk_policy(0.6), episodes_of((0, 1, 2), 7)
    with served(policy) as asked:
        played = play(fake, asked, episodes, EpisodeLog(None, {}), workers=3)

    assert sorted(one.id for one in played) == episodes
    assert {one.instruction for one in played} == {"do 0", "do 1", "do 2"}
    assert len({session.id for session in policy.sessions if session is not None}) == 3


def test_a_simulator_that_fails_stops_the_evaluation(fake: Start, tmp_path: Path) -> None:
    """Whatever is finished is kept."""
    file = tmp_path / "a.episodes.jsonl"
    log = EpisodeLog(file, {})
    with served(chunk_policy(0.6)) as asked:
        play(fake, asked, [EpisodeId(0, 0)], log)
    with served(chunk_policy(FAILS)) as asked, pytest.raises(SimulatorError, match="terminated episode"):
        play(fake, asked, episodes_of((0,), 5), log, workers=2)

    assert [*EpisodeLog(file, {}).played] == [EpisodeId(0, 0)]


def test_a_film_has_each_picture_that_was_looked_at(fake: Start, tmp_path: Path) -> None:
    """Agentview beside wrist; the file's name says what came of it."""
    with served(chunk_policy(0.15)) as asked:
        play(fake, asked, [EpisodeId(3, 7)], EpisodeLog(None, {}), most_steps=9, film=Film(tmp_path / "films"))

    (file,) = (tmp_path / "films").iterdir()
    with Image.open(file) as film:
        assert (file.name, film.size, getattr(film, "n_frames", 1)) == ("task-3-state-07-success.webp", (8, 4), 2)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose another --video"):
        Film(tmp_path / "file" / "films")


def test_a_task_stays_open_while_it_has_episodes() -> None:
    """Opening one takes seconds; a worker that is free takes the task with most left."""
    agenda = Agenda([EpisodeId(0, 0), EpisodeId(1, 0), EpisodeId(1, 1), EpisodeId(1, 2)])
    taken = [agenda.take(None), agenda.take(1), agenda.take(0), agenda.take(0), agenda.take(0)]

    assert taken == [EpisodeId(1, 0), EpisodeId(1, 1), EpisodeId(0, 0), EpisodeId(1, 2), None]


def test_the_summary_has_success_by_task_with_intervals(fake: Start) -> None:
    """And the usual figures of answers, over all episodes; it can be written as JSON."""
    with served(chunk_policy(0.15)) as asked:
        good = play(fake, asked, episodes_of((3, 5), 3), EpisodeLog(None, {}), most_steps=9)
        bad = play(fake, asked, [EpisodeId(5, 9)], EpisodeLog(None, {}), most_steps=2)
        document = json.loads(json.dumps(summarise([*bad, *good], {"suite": "libero_spatial", **asked.origin})))

    assert {name: document[name] for name in ("suite", "family", "unnorm_key", "execute")} == {
        "suite": "libero_spatial",
        "family": "openvla-oft",
        "unnorm_key": "libero_spatial",
        "execute": 4,
    }
    assert (document["wins"], document["episodes"], document["success"]) == (3, 4, 0.75)
    assert document["success_ci95"] == pytest.approx(wilson(3, 4))
    assert [(one["task"], one["instruction"], one["wins"], one["episodes"]) for one in document["by_task"]] == [
        (3, "do 3", 2, 2),
        (5, "do 5", 1, 2),
    ]
    assert document["by_task"][1]["success_ci95"] == pytest.approx(wilson(1, 2))
    assert document["failed"] == [[5, 9]]
    assert (document["frames"], document["keyframes"]) == (7, 4)
    assert document["steps_mean"] == pytest.approx((7 * 3 + 2) / 4)
    answers_ms = [ms for episode in (*good, *bad) for ms in episode.answers_ms]
    assert document["ms_per_step"] == pytest.approx(sum(answers_ms) / 23)
    assert document["simulator"] == {"drawn": "", "fake": "1"}


def test_what_the_daemon_finds_odd_is_reported(fake: Start) -> None:
    """Words that a policy has no token for are no error, and no secret."""
    policy = chunk_policy(0.6)
    policy.info = policy_info(**{**vars(policy.info), "unknown_words": lambda text: (text,)})
    with served(policy) as asked:
        play(fake, asked, [EpisodeId(2, 0)], EpisodeLog(None, {}))

    assert any("do 2" in warning for warning in asked.warnings)


def test_what_is_no_url_is_refused() -> None:
    """The option is named."""
    with pytest.raises(StillframeError, match="--server: "):
        served_policy("localhost:8000", BENCH, None, None, None)

"""Episodes to learn a gate from: the policy, with all of its history, plays and writes down where it looked.

Knows the simulator and a checkpoint with a memory; no gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stillframe.engine.history import HistoryManager
from stillframe.engine.local import LocalPolicy
from stillframe.history.checkpoint import load_history
from stillframe.history.scorers import Scorer, Summaries, Utilities
from stillframe.history.settings import HistorySettings
from stillframe.models.registry import load_policy
from stillframe.stopwatch import Clock
from stillframe_client.sim import COLOURS, JacoEnv, SensorNoise
from stillframe_client.sim.rollout import play
from stillframe_lab.train.frame_store import write_npz
from stillframe_lab.train.history.gate_training import LabelledEpisode
from stillframe_lab.train.history.recipe import FRAME_S
from stillframe_lab.train.history.sampling import NOTHING

RELEVANT = 0.3  # a chunk that is looked at so much, of what is looked at most, says something
REPEATED = 0.5  # each that says the same as earlier ones is worth so much of the one before it


@dataclass
class AttentionLog:
    """A scorer that keeps all, of one session, and writes down what it hears. See `scorers.Scorer`."""

    needs_attention = True
    inputs: list[Tensor] = field(default_factory=list)  # a chunk: [inputs]
    masses: list[Utilities] = field(default_factory=list)  # an answer: [chunks before it]

    def begin(self) -> Tensor:
        """Nothing."""
        return torch.zeros(0)

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """Keep it."""
        self.inputs += [*summaries.inputs.cpu()]
        return np.ones(len(summaries.keys)), [*states]

    def updated(self, utilities: Utilities, masses: Utilities) -> Utilities:
        """Write it down."""
        self.masses.append(masses)
        return utilities

    def close(self) -> LoggedEpisode:
        """The episode is over; the next begins on an empty page."""
        lived = LoggedEpisode(torch.stack(self.inputs), _most_attention(self.masses, len(self.inputs)))
        self.inputs, self.masses = [], []
        return lived


@dataclass(frozen=True)
class LoggedEpisode:
    """One episode."""

    inputs: Tensor  # [chunks, inputs]: what a scorer sees of each
    looked: NDArray[np.float64]  # [chunks] of all answers after it, the most that one looked at it; 1: at nothing more

    def __len__(self) -> int:
        return len(self.inputs)


def utility_labels(looked: NDArray[np.float64], says: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each chunk should be called worth [chunks]: as much as is looked at it, and less the more often it was said.

    `says` [chunks] tells what each says. Without this a row of equal cues fills a small memory, and the other cue goes:
    attention looks at all of them alike. No score of a chunk alone can know which is the first.
    """
    labels, said = looked.copy(), dict.fromkeys(says.tolist(), 0)
    for chunk in np.flatnonzero(looked >= RELEVANT):
        what = int(says[chunk])
        labels[chunk] *= REPEATED ** said[what]
        said[what] += 1
    return labels


def _most_attention(masses: Sequence[Utilities], chunks: int) -> NDArray[np.float64]:
    """The most that any answer looked at each chunk, in units of what that answer looked at most."""
    looked = np.zeros(chunks)
    for mass in masses:
        most = mass.max(initial=0.0)
        if most > 0:
            looked[: len(mass)] = np.maximum(looked[: len(mass)], mass / most)
    return looked


EVERYTHING = HistorySettings(enabled=True, gate="recency", window_frames=0, budget_mib=None)
NOISE_SIGMA = 2.0  # grey levels
FIRST_SEED = 700_000  # none that an evaluation plays


@dataclass(frozen=True)
class WantedEpisodes:
    """Which: `each` of every variant with every delay."""

    variants: tuple[str, ...]
    delays: tuple[int, ...]
    each: int
    seed: int = FIRST_SEED


class _FrameClock:
    """A clock that goes on by one frame's time whenever it is asked twice: a pass asks it when frames come in."""

    def __init__(self) -> None:
        self.frame_s, self._now_s = 0.1, 0.0

    def __call__(self) -> float:
        return self._now_s

    def tick(self) -> None:
        """Another frame."""
        self._now_s += self.frame_s


def full_history_policy(checkpoint: Path, clock: Clock, scorer: Scorer | None = None) -> LocalPolicy:
    """A policy with all of its history."""
    device = torch.device("cpu")
    model, weights = load_policy(checkpoint, dtype=torch.float32, device=device), load_history(checkpoint, device)
    recalling = HistoryManager(model, weights, EVERYTHING, clock, scorer=scorer)
    return LocalPolicy(model, clock=clock, history=recalling)


class EpisodeRecorder:
    """Plays a policy with all of its history; notes what the lamps really say at every step."""

    def __init__(self, checkpoint: Path):
        self._clock, self._diary, self._says = _FrameClock(), AttentionLog(), [0]
        self._policy = full_history_policy(checkpoint, self._clock, self._diary)

    def lived(self, env: JacoEnv, seed: int) -> LabelledEpisode:
        """One episode."""
        self._clock.frame_s = float(np.random.default_rng(seed).uniform(*FRAME_S))
        self._policy.reset()
        self._says = []
        play(env, lambda observed: self._act(env, observed), seed=seed)
        lived = self._diary.close()
        labels = utility_labels(lived.looked, np.array(self._says))
        return LabelledEpisode(lived.inputs, torch.from_numpy(labels).float())

    def _act(self, env: JacoEnv, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        lit = env.lit
        self._says.append(COLOURS.index(lit.colour) if lit and lit.marked else NOTHING + bool(lit))
        self._clock.tick()
        return self._policy(observed)


def record_episodes(checkpoint: Path, wanted: WantedEpisodes, watch: Callable[[int], None]) -> list[LabelledEpisode]:
    """All of them, in one order; `watch` is told how many there are after each."""
    observer = EpisodeRecorder(checkpoint)
    episodes: list[LabelledEpisode] = []
    for variant in wanted.variants:
        for delay in wanted.delays:
            env = JacoEnv("remember", noise=SensorNoise(sigma=NOISE_SIGMA), delay=delay, variant=variant)
            try:
                for _ in range(wanted.each):
                    episodes.append(observer.lived(env, wanted.seed + len(episodes)))
                    watch(len(episodes))
            finally:
                env.close()
    return episodes


def save_episodes(file: Path, episodes: list[LabelledEpisode]) -> None:
    """Write all into one file, for a run that resumes."""
    write_npz(
        file,
        lengths=np.array([len(one.inputs) for one in episodes]),
        inputs=torch.cat([one.inputs for one in episodes]).numpy(),
        worth=torch.cat([one.worth for one in episodes]).numpy(),
    )


def load_episodes(file: Path) -> list[LabelledEpisode]:
    """As they were saved."""
    with np.load(file) as arrays:
        ends = np.cumsum(arrays["lengths"])[:-1]
        pairs = zip(np.split(arrays["inputs"], ends), np.split(arrays["worth"], ends), strict=True)
        return [LabelledEpisode(torch.from_numpy(inputs), torch.from_numpy(worth)) for inputs, worth in pairs]

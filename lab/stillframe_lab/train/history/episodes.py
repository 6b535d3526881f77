"""Episodes to train a gate on: the policy plays with full history, and its attention to each chunk is logged.

Knows the simulator and a checkpoint with history weights; no gate.
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

RELEVANT = 0.3  # attention to a chunk, relative to the most, from which it counts as informative
REPEATED = 0.5  # utility of a repeated cue, relative to the one before it


EVERYTHING = HistorySettings(enabled=True, gate="recency", window_frames=0, budget_mib=None)
NOISE_SIGMA = 2.0  # grey levels
FIRST_SEED = 700_000  # none that an evaluation plays


@dataclass
class AttentionLog:
    """A scorer that keeps all chunks of one session and logs inputs and attention. See `history.scorers.Scorer`."""

    needs_attention = True
    inputs: list[Tensor] = field(default_factory=list)  # a chunk: [inputs]
    masses: list[Utilities] = field(default_factory=list)  # an answer: [chunks before it]

    def begin(self) -> Tensor:
        """Nothing."""
        return torch.zeros(0)

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """Log the inputs; score everything 1."""
        self.inputs += [*summaries.inputs.cpu()]
        return np.ones(len(summaries.keys)), [*states]

    def updated(self, utilities: Utilities, masses: Utilities) -> Utilities:
        """Log the attention."""
        self.masses.append(masses)
        return utilities

    def close(self) -> LoggedEpisode:
        """Return the episode's log and clear it."""
        logged = LoggedEpisode(torch.stack(self.inputs), _most_attention(self.masses, len(self.inputs)))
        self.inputs, self.masses = [], []
        return logged


@dataclass(frozen=True)
class LoggedEpisode:
    """The log of one episode."""

    inputs: Tensor  # [chunks, inputs]: what a scorer sees of each
    attention: NDArray[np.float64]  # [chunks] the most attention of any later answer, 1: the most attended chunk

    def __len__(self) -> int:
        return len(self.inputs)


def utility_labels(attention: NDArray[np.float64], says: NDArray[np.int64]) -> NDArray[np.float64]:
    """Utility labels [chunks]: the attention to each chunk, less for repeated cues.

    `says` [chunks]: the cue that each shows. Without the discount a row of equal cues fills a small history and evicts
    the other cue: attention is equal on all of them. A score of a chunk alone cannot know which came first.
    """
    labels, counts = attention.copy(), dict.fromkeys(says.tolist(), 0)
    for chunk in np.flatnonzero(attention >= RELEVANT):
        what = int(says[chunk])
        labels[chunk] *= REPEATED ** counts[what]
        counts[what] += 1
    return labels


def _most_attention(masses: Sequence[Utilities], chunks: int) -> NDArray[np.float64]:
    """The most attention of any answer to each chunk, relative to that answer's most attended chunk."""
    attention = np.zeros(chunks)
    for mass in masses:
        most = mass.max(initial=0.0)
        if most > 0:
            attention[: len(mass)] = np.maximum(attention[: len(mass)], mass / most)
    return attention


@dataclass(frozen=True)
class WantedEpisodes:
    """Which episodes: `each` of every variant with every delay."""

    variants: tuple[str, ...]
    delays: tuple[int, ...]
    each: int
    seed: int = FIRST_SEED


class _FrameClock:
    """A clock that advances by one frame's time at each `tick`."""

    def __init__(self) -> None:
        self.frame_s, self._now_s = 0.1, 0.0

    def __call__(self) -> float:
        return self._now_s

    def tick(self) -> None:
        """Advance by one frame."""
        self._now_s += self.frame_s


def full_history_policy(checkpoint: Path, clock: Clock, scorer: Scorer | None = None) -> LocalPolicy:
    """A policy with full history."""
    device = torch.device("cpu")
    model, weights = load_policy(checkpoint, dtype=torch.float32, device=device), load_history(checkpoint, device)
    recalling = HistoryManager(model, weights, EVERYTHING, clock, scorer=scorer)
    return LocalPolicy(model, clock=clock, history=recalling)


class EpisodeRecorder:
    """Plays a policy with full history, and notes what the lamps show at every step."""

    def __init__(self, checkpoint: Path):
        self._clock, self._log, self._says = _FrameClock(), AttentionLog(), [0]
        self._policy = full_history_policy(checkpoint, self._clock, self._log)

    def record(self, env: JacoEnv, seed: int) -> LabelledEpisode:
        """Play one episode -> its labels."""
        self._clock.frame_s = float(np.random.default_rng(seed).uniform(*FRAME_S))
        self._policy.reset()
        self._says = []
        play(env, lambda observed: self._act(env, observed), seed=seed)
        logged = self._log.close()
        labels = utility_labels(logged.attention, np.array(self._says))
        return LabelledEpisode(logged.inputs, torch.from_numpy(labels).float())

    def _act(self, env: JacoEnv, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        lit = env.lit
        self._says.append(COLOURS.index(lit.colour) if lit and lit.marked else NOTHING + bool(lit))
        self._clock.tick()
        return self._policy(observed)


def record_episodes(checkpoint: Path, wanted: WantedEpisodes, watch: Callable[[int], None]) -> list[LabelledEpisode]:
    """Play all episodes, in order; `watch` is called with their number after each."""
    recorder = EpisodeRecorder(checkpoint)
    episodes: list[LabelledEpisode] = []
    for variant in wanted.variants:
        for delay in wanted.delays:
            env = JacoEnv("remember", noise=SensorNoise(sigma=NOISE_SIGMA), delay=delay, variant=variant)
            try:
                for _ in range(wanted.each):
                    episodes.append(recorder.record(env, wanted.seed + len(episodes)))
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
    """Read what `save_episodes` wrote."""
    with np.load(file) as arrays:
        ends = np.cumsum(arrays["lengths"])[:-1]
        pairs = zip(np.split(arrays["inputs"], ends), np.split(arrays["worth"], ends), strict=True)
        return [LabelledEpisode(torch.from_numpy(inputs), torch.from_numpy(worth)) for inputs, worth in pairs]

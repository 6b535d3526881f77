"""Plays the episodes that are missing, in threads that have a simulator's process and a player each.

Knows how episodes are handed out and kept; no protocol and no policy.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass

from stillframe_lab.libero.episode import Draw, EpisodeRules, PlayedEpisode, Player, Simulator, Stopped
from stillframe_lab.libero.film import Film
from stillframe_lab.libero.log import EpisodeLog
from stillframe_lab.libero.process import Scene
from stillframe_lab.libero.suites import EpisodeId


class Agenda:
    """The episodes that are still to be played. Thread-safe."""

    def __init__(self, episodes: Iterable[EpisodeId]):
        self._left = sorted(episodes)
        self._lock = threading.Lock()

    def take(self, task: int | None) -> EpisodeId | None:
        """The next of `task`, which is open; else of the task that has most left. None: none is left."""
        with self._lock:
            if not self._left:
                return None
            counts = Counter(episode.task for episode in self._left)
            chosen = task if task in counts else counts.most_common(1)[0][0]
            found = next(episode for episode in self._left if episode.task == chosen)
            self._left.remove(found)
            return found


@dataclass(frozen=True)
class Worker:
    """What one thread plays with."""

    simulator: Simulator
    player: Player


@dataclass(frozen=True)
class Run:
    """One evaluation: how episodes are played, where they are kept, where films go."""

    suite: str
    rules: EpisodeRules
    log: EpisodeLog
    film: Film | None = None

    def play(
        self,
        episodes: Iterable[EpisodeId],
        workers: int,
        open_worker: Callable[[], AbstractContextManager[Worker]],
        watch: Callable[[PlayedEpisode], None],
    ) -> None:
        """Play what is not in the log. `watch` sees each episode, those of an earlier run first.

        The first failure stops all; what is finished is kept.
        """
        missing = []
        for episode in episodes:
            if episode in self.log.played:
                watch(self.log.played[episode])
            else:
                missing.append(episode)
        agenda, over, lock = Agenda(missing), threading.Event(), threading.Lock()

        def keep(played: PlayedEpisode) -> None:
            with lock:
                self.log.append(played)
                watch(played)

        with ThreadPoolExecutor(workers) as pool:
            threads = [pool.submit(self._work, agenda, open_worker, keep, over) for _ in missing[:workers]]
            try:
                for thread in as_completed(threads):
                    thread.result()
            finally:
                over.set()

    def _work(
        self,
        agenda: Agenda,
        open_worker: Callable[[], AbstractContextManager[Worker]],
        keep: Callable[[PlayedEpisode], None],
        over: threading.Event,
    ) -> None:
        """One thread: until nothing is left, or all is over."""
        with open_worker() as worker:
            task, scene = None, None
            while not over.is_set() and (episode := agenda.take(task)) is not None:
                if scene is None or episode.task != task:
                    task, scene = episode.task, worker.simulator.open(self.suite, episode.task)
                try:
                    keep(self._filmed(worker, scene, episode, over))
                except Stopped:
                    return

    def _filmed(self, worker: Worker, scene: Scene, episode: EpisodeId, over: threading.Event) -> PlayedEpisode:
        draw: Draw = worker.simulator.pictures
        if self.film is None:
            return self.rules.play(worker.simulator, scene, episode, worker.player, draw, over)
        reel = self.film.reel(draw)
        played = self.rules.play(worker.simulator, scene, episode, worker.player, reel.draw, over)
        reel.save(played)
        return played

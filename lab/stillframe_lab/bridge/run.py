"""`stillframe study bridge`: play the cells that are missing, then write figures and tables.

Knows how to start a daemon; playing and reporting are other modules'.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stillframe.errors import StillframeError
from stillframe.tools.local_daemon import daemon
from stillframe_client.errors import PolicyError
from stillframe_client.jaco2.bridge.session import Refusal
from stillframe_client.jaco2.bridge.streamer_process import StreamerFailed
from stillframe_client.jaco2.cameras.base import CameraError
from stillframe_client.jaco2.world.wire import WorldError
from stillframe_lab.bridge.cells import EVAL, Cell, Played, Results
from stillframe_lab.bridge.delay import delayed
from stillframe_lab.bridge.figures import run_figures
from stillframe_lab.bridge.play import play_cell, settings_for
from stillframe_lab.evaluation.actors import open_server_actor
from stillframe_lab.evaluation.evaluate import Evaluation, evaluate

BATCH = 10  # episodes of one bridge and one world: a run that is broken off loses no more of its figures


class Watch(Protocol):
    """Is told how far it is."""

    def expect(self, cell: str, episodes: int) -> None:
        """A cell begins."""
        ...

    def played(self, episode: Played) -> None:
        """An episode is over."""
        ...


@dataclass(frozen=True)
class BridgeEvaluation:
    """What is to be played."""

    daemon_config: Path
    bridge_config: Path
    task: str
    seeds: range
    cells: tuple[Cell, ...]


def play_missing(plan: BridgeEvaluation, results: Results, watch: Watch) -> None:
    """Play what is missing. Raises StillframeError."""
    for cell in plan.cells:
        missing = results.missing(cell.name, plan.seeds)
        watch.expect(cell.name, len(missing))
        if not missing:
            continue
        with daemon([str(plan.daemon_config)]) as url:
            if cell.mode == EVAL:
                _evaluate(plan, url, missing, results, watch)
                continue
            with delayed(url, cell.delay_ms) as address:
                for at in range(0, len(missing), BATCH):
                    _batch(plan, cell, address, missing[at : at + BATCH], results, watch)


def _batch(plan: BridgeEvaluation, cell: Cell, url: str, seeds: Sequence[int], results: Results, watch: Watch) -> None:
    folder = results.folder / "runs" / f"{cell.name}-{seeds[0]}-{time.strftime('%H%M%S')}"
    keep = _keeping(results, watch)
    try:
        report = play_cell(
            cell, lambda socket: settings_for(cell, plan.bridge_config, url, socket, folder, "none"), seeds, folder,
            keep, {"task": plan.task},
        )  # fmt: skip
    except (Refusal, StreamerFailed, CameraError, PolicyError, WorldError) as error:
        raise StillframeError(f"{cell.name}: {error}\n(log: {folder})") from error
    results.add_figures(cell.name, {"seeds": [seeds[0], seeds[-1]], "world": report, **run_figures(folder)})
    shutil.rmtree(folder)  # its figures are kept; a batch's log of ticks is some 20 MB


def _evaluate(plan: BridgeEvaluation, url: str, seeds: Sequence[int], results: Results, watch: Watch) -> None:
    """The same seeds without a bridge: the scene waits for each answer."""
    keep = _keeping(results, watch)
    with open_server_actor(url) as actor:
        for seed in seeds:
            (episode,) = evaluate(Evaluation(plan.task, 1, seed), actor, lambda _: None)
            keep(
                Played(
                    EVAL, seed, episode.instruction, episode.success, episode.wrong_object, episode.steps,
                    len(episode.act_ms), round(episode.wall_s, 3), "success" if episode.success else "no success",
                )
            )  # fmt: skip


def _keeping(results: Results, watch: Watch) -> Callable[[Played], None]:
    def keep(played: Played) -> None:
        results.add(played)
        watch.played(played)

    return keep

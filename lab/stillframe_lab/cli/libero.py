"""`stillframe eval --suite`: LIBERO in closed loop, with a policy behind a daemon or with an expert.

Knows options and the shipped configurations; other rooms do the work, imported on use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stillframe.cli.output import write_text
from stillframe.daemon.checkpoint import local_folder
from stillframe.domain import ReuseMode
from stillframe.errors import ConfigError
from stillframe.models.checkpoint import CheckpointFolder
from stillframe_lab.cli.evidence import knobs_of

if TYPE_CHECKING:
    from stillframe_lab.libero.policy import ServedPolicy
    from stillframe_lab.libero.run import Worker

PICTURES_KEY = "libero_pictures"  # of a checkpoint's config.json


class PictureChoice(StrEnum):
    """How the simulator draws: process.Drawing, where it draws at all."""

    FULL = "full"
    FAST = "fast"


class SceneChoice(StrEnum):
    """Which scenes are played."""

    FIXED = "fixed"  # the benchmark's initial states, for evaluation only
    DRAWN = "drawn"  # from the task's regions, to record and to calibrate with


@dataclass(frozen=True)
class LiberoOptions:
    """What the command line says; None: the default of each."""

    suite: str
    tasks: str | None
    episodes: int | None
    seed: int | None
    checkpoint: Path | None
    config: Path | None
    server: str | None
    expert: bool
    reuse: ReuseMode | None
    execute: int | None
    unnorm_key: str | None
    processes: int
    pictures: PictureChoice | None
    scenes: SceneChoice
    video: Path | None
    json_file: Path | None
    serving: Sequence[str]  # more arguments of the daemon that serves --checkpoint


def evaluate_libero(options: LiberoOptions) -> None:
    """Play the suite's episodes and report. Raises ConfigError for options that do not go together."""
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.libero.expert.jobs import check_expert
    from stillframe_lab.libero.suites import check_suite

    check_suite(options.suite)
    if [bool(options.checkpoint), bool(options.server), options.expert].count(True) != 1:
        raise ConfigError("--suite: expected one of --checkpoint, --server and --expert")
    if options.expert:
        check_expert(options.suite)
    with user_errors(), ExitStack() as running:
        document = _played(
            options,
            None if options.expert else _served(options, running),
            pictures_of(options.checkpoint, options.pictures),
        )
    text = json.dumps(document, indent=2)
    typer.echo(text)
    if options.json_file is not None:
        write_text(options.json_file, text + "\n")


def _served(options: LiberoOptions, running: ExitStack) -> ServedPolicy:
    """The daemon's policy; of a checkpoint, that of a daemon of ours, which ends with `running`."""
    from stillframe.tools.local_daemon import daemon
    from stillframe_lab.libero.policy import served_policy

    url, mode = options.server, options.reuse
    if options.checkpoint is not None:
        url = running.enter_context(daemon(_serving(options, options.checkpoint)))
        mode = mode or (None if options.config else "off")
    served = served_policy(url or "", options.suite, mode, options.execute, options.unnorm_key)
    for warning in sorted(served.warnings):
        typer.echo(f"warning: {warning}", err=True)
    return served


def _serving(options: LiberoOptions, checkpoint: Path) -> list[str]:
    """The arguments of `stillframe serve`."""
    knobs = knobs_of(checkpoint, options.config)
    return [*([str(knobs)] if knobs else []), "--checkpoint", str(local_folder(checkpoint)), *options.serving]


def pictures_of(checkpoint: Path | None, asked: PictureChoice | None) -> PictureChoice:
    """The kind that is asked for, or that the checkpoint was trained on, or the benchmark's."""
    if asked is not None or checkpoint is None:
        return asked or PictureChoice.FULL
    said = CheckpointFolder(local_folder(checkpoint)).json("config.json").get(PICTURES_KEY, PictureChoice.FULL)
    if said not in {*PictureChoice}:
        raise ConfigError(f"config.json: {PICTURES_KEY} is {said!r}; expected {' or '.join(PictureChoice)}")
    return PictureChoice(said)


def _played(options: LiberoOptions, served: ServedPolicy | None, pictures: PictureChoice) -> dict[str, Any]:
    """Play what is missing, and summarise everything."""
    from stillframe_lab.libero.episode import EpisodeRules
    from stillframe_lab.libero.film import Film
    from stillframe_lab.libero.log import EpisodeLog, log_file
    from stillframe_lab.libero.run import Run
    from stillframe_lab.libero.suites import DRAWN_SEED, INIT_STATES, episodes_of, most_steps, task_numbers
    from stillframe_lab.libero.summary import summarise
    from stillframe_lab.progress import EpisodeBar

    suite, tasks, drawn = options.suite, task_numbers(options.tasks), options.scenes is SceneChoice.DRAWN
    seed = options.seed if options.seed is not None else DRAWN_SEED if drawn else 0
    episodes = episodes_of(tasks, options.episodes or INIT_STATES * len(tasks))
    asked = {**served.origin, "pictures": pictures.value} if served else {"policy": "expert"}
    origin = {"suite": suite, "seed": seed, **({"scenes": "drawn"} if drawn else {}), **asked}
    log = EpisodeLog(log_file(options.json_file) if options.json_file else None, origin)
    run = Run(suite, EpisodeRules(most_steps(suite), seed, drawn), log, Film(options.video) if options.video else None)
    with EpisodeBar(f"{suite}, {len(tasks)} tasks", len(episodes)) as bar:
        run.play(episodes, options.processes, lambda: _worker(options, served, pictures), bar.watch)
    warnings = {*(served.warnings if served else ()), *(_doubts(pictures, drawn=drawn) if served else ())}
    about = {**origin, "server": options.server, "warnings": sorted(warnings)}
    return summarise([log.played[episode] for episode in episodes], about)


def _doubts(pictures: PictureChoice, *, drawn: bool) -> list[str]:
    """What of pictures and scenes makes the figures other than the papers'."""
    coarse = "the pictures are the fast ones, coarser than the benchmark's: for policies that were trained on such"
    own = "the scenes are drawn, not the benchmark's fixed initial states: to record and to calibrate with"
    return [*([coarse] if pictures is PictureChoice.FAST else ()), *([own] if drawn else ())]


@contextmanager
def _worker(options: LiberoOptions, served: ServedPolicy | None, pictures: PictureChoice) -> Iterator[Worker]:
    """A simulator's process, and a session of the policy or an expert."""
    from stillframe_lab.libero.expert.player import ExpertPlayer
    from stillframe_lab.libero.process import SimulatorProcess, simulator_python, start_command
    from stillframe_lab.libero.run import Worker

    filmed = options.video is not None
    players = nullcontext(ExpertPlayer(options.suite, filmed=filmed)) if served is None else served.player()
    start, draws = start_command(simulator_python()), served is not None or filmed
    with SimulatorProcess(start, draw=pictures.value if draws else "") as simulator, players as player:
        yield Worker(simulator, player)

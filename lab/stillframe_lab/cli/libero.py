"""`stillframe eval --suite`: a suite in closed loop, with a policy behind a daemon or with an expert.

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
from stillframe_lab.cli.options import PictureChoice
from stillframe_lab.cli.shipped import knobs_of

if TYPE_CHECKING:
    from stillframe_lab.libero.bench import Bench
    from stillframe_lab.libero.policy import ServedPolicy
    from stillframe_lab.libero.run import Worker

PICTURES_KEY = "libero_pictures"  # of a checkpoint's config.json


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
    distractor: bool
    json_file: Path | None
    serving: Sequence[str]  # more arguments of the daemon that serves --checkpoint


def evaluate_libero(options: LiberoOptions) -> None:
    """Play the suite's episodes and report. Raises ConfigError for options that do not go together."""
    from stillframe_lab.evaluation.actors import user_errors

    bench = bench_of(options.suite, options.checkpoint, options.pictures, options.scenes, distractor=options.distractor)
    if [bool(options.checkpoint), bool(options.server), options.expert].count(True) != 1:
        raise ConfigError("--suite: expected one of --checkpoint, --server and --expert")
    if options.expert:
        bench.check_expert()
    with user_errors(), ExitStack() as running:
        document = _played(options, bench, None if options.expert else _served(options, bench, running))
    text = json.dumps(document, indent=2)
    typer.echo(text)
    if options.json_file is not None:
        write_text(options.json_file, text + "\n")
    if options.video is not None:
        _show(options.video, document)


def _show(films: Path, document: dict[str, Any]) -> None:
    """The strip of the films, where each task has one: those of episodes that an earlier run played may be gone."""
    from stillframe_lab.libero.strip import write_strip

    try:
        strip = write_strip(films, {one["task"]: one["instruction"] for one in document["by_task"]})
    except FileNotFoundError as missing:
        typer.echo(f"no strip of the films: {missing}", err=True)
    else:
        typer.echo(f"written: {films}, {strip}", err=True)


def _served(options: LiberoOptions, bench: Bench, running: ExitStack) -> ServedPolicy:
    """The daemon's policy; of a checkpoint, that of a daemon of ours, which ends with `running`."""
    from stillframe.tools.local_daemon import daemon
    from stillframe_lab.libero.policy import served_policy

    url, mode = options.server, options.reuse
    if options.checkpoint is not None:
        url = running.enter_context(daemon(_serving(options, options.checkpoint)))
        mode = mode or (None if options.config else "off")
    served = served_policy(url or "", bench, mode, options.execute, options.unnorm_key)
    for warning in sorted(served.warnings):
        typer.echo(f"warning: {warning}", err=True)
    return served


def _serving(options: LiberoOptions, checkpoint: Path) -> list[str]:
    """The arguments of `stillframe serve`."""
    knobs = knobs_of(checkpoint, options.config)
    return [*([str(knobs)] if knobs else []), "--checkpoint", str(local_folder(checkpoint)), *options.serving]


def bench_of(
    suite: str,
    checkpoint: Path | None,
    pictures: PictureChoice | None,
    scenes: SceneChoice = SceneChoice.FIXED,
    *,
    distractor: bool,
) -> Bench:
    """What plays a suite. Raises ConfigError for a suite that is none, and for options that it does not have."""
    from stillframe_lab.kitchen.bench import SUITE, KitchenBench
    from stillframe_lab.libero.bench import LiberoBench
    from stillframe_lab.libero.suites import check_suite

    if suite == SUITE:
        if pictures is not None:
            raise ConfigError(f"--pictures: the suite {SUITE} has pictures of one kind; leave it out")
        if scenes is SceneChoice.DRAWN:
            raise ConfigError(f"--scenes drawn: all scenes of {SUITE} are drawn, by --seed; leave it out")
        return KitchenBench(distractor)
    check_suite(suite)
    if distractor:
        raise ConfigError(f"--distractor: nothing moves behind the scenes of LIBERO; expected --suite {SUITE}")
    return LiberoBench(suite, pictures_of(checkpoint, pictures).value, scenes is SceneChoice.DRAWN)


def pictures_of(checkpoint: Path | None, asked: PictureChoice | None) -> PictureChoice:
    """The kind that is asked for, or that the checkpoint was trained on, or the benchmark's."""
    if asked is not None or checkpoint is None:
        return asked or PictureChoice.FULL
    from stillframe.models.checkpoint import CheckpointFolder  # and torch, which no other command waits for

    said = CheckpointFolder(local_folder(checkpoint)).json("config.json").get(PICTURES_KEY, PictureChoice.FULL)
    if said not in {*PictureChoice}:
        raise ConfigError(f"config.json: {PICTURES_KEY} is {said!r}; expected {' or '.join(PictureChoice)}")
    return PictureChoice(said)


def _played(options: LiberoOptions, bench: Bench, served: ServedPolicy | None) -> dict[str, Any]:
    """Play what is missing, and summarise everything."""
    from stillframe_lab.libero.film import Film
    from stillframe_lab.libero.log import EpisodeLog, log_file
    from stillframe_lab.libero.run import Run
    from stillframe_lab.libero.suites import episodes_of, task_numbers
    from stillframe_lab.libero.summary import summarise
    from stillframe_lab.progress import EpisodeBar

    suite, tasks = options.suite, task_numbers(options.tasks, bench.tasks)
    seed = bench.first_seed if options.seed is None else options.seed
    episodes = episodes_of(tasks, options.episodes or bench.init_states * len(tasks), bench.init_states)
    asked = {**served.origin, **bench.seen_as} if served else {"policy": "expert"}
    origin = {"suite": suite, "seed": seed, **bench.origin, **asked}
    log = EpisodeLog(log_file(options.json_file) if options.json_file else None, origin)
    run = Run(suite, bench.rules(seed), log, Film(options.video) if options.video else None)
    with EpisodeBar(f"{suite}, {len(tasks)} tasks", len(episodes)) as bar:
        run.play(episodes, options.processes, lambda: _worker(options, bench, served), bar.watch)
    about = {**origin, "server": options.server, "warnings": sorted(served.warnings) if served else []}
    return summarise([log.played[episode] for episode in episodes], about)


@contextmanager
def _worker(options: LiberoOptions, bench: Bench, served: ServedPolicy | None) -> Iterator[Worker]:
    """A simulator, and a session of the policy or an expert."""
    from stillframe_lab.libero.run import Worker

    filmed = options.video is not None
    with bench.simulator(draws=served is not None or filmed) as simulator:
        players = nullcontext(bench.expert(simulator, filmed=filmed)) if served is None else served.player()
        with players as player:
            yield Worker(simulator, player)

"""`stillframe eval`: closed-loop episodes of one policy. Parses options; other rooms do the work, imported on use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stillframe.cli.output import write_text
from stillframe.daemon.checkpoint import with_local_checkpoint
from stillframe.daemon.config import DaemonConfig, Device, load_config
from stillframe.domain import ReuseMode
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.libero import LiberoOptions, SceneChoice, evaluate_libero
from stillframe_lab.cli.options import (
    Distractor,
    Dtype,
    Execute,
    Hz,
    Pictures,
    Task,
    Tasks,
    Threads,
    Variant,
    Weights,
)
from stillframe_lab.cli.shipped import TINY, knobs_of

EPISODES, SEED = 100, 1000

HistoryChoice = Literal["gate", "linear", "full", "window", "novelty", "attention", "sampling", "off"]


def eval_command(
    checkpoint: Annotated[
        Path | None, typer.Option(help=f"The policy, a folder or a hub id; default {TINY}, of a suite none.")
    ] = None,
    server: Annotated[str | None, typer.Option(help="Or a running daemon's URL.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML with the settings of reuse: and history:.")] = None,
    reuse: Annotated[
        ReuseMode | None, typer.Option(help="What is reused between frames; default: what --config or the daemon says.")
    ] = None,
    task: Task = "pick",
    episodes: Annotated[int | None, typer.Option(min=1, help=f"Default {EPISODES}, of a suite 50 a task.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help=f"Of the first episode; default {SEED}, of a suite 0, of scenes that are drawn 50000."
        ),
    ] = None,
    hz: Hz = 10,
    noise_sigma: Annotated[float, typer.Option(help="Sensor noise in grey levels.")] = 0.0,
    jpeg: Annotated[int | None, typer.Option(help="Send the camera through JPEG of this quality.")] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="front or wrist; more than once for both. Default: the policy's own.")
    ] = None,
    delay: Annotated[
        int | None, typer.Option(help="Of remember: steps between the last cue and a free arm; default 16.")
    ] = None,
    variant: Variant = None,
    history: Annotated[
        HistoryChoice | None, typer.Option(help="Which older frames answers see; default: what --config says.")
    ] = None,
    history_mib: Annotated[
        float | None, typer.Option(min=0, help="Their bytes, for all but full; default: what --config says.")
    ] = None,
    execute: Execute = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="A suite instead of one task: jaco2, the four of the kitchen scene; or LIBERO's libero_spatial, "
            "libero_object, libero_goal or libero_10, which `make libero` installs."
        ),
    ] = None,
    tasks: Tasks = None,
    unnorm_key: Annotated[
        str | None, typer.Option(help="Of a suite: the statistics of actions; default those called after it.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Of a suite: simulators side by side; 2 GB each.")] = 1,
    pictures: Pictures = None,
    scenes: Annotated[
        SceneChoice,
        typer.Option(
            help="Of LIBERO: the benchmark's fixed initial states, for evaluation only, or scenes that are drawn, "
            "to record and to calibrate with."
        ),
    ] = SceneChoice.FIXED,
    video: Annotated[Path | None, typer.Option(help="Of a suite: a folder for an animation of each episode.")] = None,
    device: Annotated[Device, typer.Option()] = "auto",
    dtype: Dtype = "auto",
    weights: Weights = None,
    threads: Threads = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here too.")] = None,
    *,
    expert: Annotated[
        bool, typer.Option("--expert", help="Of a suite: play the scripted expert in place of a policy.")
    ] = False,
    distractor: Distractor = False,
    masks: Annotated[
        bool,
        typer.Option(
            "--masks",
            help="Send the simulator's masks of hand and named cubes with each frame, and have plans go by them in "
            "place of attention (a daemon: as it is configured).",
        ),
    ] = False,
) -> None:
    """Play episodes in the simulator and report success, with its 95 % interval, reuse, drift and latency.

    Of one policy, in one task or a suite. `stillframe study` compares ways to serve it.
    """
    require_extras("sim")
    options = {"device": device, "dtype": dtype, "weights": weights, "threads": threads}
    if suite is not None:
        evaluate_libero(
            LiberoOptions(
                suite=suite,
                tasks=tasks,
                episodes=episodes,
                seed=seed,
                checkpoint=checkpoint,
                config=config,
                server=server,
                expert=expert,
                reuse=reuse,
                execute=execute,
                unnorm_key=unnorm_key,
                processes=processes,
                pictures=pictures,
                scenes=scenes,
                video=video,
                distractor=distractor,
                json_file=json_file,
                serving=_serving(options),
            )
        )
        return
    episodes, seed = episodes or EPISODES, SEED if seed is None else seed
    from stillframe_lab.evaluation.actors import open_local_actor, open_server_actor, user_errors
    from stillframe_lab.evaluation.evaluate import Evaluation, evaluate, summarise, with_defaults, with_execute
    from stillframe_lab.progress import EpisodeBar

    plan = with_defaults(
        Evaluation(
            task, episodes, seed, hz, noise_sigma, jpeg, tuple(camera or ()), distractor, delay, variant, execute, masks
        )
    )
    local = _with_history(_configured(checkpoint, config, reuse, options), history, history_mib)
    local = _by_masks(local) if masks else local
    local = local if server else with_local_checkpoint(local)
    with (
        user_errors(),
        open_server_actor(server, reuse) if server else open_local_actor(local) as actor,
        EpisodeBar(f"{task}, seeds {seed}..{seed + episodes - 1}", episodes) as bar,
    ):
        plan = with_execute(plan, actor)
        played = evaluate(plan, actor, bar.watch)
    _print(summarise(plan, played, server or str(checkpoint or TINY), actor.trace), json_file)


def _serving(options: dict[str, Any]) -> list[str]:
    """The options as words of `stillframe serve`, which chooses what is auto or not given."""
    given = {name: str(value) for name, value in options.items() if value not in (None, "auto")}
    return [word for name, value in given.items() for word in (f"--{name}", value)]


def _configured(
    checkpoint: Path | None, file: Path | None, mode: ReuseMode | None, options: dict[str, Any]
) -> DaemonConfig:
    """The configuration to evaluate: that of `file`, else the checkpoint's, reuse off unless `mode` is given."""
    knobs = knobs_of(checkpoint or TINY, file)
    config = load_config(knobs, {"checkpoint": checkpoint or TINY, **options})
    mode = mode or (config.reuse.mode if file else "off")
    return config.model_copy(update={"reuse": replace(config.reuse, mode=mode)})


def _by_masks(config: DaemonConfig) -> DaemonConfig:
    """The configuration with plans that go by frames' masks."""
    reuse = config.reuse
    adaptive, paper = replace(reuse.adaptive, relevance="masks"), replace(reuse.paper, relevance="masks")
    return config.model_copy(update={"reuse": replace(reuse, adaptive=adaptive, paper=paper)})


def _with_history(config: DaemonConfig, choice: HistoryChoice | None, mib: float | None) -> DaemonConfig:
    """The configuration with eval's options of history; all but `full` have the configured budget."""
    history = config.history if mib is None else replace(config.history, budget_mib=mib)
    if choice is not None:
        from stillframe_lab.history.arms import SCORER_OF

        history = replace(history, enabled=choice != "off", gate=SCORER_OF.get(choice, history.gate))
    if choice == "full":
        history = replace(history, budget_mib=None, threshold=0.0)
    return config.model_copy(update={"history": history})


def _print(document: dict[str, Any], file: Path | None) -> None:
    text = json.dumps(document, indent=2)
    typer.echo(text)
    if file is not None:
        write_text(file, text + "\n")

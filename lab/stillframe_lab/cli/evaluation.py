"""`stillframe eval`: closed-loop episodes. Parses options; other rooms do the work, imported on use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from stillframe.cli.output import write_text
from stillframe.daemon.checkpoint import with_local_checkpoint
from stillframe.daemon.config import DaemonConfig, Device, load_config
from stillframe.domain import ReuseMode
from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.bridge import evaluate_bridge
from stillframe_lab.cli.drafts import compare_drafts
from stillframe_lab.cli.evidence import EvidenceOptions, ablate, compare_families, knobs_of, remember
from stillframe_lab.cli.libero import LiberoOptions, PictureChoice, SceneChoice, evaluate_libero
from stillframe_lab.cli.methods import MethodsOptions, compare_methods, tabulate_evidence
from stillframe_lab.cli.prefix import compare_prefix_caches
from stillframe_lab.cli.rtc import DELAYS, evaluate_rtc
from stillframe_lab.cli.shipped import TINY
from stillframe_lab.cli.under_load import measure_under_load

EPISODES, SEED = 100, 1000

HistoryChoice = Literal["gate", "linear", "full", "window", "novelty", "attention", "sampling", "off"]


def eval_command(
    checkpoint: Annotated[Path | None, typer.Option(help=f"The policy, a folder or a hub id; default {TINY}.")] = None,
    server: Annotated[str | None, typer.Option(help="Or a running daemon's URL.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML with the settings of reuse: and history:.")] = None,
    reuse: Annotated[
        ReuseMode | None, typer.Option(help="What is reused between frames; default: what --config or the daemon says.")
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            help="reach, pick, push, remember; pick-pot, place-cube, put-sausage or wipe-table of the kitchen scene."
        ),
    ] = "pick",
    episodes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Default {EPISODES}; with --memory 30 of each cell and 100 of its proof's, with --bridge and "
            "--prefix-caches 60, with --rtc or --drafts 20; with --suite 50 a task.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help=f"Of the first episode; default {SEED}, with --memory 40000, with --suite 0."),
    ] = None,
    hz: Annotated[int, typer.Option(help="Control steps per second: 5, 10 or 20.")] = 10,
    noise_sigma: Annotated[float, typer.Option(help="Sensor noise in grey levels.")] = 0.0,
    jpeg: Annotated[int | None, typer.Option(help="Send the camera through JPEG of this quality.")] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="front or wrist; more than once for both. Default: the policy's own.")
    ] = None,
    delay: Annotated[
        int | None, typer.Option(help="Of remember: steps between the last cue and a free arm; default 16.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="Of remember: simple (default), ordered, distractor or ordered-distractor.")
    ] = None,
    history: Annotated[
        HistoryChoice | None, typer.Option(help="Which older frames answers see; default: what --config says.")
    ] = None,
    history_mib: Annotated[
        float | None, typer.Option(min=0, help="Their bytes, for all but full; default: what --config says.")
    ] = None,
    execute: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Actions of each chunk that are played before the policy is asked again; default: decoding.execute of "
            "--config, or all; of a daemon what it advises.",
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="A suite instead of one task: jaco2, the four of the kitchen scene; or LIBERO's libero_spatial, "
            "libero_object, libero_goal or libero_10, which `make libero` installs."
        ),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="With --suite: which of its tasks, such as 0,1,2; default all.")
    ] = None,
    unnorm_key: Annotated[
        str | None, typer.Option(help="With --suite: the statistics of actions; default those called after it.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="With --suite: simulators side by side; 2 GB each.")] = 1,
    pictures: Annotated[
        PictureChoice | None,
        typer.Option(
            help="With --suite: full as the benchmark draws them, or fast and coarser; default: what --checkpoint was "
            "trained on, else full."
        ),
    ] = None,
    scenes: Annotated[
        SceneChoice,
        typer.Option(
            help="With --suite: the benchmark's fixed initial states, for evaluation only, or scenes that are drawn, "
            "to record and to calibrate with."
        ),
    ] = SceneChoice.FIXED,
    video: Annotated[Path | None, typer.Option(help="With --suite: a folder for an animation of each episode.")] = None,
    device: Annotated[Device, typer.Option()] = "auto",
    dtype: Annotated[str, typer.Option()] = "auto",
    weights: Annotated[
        str | None, typer.Option(help="as-is, int8, int8-weight-only, int4-weight-only or fp8; default: --config's.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of a policy in this process.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here too.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --ablation, --families, --memory, --bridge, --rtc, --drafts or --prefix-caches: where tables "
            "go; default docs/ and its name, docs/ablation/families, docs/ablation/prefix. With --under-load the page."
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="With the same: where finished cells are kept; default runs/ and its name. "
            "Delete it after a change of code."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=2, help="With the same: processes, one a core.")] = 2,
    *,
    expert: Annotated[
        bool, typer.Option("--expert", help="With --suite: play the scripted expert in place of a policy.")
    ] = False,
    distractor: Annotated[bool, typer.Option("--distractor", help="Move something in the background.")] = False,
    masks: Annotated[
        bool,
        typer.Option(
            "--masks",
            help="Send the simulator's masks of hand and named cubes with each frame, and have plans go by them in "
            "place of attention (a daemon: as it is configured).",
        ),
    ] = False,
    ablation: Annotated[
        bool,
        typer.Option(
            "--ablation",
            help="Evaluate every reuse mode under every condition, with a report; with --suite in that suite.",
        ),
    ] = False,
    families: Annotated[
        bool,
        typer.Option(
            "--families",
            help="Likewise with a policy of each family, or of --checkpoint's alone, beside what --out has of others.",
        ),
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Likewise every way to keep older frames, on the task remember.")
    ] = False,
    bridge: Annotated[
        bool, typer.Option("--bridge", help="Likewise the Jaco2 bridge, in real time; --config is the daemon's.")
    ] = False,
    rtc: Annotated[
        bool, typer.Option("--rtc", help="Likewise delays, with chunks held to the one before and without.")
    ] = False,
    prefix_caches: Annotated[
        bool,
        typer.Option(
            "--prefix-caches", help="Likewise what is kept of a pi0's prefix, within a frame and across frames."
        ),
    ] = False,
    drafts: Annotated[
        bool, typer.Option("--drafts", help="Decode each frame by exact and strict drafts, and count what differs.")
    ] = False,
    under_load: Annotated[
        bool,
        typer.Option(
            "--under-load", help="Eight robots without pauses: drift, reuse and work by each way to measure drift."
        ),
    ] = False,
    evidence_table: Annotated[
        bool,
        typer.Option(
            "--evidence",
            help="Play nothing: write the table of suites, policies and methods into README.md here, out of what lies "
            "under docs.",
        ),
    ] = False,
    pause_ms: Annotated[float, typer.Option(min=0, help="With --under-load: from an answer to the next frame.")] = 0.0,
    delay_ms: Annotated[str, typer.Option(help="With --rtc: of the answers, in whole control steps.")] = DELAYS,
    cell: Annotated[
        list[str] | None,
        typer.Option(
            help="With --bridge, --families, --memory or --suite and --ablation: what to play, more than once for "
            "several; default all. Of --memory a cell, proof, speed, long or utility; the rest stays as --out has it."
        ),
    ] = None,
) -> None:
    """Play episodes in the simulator and report success, with its 95 % interval, reuse, drift and latency."""
    if evidence_table:
        tabulate_evidence()
        return
    require_extras("sim")
    evidence = EvidenceOptions(checkpoint, config, episodes, seed, variant, out, run, workers)
    if suite is not None and ablation:
        compare_methods(evidence, MethodsOptions(suite, tasks, execute, pictures, distractor, cell or ()))
        return
    if suite is not None:
        serving = [*_unless_auto("--device", device), *_unless_auto("--dtype", dtype), "--threads", str(threads)]
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
                serving=serving,
            )
        )
        return
    options = {"device": device, "dtype": dtype, "weights": weights, "threads": threads}
    reports: dict[str, tuple[bool, Callable[[], None]]] = {
        "--under-load": (under_load, lambda: measure_under_load(evidence, execute, pause_ms)),
        "--families": (families, lambda: compare_families(evidence, cell or (), execute, EPISODES, SEED)),
        "--ablation": (ablation, lambda: ablate(evidence, EPISODES, SEED)),
        "--memory": (memory, lambda: remember(evidence, cell or ())),
        "--bridge": (bridge, lambda: evaluate_bridge(evidence, task, cell or ())),
        "--rtc": (rtc, lambda: evaluate_rtc(evidence, task, hz, execute, delay_ms)),
        "--drafts": (drafts, lambda: compare_drafts(evidence, task, hz, reuse, options)),
        "--prefix-caches": (prefix_caches, lambda: compare_prefix_caches(evidence, execute)),
    }
    chosen = [report for asked, report in reports.values() if asked]
    if len(chosen) > 1:
        *names, last = reports
        raise ConfigError(f"{', '.join(names)} and {last}: expected one of them, or the one after the other")
    if chosen:
        chosen[0]()
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


def _unless_auto(option: str, value: str) -> list[str]:
    return [] if value == "auto" else [option, value]


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

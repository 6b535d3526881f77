"""`stillframe eval`, `calibrate`, `loadtest`, `bench`. Parses, prints; others work, imported on use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from stillframe.bench.loadtest.load import Phases, WireName
from stillframe.cli.commands import TINY, TINY_CONFIG, app
from stillframe.cli.evidence import Typed, ablate, knobs_of, remember
from stillframe.config import DaemonConfig, Device, load_config
from stillframe.domain import ReuseMode
from stillframe.errors import ConfigError
from stillframe.extras import need

EPISODES, SEED = 100, 1000

HistoryChoice = Literal["gate", "linear", "full", "window", "novelty", "attention", "off"]


@app.command("eval")
def eval_command(
    checkpoint: Annotated[Path | None, typer.Option(help=f"The policy, in this process; default {TINY}.")] = None,
    server: Annotated[str | None, typer.Option(help="Or a running daemon's URL.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML whose reuse: section has the knobs.")] = None,
    reuse: Annotated[
        ReuseMode | None, typer.Option(help="What is reused between frames; default: what --config or the daemon says.")
    ] = None,
    task: Annotated[str, typer.Option(help="reach, pick, push or remember.")] = "pick",
    episodes: Annotated[
        int | None, typer.Option(min=1, help=f"Default {EPISODES}; with --memory 30 of each cell.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help=f"Of the first episode; default {SEED}, with --memory 40000.")
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
    device: Annotated[Device, typer.Option()] = "auto",
    dtype: Annotated[str, typer.Option()] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of a policy in this process.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here too.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --ablation or --memory: where tables and charts go; default docs/ablation, docs/memory."
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="With the same: where finished cells are kept; default runs/ablation, runs/memory. "
            "Delete it after a change of code."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=2, help="With the same: processes, one a core.")] = 2,
    *,
    distractor: Annotated[bool, typer.Option("--distractor", help="Something moves in the background.")] = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Every way to reuse, under every condition, with tables and charts.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Every way to keep older frames, on the task remember, likewise.")
    ] = False,
) -> None:
    """Play episodes in the simulator and report success, with its 95 % interval, reuse, drift and latency."""
    need("sim")
    typed = Typed(checkpoint, config, episodes, seed, variant, out, run, workers)
    if ablation and memory:
        raise ConfigError("--ablation and --memory: expected one of them, or the one after the other")
    if ablation:
        ablate(typed, EPISODES, SEED)
        return
    if memory:
        remember(typed)
        return
    episodes, seed = episodes or EPISODES, SEED if seed is None else seed
    from stillframe.bench.ask import ask_checkpoint, ask_server, mendable
    from stillframe.bench.evaluate import Evaluation, evaluate, settled, summarise
    from stillframe.terminal import EpisodeBar

    plan = settled(
        Evaluation(task, episodes, seed, hz, noise_sigma, jpeg, tuple(camera or ()), distractor, delay, variant)
    )
    options = {"device": device, "dtype": dtype, "threads": threads}
    local = _recalling(_played(checkpoint, config, reuse, options), history, history_mib)
    with (
        mendable(),
        ask_server(server, reuse) if server else ask_checkpoint(local) as asked,
        EpisodeBar(f"{task}, seeds {seed}..{seed + episodes - 1}", episodes) as bar,
    ):
        played = evaluate(plan, asked, bar.watch)
    _report(summarise(plan, played, server or str(checkpoint or TINY), asked.trace), json_file)


def _played(
    checkpoint: Path | None, file: Path | None, mode: ReuseMode | None, options: dict[str, Any]
) -> DaemonConfig:
    """What eval loads: the knobs of `file`, else of the checkpoint's own; its mode only where it was named."""
    knobs = knobs_of(checkpoint or TINY, file)
    config = load_config(knobs, {"checkpoint": checkpoint or TINY, **options})
    mode = mode or (config.reuse.mode if file else "off")
    return config.model_copy(update={"reuse": replace(config.reuse, mode=mode)})


def _recalling(config: DaemonConfig, choice: HistoryChoice | None, mib: float | None) -> DaemonConfig:
    """What is eval's own choice of older frames: `window` and the untrained scorers have the gate's bytes."""
    history = config.history if mib is None else replace(config.history, budget_mib=mib)
    if choice is not None:
        from stillframe.bench.remembering.arms import SCORER_OF

        history = replace(history, enabled=choice != "off", gate=SCORER_OF.get(choice, history.gate))
    if choice == "full":
        history = replace(history, budget_mib=None, threshold=0.0)
    return config.model_copy(update={"history": history})


@app.command("calibrate")
def calibrate_command(
    config: Annotated[Path, typer.Argument(help="The deployment's YAML, with its checkpoint.")],
    episodes: Annotated[Path, typer.Option(help="What `serve --record` kept.")],
    out: Annotated[Path, typer.Option(help="The deployment's YAML with calibrated knobs; may be the same file.")],
    drift_budget: Annotated[float, typer.Option(min=0, max=2, help="Drift p90 allowed, normalised units.")] = 0.02,
    frames: Annotated[int, typer.Option(min=2, help="Recorded frames to use.")] = 300,
    chart: Annotated[Path | None, typer.Option(help="Draw reuse against drift into this PNG.")] = None,
    criterion: Annotated[
        Literal["embedding", "pixels"] | None,
        typer.Option(help="Try only this one; comparing pixels costs several times the planning."),
    ] = None,
) -> None:
    """Find the knobs of mode adaptive that reuse most within a drift budget, by replaying recorded episodes."""
    need(*(["charts"] if chart else []))
    from stillframe.bench.calibration.files import calibrated_yaml, check_writable, draw, summary
    from stillframe.bench.calibration.search import OverBudget, calibrate
    from stillframe.recording.reader import read_episodes
    from stillframe.serve import open_model
    from stillframe.terminal import StageBar

    check_writable(out, chart)
    deployment = load_config(config, {})
    with StageBar() as bar:
        recorded = read_episodes(episodes, bar.say)
        model = open_model(deployment)
        try:
            found = calibrate(
                model,
                deployment.reuse,
                recorded,
                budget=drift_budget,
                frames=frames,
                warn=bar.say,
                report=bar,
                criterion=criterion,
            )
        except OverBudget as problem:
            if chart:
                draw(chart, problem.tried, drift_budget, None)
            raise
    if chart:
        draw(chart, found.tried, drift_budget, found)
    typer.echo(summary(found), nl=False)
    _write(out, calibrated_yaml(config.read_text(encoding="utf-8"), found))


@app.command("loadtest")
def loadtest_command(
    url: Annotated[str | None, typer.Argument(help="A running daemon; none: one of our own, with --config.")] = None,
    robots: Annotated[int, typer.Option(min=1, help="How many, each with a session of its own.")] = 8,
    hz: Annotated[float, typer.Option(help="Frames a second of each.")] = 5.0,
    seconds: Annotated[float, typer.Option(help="How long.")] = 10.0,
    config: Annotated[Path, typer.Option(help="What a daemon of our own serves.")] = TINY_CONFIG,
    wire: Annotated[WireName, typer.Option(help="What they speak.")] = "stream",
    flood: Annotated[int, typer.Option(min=0, help="So many more send as fast as they can.")] = 0,
    deadline_ms: Annotated[float, typer.Option(min=1, help="An action after that is a miss.")] = 200.0,
    max_age_ms: Annotated[
        float | None, typer.Option(min=1, help="What frames say of how old they may get; default nothing.")
    ] = None,
    phases: Annotated[Phases, typer.Option(help="How their periods lie to each other.")] = "random",
    seed: Annotated[int, typer.Option(help="Of random phases.")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Repeat; with --flood: each time without it too.")] = 1,
    most: Annotated[int, typer.Option(min=1, help="With --capacity: try no more robots.")] = 64,
    overhead_frames: Annotated[
        int, typer.Option("--overhead", min=0, help="So many frames, one at a time: what all but the policy costs.")
    ] = 0,
    token: Annotated[str | None, typer.Option(envvar="STILLFRAME_TOKEN", help="For a daemon that wants one.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    *,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="The newest frame wins; else each has its turn.")
    ] = False,
    capacity: Annotated[
        bool, typer.Option("--capacity", help="Find the most robots with 99.5 % of their frames in time.")
    ] = False,
    hostile: Annotated[
        bool, typer.Option("--hostile", help="One robot alone and beside each kind of hostile neighbour, in turns.")
    ] = False,
    neighbour: Annotated[
        list[str] | None, typer.Option(help="With --hostile: only these kinds; more than once for several.")
    ] = None,
    before: Annotated[
        Path | None, typer.Option(help="With --hostile: a checkout of another commit, measured in turns with this one.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="With --hostile: put the table between this page's marks.")] = None,
) -> None:
    """Let simulated robots send frames on time, whatever the daemon does, and report how they were served."""
    from stillframe.bench.loadtest.command import Wanted, run_hostile, run_loadtest
    from stillframe.bench.loadtest.load import Load
    from stillframe.terminal import LoadBar

    load = Load(robots, hz, seconds, wire, realtime, flood, deadline_ms, max_age_ms, phases, seed)
    if hostile:
        with LoadBar() as bar:
            document, text = run_hostile(load, rounds, neighbour, before, config, bar)
        typer.echo(text, nl=False)
        if json_file is not None:
            _write(json_file, json.dumps(document, indent=2) + "\n")
        if page is not None:
            _put(page, document)
        return
    wanted = Wanted(load, rounds, most if capacity else None, overhead_frames)
    with LoadBar() as bar:
        document, tables = run_loadtest(wanted, url, config, token, bar)
    for table in tables:
        Console().print(table)
    if json_file is not None:
        _write(json_file, json.dumps(document, indent=2) + "\n")


@app.command("bench")
def bench_command(
    checkpoint: Annotated[Path, typer.Option(help="The trained policy.")] = TINY,
    config: Annotated[Path, typer.Option(help="A YAML whose reuse: section is the trained policy's.")] = TINY_CONFIG,
    device: Annotated[Device, typer.Option()] = "auto",
    model: Annotated[
        list[str] | None,
        typer.Option(help="jaco-tiny, 1024x16 or 7b; more than once for several. Default: all that fit the device."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; one is timed by its own CPU time.")] = 1,
    episodes: Annotated[int, typer.Option(min=0, help="Of the closed loop, each way.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where JSON, tables and charts go; default docs/bench, with --quick nowhere.")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Record the scene anew into this file, and no more.")] = None,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer rows and frames: within a minute on two cores.")
    ] = False,
) -> None:
    """Time a step, JPEG bytes to action, against transformers driven the stock way and the machine's roofline."""
    need("bench")
    from stillframe.bench.ask import mendable
    from stillframe.bench.latency.command import Wanted, knobs_of, models_for, run_bench
    from stillframe.bench.latency.report import summary, write_report
    from stillframe.bench.latency.scene import record_scene
    from stillframe.serve import choose_device, open_model
    from stillframe.terminal import RaceBar

    if record is not None:
        need("sim")
        with mendable():
            record_scene(
                open_model(load_config(None, {"checkpoint": checkpoint, "device": "cpu", "threads": 1})), record
            )
        return
    where = choose_device(device)
    wanted = Wanted(checkpoint, where, knobs_of(config), tuple(model or models_for(where)), quick, threads, episodes)
    with RaceBar() as bar:
        document = run_bench(wanted, bar.look)
    typer.echo(summary(document), nl=False)
    if json_file is not None:
        _write(json_file, json.dumps(document, indent=1) + "\n")
    folder = out or (None if quick else Path("docs/bench"))
    if folder is not None:
        typer.echo(f"written: {folder}/{', '.join(write_report(folder, document))}")


def _report(document: dict[str, Any], file: Path | None) -> None:
    text = json.dumps(document, indent=2)
    typer.echo(text)
    if file is not None:
        _write(file, text + "\n")


def _put(page: Path, document: dict[str, Any]) -> None:
    from stillframe.bench.loadtest.hostile.page import written_into

    try:
        written_into(page, document)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--page: {error}") from error


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}; the result is printed above") from error

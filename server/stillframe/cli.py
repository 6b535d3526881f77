"""The command line: serve, train, eval, calibrate, demo. Parses and prints; other rooms work, imported on use."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from stillframe import __version__
from stillframe.config import DaemonConfig, Device, load_config
from stillframe.domain import ReuseMode
from stillframe.errors import ConfigError, StillframeError
from stillframe.extras import need

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
train_app = typer.Typer(no_args_is_help=True, help="Train the policy that ships with stillframe.")
app.add_typer(train_app, name="train")

DATA, RUN, TINY = Path("data"), Path("runs/jaco-tiny"), Path("checkpoints/jaco-tiny")
TINY_WRIST = Path("checkpoints/jaco-tiny-wrist")
TINY_CONFIG, TINY_WRIST_CONFIG = Path("configs/jaco-tiny.yaml"), Path("configs/jaco-tiny-wrist.yaml")
SHIPPED = {TINY: TINY_CONFIG, TINY_WRIST: TINY_WRIST_CONFIG}


def main() -> None:
    """Run; an error that is somebody's to mend is one line and exit status 1."""
    try:
        app()
    except StillframeError as error:
        complaint = Text.assemble(("stillframe:", "red"), f" {error}")  # not markup: an error may hold brackets
        Console(stderr=True, soft_wrap=True, highlight=False).print(complaint)
        sys.exit(1)


def _show_version(asked: bool) -> None:  # noqa: FBT001 (typer's callback)
    if asked:
        typer.echo(f"stillframe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *, version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False
) -> None:
    """A robot-policy serving daemon that remembers each robot between frames."""
    del version  # its callback has spoken


@app.command("serve")
def serve_command(
    config: Annotated[Path | None, typer.Argument(help="A YAML such as configs/jaco-tiny.yaml.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="A folder in the layout of openvla-7b.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the model.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    record: Annotated[Path | None, typer.Option(help="Keep sessions' answered frames in this folder.")] = None,
) -> None:
    """Serve a checkpoint over HTTP. Options win over the YAML."""
    from stillframe.logs import open_log
    from stillframe.serve import serve

    overrides = {
        "checkpoint": checkpoint,
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "host": host,
        "port": port,
        "record": record,
    }
    serve(load_config(config, overrides), open_log())


@app.command("eval")
def eval_command(
    checkpoint: Annotated[Path | None, typer.Option(help=f"The policy, in this process; default {TINY}.")] = None,
    server: Annotated[str | None, typer.Option(help="Or a running daemon's URL.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML whose reuse: section has the knobs.")] = None,
    reuse: Annotated[
        ReuseMode | None, typer.Option(help="What is reused between frames; default: what --config or the daemon says.")
    ] = None,
    task: Annotated[str, typer.Option(help="reach, pick or push.")] = "pick",
    episodes: Annotated[int, typer.Option(min=1)] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the first episode; the others follow.")] = 1000,
    hz: Annotated[int, typer.Option(help="Control steps per second: 5, 10 or 20.")] = 10,
    noise_sigma: Annotated[float, typer.Option(help="Sensor noise in grey levels.")] = 0.0,
    jpeg: Annotated[int | None, typer.Option(help="Send the camera through JPEG of this quality.")] = None,
    camera: Annotated[
        list[str] | None, typer.Option(help="front or wrist; more than once for both. Default: the policy's own.")
    ] = None,
    device: Annotated[Device, typer.Option()] = "auto",
    dtype: Annotated[str, typer.Option()] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of a policy in this process.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here too.")] = None,
    out: Annotated[Path, typer.Option(help="With --ablation: where tables and charts go.")] = Path("docs/ablation"),
    run: Annotated[
        Path, typer.Option(help="With --ablation: where finished cells are kept; delete it after a change of code.")
    ] = Path("runs/ablation"),
    workers: Annotated[int, typer.Option(min=1, max=2, help="With --ablation: processes, one a core.")] = 2,
    *,
    distractor: Annotated[bool, typer.Option("--distractor", help="Something moves in the background.")] = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Every way to reuse, under every condition, with tables and charts.")
    ] = False,
) -> None:
    """Play episodes in the simulator and report success, with its 95 % interval, reuse, drift and latency."""
    need("sim")
    if ablation:
        _ablate(checkpoint or TINY, config, episodes, seed, out, run, workers)
        return
    from stillframe.bench.ask import ask_checkpoint, ask_server, mendable
    from stillframe.bench.evaluate import Evaluation, evaluate, summarise
    from stillframe.terminal import EpisodeBar

    plan = Evaluation(task, episodes, seed, hz, noise_sigma, jpeg, tuple(camera or ()), distractor)
    options = {"device": device, "dtype": dtype, "threads": threads}
    with (
        mendable(),
        ask_server(server, reuse) if server else ask_checkpoint(_played(checkpoint, config, reuse, options)) as asked,
        EpisodeBar(f"{task}, seeds {seed}..{seed + episodes - 1}", episodes) as bar,
    ):
        played = evaluate(plan, asked, bar.watch)
    _report(summarise(plan, played, server or str(checkpoint or TINY), asked.trace), json_file)


def _played(
    checkpoint: Path | None, file: Path | None, mode: ReuseMode | None, options: dict[str, Any]
) -> DaemonConfig:
    """What eval loads: the knobs of `file`, else of the checkpoint's own; its mode only where it was named."""
    knobs = _knobs(checkpoint or TINY, file)
    config = load_config(knobs, {"checkpoint": checkpoint or TINY, **options})
    mode = mode or (config.reuse.mode if file else "off")
    return config.model_copy(update={"reuse": replace(config.reuse, mode=mode)})


def _knobs(checkpoint: Path, file: Path | None) -> Path | None:
    """The YAML to read: the one that was named, or one of ours for a checkpoint of ours."""
    ours = {folder.resolve(): config for folder, config in SHIPPED.items() if config.is_file()}
    return file or ours.get(checkpoint.resolve())


def _ablate(
    checkpoint: Path, config: Path | None, episodes: int, seed: int, out: Path, run: Path, workers: int
) -> None:
    """Play, time and write what is missing."""
    need("charts")
    from stillframe.bench.ablation.plan import Plan
    from stillframe.bench.ablation.run import Folders, run_ablation
    from stillframe.bench.ablation.speed import Untrained
    from stillframe.bench.ask import mendable
    from stillframe.terminal import AblationBar
    from stillframe.train.untrained import save_untrained

    if episodes < 2:
        raise ConfigError(f"--episodes {episodes}: the ablation plays two tasks; expected at least 2")
    knobs = load_config(_knobs(checkpoint, config), {"checkpoint": checkpoint}).reuse
    wrist = _knobs(TINY_WRIST, None)
    plan = Plan(knobs, checkpoint, TINY_WRIST, episodes, seed, load_config(wrist, {}).reuse if wrist else None)
    untrained = Untrained("random weights: hidden 1024, 16 layers", save_untrained)
    with mendable(), AblationBar() as bar:
        run_ablation(plan, Folders(run, out), workers, untrained, bar)
    typer.echo(f"written: {out}/README.md, results.json, reuse.png, speed.png, strip.png")


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


@app.command("demo")
def demo_command(
    config: Annotated[Path, typer.Option(help="What the daemon serves.")] = TINY_CONFIG,
    out: Annotated[Path | None, typer.Option(help="Where the report goes; default runs/<time>.")] = None,
) -> None:
    """Drive the simulated arm through ten instructions over HTTP; fails under 7 successes."""
    need("sim", "charts")
    from stillframe.bench.demo import run_demo

    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    if not run_demo(config, out or Path("runs") / stamp, Console()):
        raise typer.Exit(1)


@train_app.command("demos")
def train_demos_command(
    data: Annotated[Path, typer.Option(help="Where the frames go (4 GB).")] = DATA,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one a core.")] = 2,
    *,
    wrist: Annotated[bool, typer.Option("--wrist", help="Those of jaco-tiny-wrist, from two cameras.")] = False,
) -> None:
    """Collect demonstrations: a shaky expert's frames, each labelled for all six instructions."""
    need("sim", "charts")
    from stillframe.bench.ask import mendable
    from stillframe.train.pipeline import collect_demonstrations
    from stillframe.train.recipe import JACO_TINY, JACO_TINY_WRIST

    with mendable():
        stores = collect_demonstrations(data, JACO_TINY_WRIST if wrist else JACO_TINY, workers)
    typer.echo(f"{sum(map(len, stores))} frames in {data}")


@train_app.command("policy")
def train_policy_command(
    out: Annotated[Path | None, typer.Option(help=f"Where the chosen checkpoint goes; default {TINY}.")] = None,
    run: Annotated[Path | None, typer.Option(help=f"The run's state; resumes if there is one; default {RUN}.")] = None,
    data: Annotated[Path, typer.Option(help="Demonstrations; collected if they are not there.")] = DATA,
    start: Annotated[Path | None, typer.Option(help="Begin with this checkpoint's weights.")] = None,
    device: Annotated[Device, typer.Option()] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; one is often fastest on shared cores.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Simulator processes, one a core.")] = 2,
    *,
    wrist: Annotated[bool, typer.Option("--wrist", help="Train jaco-tiny-wrist: two cameras.")] = False,
) -> None:
    """Train jaco-tiny from nothing: demonstrations, cloning, DAgger, selection. About an hour on two cores.

    With --wrist the policy has two cameras and begins as jaco-tiny; the default folders are its own.
    """
    need("sim", "charts")
    import torch

    from stillframe.bench.ask import mendable
    from stillframe.serve import choose_device
    from stillframe.terminal import TrainingBar
    from stillframe.train.pipeline import publish, train_policy
    from stillframe.train.recipe import JACO_TINY, JACO_TINY_WRIST

    torch.set_num_threads(threads)
    recipe, start = (JACO_TINY_WRIST, start or TINY) if wrist else (JACO_TINY, start)
    out, run = out or _named(TINY, wrist=wrist), run or _named(RUN, wrist=wrist)
    with mendable(), TrainingBar(recipe.steps) as bar:
        trained = train_policy(run, data, recipe, choose_device(device), workers, bar, start)
    publish(trained, recipe, run, out)
    typer.echo(f"chosen: {trained.best.folder}, copied to {out}; measure it with `stillframe eval --checkpoint {out}`")


def _named(folder: Path, *, wrist: bool) -> Path:
    """The folder, or its twin for two cameras."""
    return folder.with_name(f"{folder.name}-wrist") if wrist else folder


def _report(document: dict[str, Any], file: Path | None) -> None:
    text = json.dumps(document, indent=2)
    typer.echo(text)
    if file is not None:
        _write(file, text + "\n")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}; the result is printed above") from error

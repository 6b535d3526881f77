"""The command line: serve, train, eval, demo. Parses and prints; the work is done in other rooms, imported on use."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from stillframe import __version__
from stillframe.config import Device, load_config
from stillframe.errors import ConfigError, StillframeError
from stillframe.extras import need

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
train_app = typer.Typer(no_args_is_help=True, help="Train the policy that ships with stillframe.")
app.add_typer(train_app, name="train")

DATA, RUN, TINY = Path("data"), Path("runs/jaco-tiny"), Path("checkpoints/jaco-tiny")
TINY_CONFIG = Path("configs/jaco-tiny.yaml")


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
    }
    serve(load_config(config, overrides), open_log())


@app.command("eval")
def eval_command(
    checkpoint: Annotated[Path, typer.Option(help="The policy, in this process.")] = TINY,
    server: Annotated[str | None, typer.Option(help="Or a running daemon's URL.")] = None,
    task: Annotated[str, typer.Option(help="reach, pick or push.")] = "pick",
    episodes: Annotated[int, typer.Option(min=1)] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the first episode; the others follow.")] = 1000,
    hz: Annotated[int, typer.Option(help="Control steps per second: 5, 10 or 20.")] = 10,
    noise_sigma: Annotated[float, typer.Option(help="Sensor noise in grey levels.")] = 0.0,
    jpeg: Annotated[int | None, typer.Option(help="Send the camera through JPEG of this quality.")] = None,
    device: Annotated[Device, typer.Option()] = "auto",
    dtype: Annotated[str, typer.Option()] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of a policy in this process.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here too.")] = None,
) -> None:
    """Play episodes in the simulator and report success, with its 95 % interval, and latency."""
    need("sim")
    from stillframe.bench.ask import ask_checkpoint, ask_server, mendable
    from stillframe.bench.evaluate import Evaluation, evaluate, summarise
    from stillframe.terminal import EpisodeBar

    plan = Evaluation(task, episodes, seed, hz, noise_sigma, jpeg)
    local = {"checkpoint": checkpoint, "device": device, "dtype": dtype, "threads": threads}
    with (
        mendable(),
        ask_server(server) if server else ask_checkpoint(load_config(None, local)) as act,
        EpisodeBar(f"{task}, seeds {seed}..{seed + episodes - 1}", episodes) as bar,
    ):
        played = evaluate(plan, act, bar.watch)
    _report(summarise(plan, played, server or str(checkpoint)), json_file)


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
) -> None:
    """Collect demonstrations: a shaky expert's frames, each labelled for all six instructions."""
    need("sim", "charts")
    from stillframe.bench.ask import mendable
    from stillframe.train.pipeline import collect_demonstrations
    from stillframe.train.recipe import JACO_TINY

    with mendable():
        stores = collect_demonstrations(data, JACO_TINY, workers)
    typer.echo(f"{sum(map(len, stores))} frames in {data}")


@train_app.command("policy")
def train_policy_command(
    out: Annotated[Path, typer.Option(help="Where the chosen checkpoint goes.")] = TINY,
    run: Annotated[Path, typer.Option(help="Where the run keeps its state; resumes if there is one.")] = RUN,
    data: Annotated[Path, typer.Option(help="Demonstrations; collected if they are not there.")] = DATA,
    device: Annotated[Device, typer.Option()] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; one is often fastest on shared cores.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Simulator processes, one a core.")] = 2,
) -> None:
    """Train jaco-tiny from nothing: demonstrations, cloning, DAgger, selection. About an hour on two cores."""
    need("sim", "charts")
    import torch

    from stillframe.bench.ask import mendable
    from stillframe.serve import choose_device
    from stillframe.terminal import TrainingBar
    from stillframe.train.pipeline import publish, train_policy
    from stillframe.train.recipe import JACO_TINY

    torch.set_num_threads(threads)
    with mendable(), TrainingBar(JACO_TINY.steps) as bar:
        trained = train_policy(run, data, JACO_TINY, choose_device(device), workers, bar)
    publish(trained, JACO_TINY, run, out)
    typer.echo(f"chosen: {trained.best.folder}, copied to {out}; measure it with `stillframe eval --checkpoint {out}`")


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

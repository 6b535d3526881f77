"""`stillframe train selector`. Parses options; the lab's room selector does the work, imported on use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from stillframe.cli.output import write_text
from stillframe.daemon.checkpoint import with_local_checkpoint
from stillframe.daemon.config import Device, load_config
from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe.tools.machine import machine
from stillframe_lab.cli.shipped import TINY, knobs_of

EPISODES, PASSES = 18, 14


def train_selector_command(
    recording: Annotated[
        Path | None,
        typer.Argument(
            help="The folder that `serve --record` filled; default: episodes of the policy in the simulator."
        ),
    ] = None,
    checkpoint: Annotated[Path, typer.Option(help="The policy, a folder or a hub id.")] = TINY,
    config: Annotated[
        Path | None, typer.Option(help="A YAML with the settings of reuse: default the shipped one of the checkpoint.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The tensors, NAME.safetensors; NAME.json goes beside them.")] = Path(
        "selector.safetensors"
    ),
    episodes: Annotated[
        int, typer.Option(min=3, help="Played or, of a recording, read; every third, if no others, is held out.")
    ] = EPISODES,
    held_out: Annotated[
        Path | None,
        typer.Option(help="A second recording: nothing is learnt of it, the comparison is made on it and on no other."),
    ] = None,
    passes: Annotated[
        int, typer.Option(min=1, help="Times that each is gone through in either round, with other tokens.")
    ] = PASSES,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the comparison here.")] = None,
    device: Annotated[Device, typer.Option()] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    *,
    comparison: Annotated[
        bool, typer.Option(help="Replay the held-out episodes with the selector, and without.")
    ] = True,
) -> None:
    """Train the network that says which patches are reused, and say what it brings over relevance and distance."""
    if out.suffix != ".safetensors" or json_file == out.with_suffix(".json"):
        raise ConfigError(f"--out {out}: expected NAME.safetensors, and --json another file than NAME.json beside it")
    if recording is None:
        require_extras("sim")
    from stillframe.cli.progress import StageBar
    from stillframe.daemon.serve import open_model
    from stillframe.engine.answers import ChunkAnswers
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.selector.comparison import compare, document, steps
    from stillframe_lab.selector.training import Plan, split, train

    deployed = load_config(
        knobs_of(checkpoint, config), {"checkpoint": checkpoint, "device": device, "threads": threads}
    )
    deployed = with_local_checkpoint(deployed)
    with user_errors(), StageBar() as bar:
        model = open_model(deployed)
        answers = ChunkAnswers(deployed.decoding.ensemble, deployed.decoding.execute)
        plan = Plan(deployed.reuse, answers, episodes, passes)
        learnt, held = split(plan, model, recording, bar, held_out)
        train(plan, model, learnt, out, bar)
        if not comparison:
            return
        reuse = replace(deployed.reuse, adaptive=replace(deployed.reuse.adaptive, selector=out))
        bar.stage("comparison", steps(held))
        found = document(compare(model, reuse, held, bar.advance, answers), reuse.drift_budget)
    text = json.dumps({"checkpoint": str(checkpoint), "machine": machine(), **found}, indent=2)
    typer.echo(json.dumps({name: found[name]["within_budget"] for name in found}, indent=2))
    if json_file is not None:
        write_text(json_file, text + "\n")

"""`stillframe bench`: time a step against plain transformers. Parses options; other rooms work, imported on use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from stillframe.cli.output import write_text
from stillframe.daemon.checkpoint import local_folder
from stillframe.daemon.config import Device, load_config
from stillframe.tools.extras import require_extras
from stillframe_lab.cli.shipped import TINY, TINY_CONFIG, TINY_PI0, TINY_PI0_CONFIG


def bench_command(
    checkpoint: Annotated[Path, typer.Option(help="The trained policy, a folder or an id of the hub.")] = TINY,
    config: Annotated[Path, typer.Option(help="A YAML whose reuse: section is the trained policy's.")] = TINY_CONFIG,
    device: Annotated[Device, typer.Option()] = "auto",
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="jaco-tiny, jaco-tiny-pi0, 1024x16, oft-1024x16, pi0-1024x9 or 7b; more than once for several. "
            "Default: all that fit."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; one is timed by its own CPU time.")] = 1,
    episodes: Annotated[int, typer.Option(min=0, help="Closed-loop episodes of each way.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where JSON, tables and charts go; default docs/bench, with --quick nowhere.")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Only record the scene into this file.")] = None,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer rows and frames: within a minute on two cores.")
    ] = False,
) -> None:
    """Time a step, JPEG bytes to action, against transformers driven the stock way and the machine's roofline."""
    require_extras("bench")
    checkpoint = local_folder(checkpoint)
    from stillframe.daemon.serve import choose_device, open_model
    from stillframe_lab.evaluation.actors import user_errors
    from stillframe_lab.latency.command import BenchSettings, knobs_of, models_for, run_bench, trained_flow
    from stillframe_lab.latency.report import summary, write_report
    from stillframe_lab.latency.scene import record_scene
    from stillframe_lab.progress import RaceBar

    if record is not None:
        require_extras("sim")
        with user_errors():
            record_scene(
                open_model(load_config(None, {"checkpoint": checkpoint, "device": "cpu", "threads": 1})), record
            )
        return
    where, flow = choose_device(device), trained_flow(TINY_PI0, TINY_PI0_CONFIG)
    models = tuple(model or models_for(where, flow))
    wanted = BenchSettings(checkpoint, where, knobs_of(config), models, quick, threads, episodes, flow)
    with RaceBar() as bar:
        document = run_bench(wanted, bar.look)
    typer.echo(summary(document), nl=False)
    if json_file is not None:
        write_text(json_file, json.dumps(document, indent=1) + "\n")
    folder = out or (None if quick else Path("docs/bench"))
    if folder is not None:
        typer.echo(f"written: {folder}/{', '.join(write_report(folder, document))}")

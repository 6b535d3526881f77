"""`stillframe replay` and `export`. Parses options; other rooms do the work, imported on use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stillframe.cli.app import app
from stillframe.cli.deployment import deployment_of
from stillframe.cli.output import write_text
from stillframe.daemon.checkpoint import with_local_checkpoint
from stillframe.domain import ReuseMode
from stillframe.tools.export.command import ExportFormat
from stillframe.tools.extras import require_extras

Recording = Annotated[Path, typer.Argument(help="The folder that `serve --record` filled, or one episode of it.")]


@app.command("replay")
def replay_command(
    recording: Recording,
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint's folder, its id on the hub, or the YAML of a deployment.")
    ],
    reuse: Annotated[
        ReuseMode | None, typer.Option(help="Reuse mode; default: the YAML's, and off for a checkpoint alone.")
    ] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="At most so many frames; default all.")] = None,
    max_drift: Annotated[float | None, typer.Option(min=0, help="Fail if any frame drifts further.")] = None,
    max_drift_p90: Annotated[float | None, typer.Option(min=0, help="Fail if drift p90 is above.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Draw drift frame by frame into this PNG.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures here.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, or cuda:1: the second GPU.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads for the model.")] = None,
    *,
    pauses: Annotated[
        bool, typer.Option(help="Whether the device is idle after each answer, long enough to refresh what is reused.")
    ] = True,
) -> None:
    """Play a recording through another checkpoint or reuse mode, and say how far its answers are from the recorded.

    The exit status is 1 where they are further than --max-drift or --max-drift-p90 allows.
    """
    require_extras(*(["charts"] if chart else []))
    from stillframe.cli.progress import StageBar
    from stillframe.recording.reader import read_episodes
    from stillframe.tools.calibration.output import check_writable
    from stillframe.tools.replay.compare import ReplayOptions, replay
    from stillframe.tools.replay.output import document, draw_chart, notes, table

    check_writable(chart, json_file)
    deployment = deployment_of(checkpoint, {"device": device, "dtype": dtype, "threads": threads})
    with StageBar() as bar:
        episodes = read_episodes(recording, bar.say)
        bar.stage("replay", min(frames or 10**9, sum(len(episode.files) for episode in episodes)))
        options = ReplayOptions(reuse, pauses, frames)
        report = replay(with_local_checkpoint(deployment), episodes, options, warn=bar.say, advance=bar.advance)
    console, allowed = Console(), {"max": max_drift, "p90": max_drift_p90}
    console.print(table(report))
    for note in notes(report):
        console.print(note, markup=False, highlight=False)
    if chart:
        draw_chart(chart, report, allowed)
    if json_file:
        write_text(json_file, json.dumps(document(report, allowed), indent=2) + "\n")
    report.check(max_drift, max_drift_p90)


@app.command("export")
def export_command(
    recording: Recording,
    to: Annotated[ExportFormat, typer.Option(help="Rerun's archive, a LeRobot dataset (v3), MCAP, or MP4 films.")],
    out: Annotated[Path, typer.Option(help="A new or empty folder.")],
    fps: Annotated[
        int | None, typer.Option(min=1, max=1000, help="lerobot, video: frames a second; default the recording's.")
    ] = None,
) -> None:
    """Write a recording as what Rerun, LeRobot, Foxglove or a video player opens."""
    from stillframe.cli.progress import StageBar
    from stillframe.recording.reader import read_episodes
    from stillframe.tools.export.command import export

    with StageBar() as bar:
        episodes = read_episodes(recording, bar.say)
        bar.stage(f"export to {to}", sum(len(episode.files) for episode in episodes))
        written = export(episodes, to, out, fps=fps, warn=bar.say, advance=bar.advance)
    for path in written:
        typer.echo(path)

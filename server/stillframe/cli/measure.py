"""`stillframe calibrate` and `loadtest`. Parses options; other rooms do the work, imported on use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from stillframe.cli.app import TINY_CONFIG, app
from stillframe.cli.output import write_text
from stillframe.daemon.checkpoint import with_local_checkpoint
from stillframe.daemon.config import load_config
from stillframe.errors import ConfigError
from stillframe.tools.extras import require_extras
from stillframe.tools.loadtest.load import Phases, TransportName


@app.command("calibrate")
def calibrate_command(
    config: Annotated[Path, typer.Argument(help="The deployment's YAML, with its checkpoint.")],
    episodes: Annotated[Path, typer.Option(help="The folder that `serve --record` filled.")],
    out: Annotated[Path, typer.Option(help="The deployment's YAML with calibrated knobs; may be the same file.")],
    drift_budget: Annotated[float, typer.Option(min=0, max=2, help="Drift p90 allowed, normalised units.")] = 0.02,
    frames: Annotated[int, typer.Option(min=2, help="Recorded frames to use.")] = 300,
    chart: Annotated[Path | None, typer.Option(help="Draw reuse against drift into this PNG.")] = None,
    criterion: Annotated[
        Literal["embedding", "pixels"] | None,
        typer.Option(help="Only this criterion; pixels cost several times the planning time."),
    ] = None,
) -> None:
    """Find the settings of mode adaptive that reuse most within a drift budget, by replaying recorded episodes."""
    require_extras(*(["charts"] if chart else []))
    from stillframe.cli.progress import StageBar
    from stillframe.daemon.serve import open_model
    from stillframe.recording.reader import check_pictures, read_episodes
    from stillframe.tools.calibration.output import calibrated_yaml, check_writable, draw_chart, summary
    from stillframe.tools.calibration.search import OverBudget, calibrate

    check_writable(out, chart)
    deployment = with_local_checkpoint(load_config(config, {}))
    with StageBar() as bar:
        recorded = read_episodes(episodes, bar.say)
        check_pictures(recorded)
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
                decoding=deployment.decoding,
            )
        except OverBudget as problem:
            if chart:
                draw_chart(chart, problem.tried, drift_budget, None)
            raise
    if chart:
        draw_chart(chart, found.tried, drift_budget, found)
    typer.echo(summary(found), nl=False)
    write_text(out, calibrated_yaml(config.read_text(encoding="utf-8"), found))


@app.command("loadtest")
def loadtest_command(
    url: Annotated[str | None, typer.Argument(help="A running daemon; none: start one with --config.")] = None,
    robots: Annotated[int, typer.Option(min=1, help="Robots, each with a session of its own.")] = 8,
    hz: Annotated[float, typer.Option(help="Frames a second of each robot.")] = 5.0,
    seconds: Annotated[float, typer.Option(help="Duration.")] = 10.0,
    config: Annotated[Path, typer.Option(help="What a daemon started here serves.")] = TINY_CONFIG,
    wire: Annotated[TransportName, typer.Option(help="Transport.")] = "stream",
    flood: Annotated[int, typer.Option(min=0, help="Extra robots that send as fast as they can.")] = 0,
    deadline_ms: Annotated[float, typer.Option(min=1, help="A later action is a miss.")] = 200.0,
    max_age_ms: Annotated[float | None, typer.Option(min=1, help="max_age_ms of the frames; default none.")] = None,
    phases: Annotated[Phases, typer.Option(help="Offsets of the robots' periods.")] = "random",
    seed: Annotated[int, typer.Option(help="Seed of random phases.")] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Repeat; with --flood: each time without it too.")] = 1,
    most: Annotated[int, typer.Option(min=1, help="With --capacity: the most robots to try.")] = 64,
    overhead_frames: Annotated[
        int,
        typer.Option("--overhead", min=0, help="Time so many frames, one at a time, less the policy's own time."),
    ] = 0,
    token: Annotated[str | None, typer.Option(envvar="STILLFRAME_TOKEN", help="Access token of the daemon.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
    *,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Newer frames supersede older ones; else each is answered.")
    ] = False,
    capacity: Annotated[
        bool, typer.Option("--capacity", help="Find the most robots with 99.5 % of their frames within the deadline.")
    ] = False,
    hostile: Annotated[
        bool, typer.Option("--hostile", help="One robot alone and beside each kind of hostile neighbour, alternating.")
    ] = False,
    neighbour: Annotated[
        list[str] | None, typer.Option(help="With --hostile: only these kinds; more than once for several.")
    ] = None,
    before: Annotated[
        Path | None, typer.Option(help="With --hostile: a checkout of another commit to compare with.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="With --hostile: put the table between this page's marks.")] = None,
) -> None:
    """Send frames of simulated robots on schedule, whatever the daemon does, and report latencies and problems."""
    from stillframe.cli.progress import LoadBar
    from stillframe.tools.loadtest.command import LoadTest, run_hostile, run_loadtest
    from stillframe.tools.loadtest.load import Load

    load = Load(robots, hz, seconds, wire, realtime, flood, deadline_ms, max_age_ms, phases, seed)
    if hostile:
        with LoadBar() as bar:
            document, text = run_hostile(load, rounds, neighbour, before, config, bar)
        typer.echo(text, nl=False)
        if json_file is not None:
            write_text(json_file, json.dumps(document, indent=2) + "\n")
        if page is not None:
            _write_page(page, document)
        return
    wanted = LoadTest(load, rounds, most if capacity else None, overhead_frames)
    with LoadBar() as bar:
        document, tables = run_loadtest(wanted, url, config, token, bar)
    for table in tables:
        Console().print(table)
    if json_file is not None:
        write_text(json_file, json.dumps(document, indent=2) + "\n")


def _write_page(page: Path, document: dict[str, Any]) -> None:
    from stillframe.tools.loadtest.hostile.page import replace_table

    try:
        replace_table(page, document)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--page: {error}") from error

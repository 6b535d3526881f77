"""`make demo-bridge`: a daemon, the bridge, its streamer and a simulated Jaco2, and five instructions.

Knows the bridge's rooms; pictures are film.py's, charts the bridge's own report.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from stillframe.errors import ConfigError, StillframeError
from stillframe.tools.local_daemon import daemon
from stillframe_client.errors import PolicyError
from stillframe_client.jaco2.bridge.session import Bridge, Refusal
from stillframe_client.jaco2.bridge.streamer_process import TICKS, StreamerFailed
from stillframe_client.jaco2.cameras.base import CameraError
from stillframe_client.jaco2.settings import BridgeSettings
from stillframe_client.jaco2.world.client import WorldClient
from stillframe_client.jaco2.world.launch import world
from stillframe_client.jaco2.world.wire import WorldError
from stillframe_lab.bridge.cells import Cell, Played
from stillframe_lab.bridge.figures import pooled, read_lines, run_figures
from stillframe_lab.bridge.film import Camera, frames, track, write
from stillframe_lab.bridge.play import SETTLE_S, play_one, settings_for

SEEDS = range(1002, 1007)
NEEDED = 3  # successes, or the demo has failed


def run_demo(config: Path, bridge_config: Path, out: Path, mode: str, console: Console) -> bool:
    """Play, write `out`/ -> whether enough succeeded. Raises StillframeError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {out}: {error.strerror}; choose another --out") from error
    cell = Cell("demo", mode)
    console.print(f"starting a daemon with {config}, a simulated Jaco2 and the bridge ...")
    try:
        with daemon([str(config)]) as url, world() as socket:
            settings = settings_for(cell, bridge_config, url, socket, out, "first")
            played = asyncio.run(_play(cell, settings, socket, out, console))
    except (Refusal, StreamerFailed, CameraError, PolicyError, WorldError) as error:
        raise StillframeError(f"{error}\n(log: {out})") from error
    _summary(out, played, console)
    report = [sys.executable, "-m", "stillframe_client.jaco2.cli", "report", str(out)]
    subprocess.run(report, check=True)  # noqa: S603 (our own)
    console.print(f"written: {out}/bridge.gif")
    return sum(one.success for one in played) >= NEEDED


async def _play(cell: Cell, settings: BridgeSettings, socket: str, out: Path, console: Console) -> list[Played]:
    camera, spans, played = Camera(socket), [], []
    with contextlib.closing(WorldClient(socket)) as client:
        async with Bridge(settings, out) as bridge:
            console.print(f"mode {cell.mode}, 100 Hz to the arm, every limit at its ceiling\n")
            camera.start()
            for seed in SEEDS:
                begin_s = time.monotonic() + SETTLE_S
                played.append(await play_one(cell, bridge, client, seed, {}))
                spans.append((begin_s, time.monotonic()))
                console.print(_line(played[-1]))
    camera.end()
    best = next((number for number, one in enumerate(played) if one.success), 0)
    shown = track(list(read_lines(out / TICKS))[1:])
    write(out / "bridge.gif", frames(camera.pictures, shown, played[best].instruction, spans[best]))
    return played


def _line(one: Played) -> str:
    result = "[green]done[/]" if one.success else f"[red]{one.reason}[/]"
    return f"  {one.instruction:<26} {result:<22} {one.answers:>3} answers in {one.seconds:>4.1f} s"


def _summary(out: Path, played: list[Played], console: Console) -> None:
    figures = pooled([run_figures(out)])
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    latency, late = figures["frame_to_command_ms"], figures["late_ms"]
    table.add_row("", "")
    table.add_row("[bold]success[/]", f"{sum(one.success for one in played)}/{len(played)}")
    table.add_row("[bold]frame to command[/]", f"p50 {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms")
    table.add_row("[bold]actions a second[/]", f"{figures['control_hz']:.1f}")
    table.add_row("[bold]10 ms ticks late by[/]", f"p50 {late['p50']:.2f} ms, p99 {late['p99']:.2f} ms")
    console.print(table)

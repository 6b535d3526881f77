"""`make demo`: a daemon, a simulated arm and ten instructions between them, over real HTTP.

Knows the client and the simulator; the report is made in report.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from stillframe.errors import ConfigError
from stillframe.tools.charts import captioned
from stillframe.tools.local_daemon import daemon
from stillframe_client import PolicyClient
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import play
from stillframe_lab.demo.report import DemoRecord, episode_table, rate_hz, row_of, summary, write_report
from stillframe_lab.evaluation.actors import user_errors

CAMERA = "front"
CONTROL_HZ = 10
STEP_TIMEOUT_S = 30.0
FIRST_SEED = 2_000
PLAN = tuple(
    {"task": task, "colour": colour}
    for task, colour in (
        ("pick", "red"), ("reach", "blue"), ("pick", "green"), ("pick", "blue"), ("reach", "red"),
        ("pick", "green"), ("pick", "red"), ("reach", "green"), ("pick", "blue"), ("pick", "red"),
    )
)  # fmt: skip
FILMED = (0, 2)  # episodes in the animation
NEEDED = 7  # successes of ten, or the demo has failed


@user_errors()
def run_demo(config: Path, out: Path, console: Console) -> bool:
    """Play the ten episodes, write `out`/, print the summary -> whether enough succeeded."""
    _make(out)
    console.print(f"starting a daemon with {config} ...")
    with daemon([str(config)]) as url, PolicyClient(url, timeout_s=STEP_TIMEOUT_S) as client:
        model = client.info()
        console.print(
            f"{model.name} ({model.family}) answers at {url}/act. Ten instructions for the simulated Jaco2:\n"
        )
        record = _play_all(client, console)
    write_report(out, record, model.card, CONTROL_HZ)
    console.print(summary(record))
    console.print(f"written: {out}/report.json, demo.gif, latency.png")
    return record.wins >= NEEDED


def _make(out: Path) -> None:
    """Create the folder before minutes are spent. Raises ConfigError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make {out}: {error.strerror}; choose another --out") from error


def _play_all(client: PolicyClient, console: Console) -> DemoRecord:
    """Play ten episodes, with a growing table and a status line."""
    record, table = DemoRecord(), episode_table()
    scene = JacoEnv(cameras=(CAMERA,), hz=CONTROL_HZ)
    with closing(scene) as env, Live(table, console=console, refresh_per_second=8) as live:
        for number, options in enumerate(PLAN):
            _play_one(client, env, number, options, record, lambda now: live.update(Group(table, Text(now, "dim"))))
            table.add_row(*row_of(number, len(PLAN), record.episodes[-1]))
        live.update(table)
    return record


def _play_one(
    client: PolicyClient, env: JacoEnv, number: int, options: Mapping[str, str], record: DemoRecord, say: Any
) -> None:
    """Play one episode: send every picture to the daemon, carry out every action."""
    act_ms, film = [], []

    def act(observed: Mapping[str, Any]) -> NDArray[np.float64]:
        asked_s = perf_counter()
        reply = client.act_with_report(observed["images"][CAMERA], observed["instruction"])
        act_ms.append((perf_counter() - asked_s) * 1e3)
        record.stages_ms.append(reply.timing_ms)
        return reply.action

    def watch(observed: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        caption = observed["instruction"] + (": done" if info["success"] else "")
        if number in FILMED:
            film.append(captioned(observed["images"][CAMERA], caption))
        live = f"{act_ms[-1]:.0f} ms, {rate_hz(act_ms[-1]):.0f} Hz"
        say(f"{number + 1:>2}/{len(PLAN)}  {caption}, step {info['steps']}, {live}")

    client.reset()
    record.episodes.append(play(env, act, seed=FIRST_SEED + number, options=options, watch=watch))
    if film:
        record.films.append(film)

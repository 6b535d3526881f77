"""`make demo`: a daemon, a simulated arm and ten instructions between them, over real HTTP.

Knows the client and the simulator; the report is made in report.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from stillframe_lab.evaluation.evaluate import camera_sources

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
SESSION = "demo"  # the arm's, as the live page names it
NEEDED = 7  # successes of ten, or the demo has failed


@user_errors()
def run_demo(options: Sequence[str], out: Path, console: Console) -> bool:
    """Play the ten episodes, write `out`/, print the summary -> whether enough succeeded.

    `options`: those of `stillframe serve`, which say what is served.
    """
    _make(out)
    console.print(f"starting a daemon with {' '.join(options)} ...")
    with daemon([*options]) as url, PolicyClient(url, timeout_s=STEP_TIMEOUT_S, session=SESSION) as client:
        model = client.info()
        console.print(
            f"{model.name} ({model.family}) answers at {url}/act, and {url}/ shows a browser how; to watch for longer, "
            "add --watch. Ten instructions for the simulated Jaco2:\n"
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
    record, table, policy = DemoRecord(), episode_table(), DemoPolicy(client)
    scene = JacoEnv(cameras=policy.cameras, hz=CONTROL_HZ)
    with closing(scene) as env, Live(table, console=console, refresh_per_second=8) as live:
        for number, options in enumerate(PLAN):
            _play_one(policy, env, number, options, record, lambda now: live.update(Group(table, Text(now, "dim"))))
            table.add_row(*row_of(number, len(PLAN), record.episodes[-1], record.asked[-1]))
        live.update(table)
    return record


class DemoPolicy:
    """The daemon's policy: gets what its contract names, and plays as much of each chunk as that advises."""

    def __init__(self, client: PolicyClient):
        """Raises PolicyError, and ConfigError for cameras that the simulator does not have."""
        self._client, self._info = client, client.info()
        self._sources = camera_sources(self._info.cameras)
        self._left: list[NDArray[np.float64]] = []
        self.cameras = tuple(self._sources.values())  # the simulator's
        self.answer_ms = 0.0  # how long the last answer took, end to end
        self.stages_ms: list[Mapping[str, float]] = []  # of each answer of the episode, as the daemon reports
        self.asked: list[bool] = []  # of each step of the episode: whether its action was asked for

    def reset(self) -> None:
        """Begin an episode."""
        self._left, self.stages_ms, self.asked = [], [], []
        self._client.reset()

    def __call__(self, observed: Mapping[str, Any]) -> NDArray[np.float64]:
        """The action [7] of this step."""
        self.asked.append(not self._left)
        if not self._left:
            asked_s = perf_counter()
            reply = self._client.act_with_report(
                self._pictures(observed),
                observed["instruction"],
                state=None if self._info.state is None else observed["state"],
            )
            self.answer_ms = (perf_counter() - asked_s) * 1e3
            self.stages_ms.append(reply.timing_ms)
            self._left = list(reply.actions[: self._info.execute])
        return self._left.pop(0)

    def _pictures(self, observed: Mapping[str, Any]) -> Any:
        """Under the policy's names; one alone needs none."""
        pictures = {name: observed["images"][own] for name, own in self._sources.items()}
        return pictures if len(pictures) > 1 else next(iter(pictures.values()))


def _play_one(
    policy: DemoPolicy, env: JacoEnv, number: int, options: Mapping[str, str], record: DemoRecord, say: Any
) -> None:
    """Play one episode: send the daemon what its policy sees, carry out every action."""
    film = []

    def watch(observed: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        caption = observed["instruction"] + (": done" if info["success"] else "")
        if number in FILMED:
            film.append(captioned(observed["images"][policy.cameras[0]], caption))
        live = f"{policy.answer_ms:.0f} ms, {rate_hz(policy.answer_ms):.0f} Hz"
        say(f"{number + 1:>2}/{len(PLAN)}  {caption}, step {info['steps']}, {live}")

    policy.reset()
    record.add(
        play(env, lambda seen: policy(seen), seed=FIRST_SEED + number, options=options, watch=watch),
        policy.asked,
        policy.stages_ms,
    )
    if film:
        record.films.append(film)

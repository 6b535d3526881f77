"""openpi's own client drives the simulated arm through whole tasks, a chunk broker between them, as its examples do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stillframe.tools.local_daemon import daemon
from stillframe_client.sim.env import JacoEnv
from stillframe_client.sim.rollout import play

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {file.stem: yaml.safe_load(file.read_text("utf-8")) for file in (ROOT / "configs").glob("jaco-tiny*.yaml")}
CHUNKED = sorted(name for name, settings in SETTINGS.items() if (settings.get("decoding") or {}).get("execute"))
CAMERA_PX = 256  # as openpi's LIBERO evaluation draws them; its client makes them smaller
SEEDS = (1002, 1003, 1004)


@pytest.fixture(params=CHUNKED)
def deployed(request: pytest.FixtureRequest, tmp_path: Path, new_port: Callable[[], int]) -> Iterator[tuple[str, int]]:
    """A daemon as a policy of chunks is shipped, and how many actions of each are to be played."""
    settings = SETTINGS[request.param]
    file = tmp_path / "daemon.yaml"
    file.write_text(yaml.safe_dump({**settings, "checkpoint": str(ROOT / settings["checkpoint"])}))
    with daemon([str(file)], new_port()) as url:
        yield url, settings["decoding"]["execute"]


@pytest.mark.slow
@pytest.mark.usefixtures("needs_gl")
def test_whole_episodes(deployed: tuple[str, int], connect: Callable[..., Any]) -> None:
    """It picks up the cube that it is told to, episode after episode over one connection, which knows no reset."""
    url, execute = deployed
    robot = connect("openpi-client-0.1.2", "openpi_examples", url)
    env = JacoEnv("pick", cameras=("front", "wrist"), image_px=CAMERA_PX)

    class Robot:
        """An actor of the simulator's, by the orders that the client's process takes."""

        def __call__(self, observed: dict[str, Any]) -> Any:
            """The action [7] for what is seen now."""
            return robot("arm", "act", [*observed["images"].values()], observed["state"], observed["instruction"])

        def reset(self) -> None:
            """An episode begins."""
            robot("arm", "begin", execute)

        def rest(self) -> None:
            """Nothing is done in the pause."""

    played = [play(env, Robot(), seed=seed) for seed in SEEDS]

    assert [episode.success for episode in played] == [True] * len(SEEDS), played

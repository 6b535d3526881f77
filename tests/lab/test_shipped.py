from __future__ import annotations

import os
from pathlib import Path

import pytest

from stillframe.daemon.config import load_config
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.registry import family_of
from stillframe_lab.cli.shipped import FAMILIES, SHIPPED
from stillframe_lab.evaluation.actors import open_local_actor
from stillframe_lab.evaluation.evaluate import Evaluation, evaluate

ROOT = Path(__file__).parents[2]
MOST_BYTES = 20_000_000


@pytest.mark.parametrize("checkpoint", SHIPPED, ids=str)
def test_a_shipped_policy_is_small_and_has_its_configuration_and_its_card(checkpoint: Path) -> None:
    """At most 20 MB; the YAML that is shipped with it serves it; the card says how it was made."""
    folder = ROOT / checkpoint
    files = [Path(place) / name for place, _, names in os.walk(folder) for name in names]

    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    assert load_config(ROOT / SHIPPED[checkpoint], {}).checkpoint == checkpoint
    assert "## How it was made" in (folder / "README.md").read_text(encoding="utf-8")


def test_one_policy_of_each_family_is_compared() -> None:
    """The tables across families have five, each in its own layout."""
    assert [family_of(CheckpointFolder(ROOT / checkpoint)) for checkpoint in FAMILIES] == [
        "openvla",
        "openvla_oft",
        "cogact",
        "pi0",
        "pi05",
    ]


@pytest.mark.usefixtures("needs_gl")
@pytest.mark.parametrize("checkpoint", FAMILIES[1:], ids=str)
@pytest.mark.parametrize(
    ("task", "episodes"), [("reach", 1), *(pytest.param(task, 2, marks=pytest.mark.slow) for task in ("reach", "pick"))]
)
def test_a_policy_of_chunks_does_its_task_as_it_is_deployed(checkpoint: Path, task: str, episodes: int) -> None:
    """With the shipped settings: cameras, state, chunks and reuse fit the simulated arm."""
    config = load_config(ROOT / SHIPPED[checkpoint], {"checkpoint": ROOT / checkpoint})
    with open_local_actor(config) as actor:
        plan = Evaluation(task, episodes, 1002, execute=config.decoding.execute)
        played = evaluate(plan, actor, lambda _: None)
        answers = len(actor.trace.frames)

    assert [episode.success for episode in played] == [True] * episodes
    assert answers < sum(episode.steps for episode in played)

"""A tiny OpenVLA of random weights, deployed on one thread, and its certificate of a few ticks, made once.

Knows no test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stillframe.daemon.config import DaemonConfig, load_config
from stillframe.models.base import PolicyModel
from stillframe.models.registry import load_policy
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.tools.certify.certificate import Certificate
from stillframe.tools.certify.run import CertifyOptions, certify
from stillframe_lab.train.new_checkpoint import new_network, save_checkpoint
from stillframe_lab.train.recipe import Recipe

TINY = replace(Recipe(), tower_dim=16, tower_depth=2, tower_heads=2, width=16, layers=2, heads=2, feed_forward=24)
KNOBS = AdaptiveSettings(distance=0.5, top_k=256, task_top_k=20, scene_cut=0.05, age_limit=3)
ADAPTIVE = ReuseSettings(mode="adaptive", drift_budget=2.0, adaptive=KNOBS)
GROWN = 4.0
FEW = CertifyOptions(ticks=5, robots=3)  # the fourth repeats the third's picture

Deploy = Callable[..., DaemonConfig]
Certify = Callable[..., Certificate]


@dataclass
class Heard:
    """What a terminal would be told."""

    stages: list[tuple[str, int]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    steps: int = 0

    def stage(self, name: str, steps: int) -> None:
        """The next stage begins."""
        self.stages.append((name, steps))

    def advance(self) -> None:
        """One step of it is done."""
        self.steps += 1

    def say(self, line: str) -> None:
        """Something that has to be known."""
        self.said.append(line)


@contextmanager
def soon_warm() -> Iterator[None]:
    """An arm is warm after a keyframe alone: nothing is timed here."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("arm", "run"):
            patch.setattr(f"stillframe.tools.certify.{module}.WARM_UP_TICKS", 1)
        yield


@pytest.fixture(scope="module", autouse=True)
def _commands_are_soon_warm() -> Iterator[None]:
    """As the certificates that fixtures make."""
    with soon_warm():
        yield


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights: read, never written."""
    folder = tmp_path_factory.mktemp("certify") / "tiny-vla"
    torch.manual_seed(5)
    save_checkpoint(folder, restless(dict(new_network(TINY).state_dict())), TINY)
    return folder


def restless(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices grown until answers change with every picture, as a trained policy's may."""
    return {name: tensor * GROWN if tensor.ndim == 2 else tensor for name, tensor in weights.items()}


@pytest.fixture(scope="session")
def deploy() -> Deploy:
    """A checkpoint's deployment on one thread, in float32: `deploy(folder, reuse=...)`."""

    def deployed(folder: Path, **sections: Any) -> DaemonConfig:
        keys = {"checkpoint": folder, "device": "cpu", "dtype": "float32", "threads": 1}
        return load_config(None, keys).model_copy(update={"reuse": ADAPTIVE, **sections})

    return deployed


@pytest.fixture(scope="session")
def certified() -> Certify:
    """Make one: `certified(deployment, ticks=3)`; of a few ticks and a batch of three where nothing is said."""

    def of(deployment: DaemonConfig, **asked: Any) -> Certificate:
        with soon_warm():
            return certify(deployment, replace(FEW, **asked), Heard())

    return of


@pytest.fixture(scope="session")
def made(tiny_folder: Path, deploy: Deploy, certified: Certify) -> Certificate:
    """Of the tiny checkpoint."""
    return certified(deploy(tiny_folder))


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> PolicyModel:
    """The tiny checkpoint, loaded."""
    return load_policy(tiny_folder, dtype=torch.float32, device=torch.device("cpu"))


@pytest.fixture
def heard() -> Heard:
    """A reporter."""
    return Heard()

"""A toy of LIBERO's simulator, recipes small enough to train in a test, and made-up demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stillframe_lab.libero.process import CAMERAS, CameraPose, Pictures, Reading, Scene
from stillframe_lab.train.libero.demonstrations import DemoFolder, DemoId
from stillframe_lab.train.libero.recipe import LIBERO_TINY, LIBERO_TINY_OFT, LiberoRecipe
from stillframe_lab.train.libero.recording import Demonstration, jpeg

TOWERS = {"tower_dim": 16, "tower_depth": 2, "tower_heads": 2}
SIZES = {**TOWERS, "width": 16, "layers": 2, "heads": 2, "feed_forward": 24}
SHORT = {
    "steps": 4,
    "batch_images": 3,
    "warmup_steps": 2,
    "dagger_at": (3,),
    "round_each": 1,
    "image_px": 28,
    "demos_each": 2,
}
PX = 32  # of the toy's pictures
UPRIGHT, DOWNWARD = (0.0, 0.0, 0.0, 1.0), (1.0, 0.0, 0.0, 0.0)
OVERHEAD = CameraPose(np.array([0.0, 0.0, 2.0]), np.eye(3), 60.0)


@dataclass
class ToySimulator:
    """A hand that goes where it is told, and a bowl that closed fingers hold at its rim.

    Where the bowl begins depends on the seed. `greased`: nothing is ever held.
    """

    greased: bool = False
    opened: list[tuple[str, int]] = field(default_factory=list)
    asked: list[tuple[int | None, int]] = field(default_factory=list)
    actions: list[NDArray[np.float64]] = field(default_factory=list)

    def __enter__(self) -> ToySimulator:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to free."""

    def open(self, suite: str, task: int) -> Scene:
        """Any task is the same."""
        self.opened.append((suite, task))
        bounds = {"bowl": np.zeros((2, 3)), "plate": np.zeros((2, 3))}
        return Scene("pick up the black bowl on the stove and place it on the plate", 50, ["bowl", "plate"], bounds, {})

    def reset(self, init_state: int | None, seed: int) -> Reading:
        """The bowl's place by the seed."""
        self.asked.append((init_state, seed))
        self.hand, self.width, self.held = np.array([-0.2, 0.0, 1.17]), 0.08, False
        self.bowl = np.array([0.1, 0.2 + 1e-4 * (seed % 100), 0.9])
        self.plate = np.array([0.05, -0.1, 0.9])
        self.actions.clear()
        return self.reading

    def step(self, action: NDArray[np.float64]) -> Reading:
        """A control step."""
        self.actions.append(action)
        moved = action[:3] * 0.02
        at_rim = bool(np.linalg.norm(self.hand - self.bowl - [0, 0.05, 0.026]) < 0.02)
        self.hand = self.hand + moved
        narrowest = 0.004 if at_rim and not self.greased else 0.0
        self.width = float(np.clip(self.width - 0.008 * np.sign(action[6]), narrowest, 0.08))
        self.held = bool(action[6] > 0 and at_rim and narrowest and self.width <= 0.005)
        if self.held:
            self.bowl = self.bowl + moved
        return self.reading

    def pictures(self, cameras: Sequence[str] = CAMERAS) -> Pictures:
        """Grey by how far the hand is along x."""
        grey = np.full((PX, PX, 3), int(100 + 100 * self.hand[0]), np.uint8)
        return dict.fromkeys(cameras, grey)

    def camera(self, name: str) -> CameraPose:  # noqa: ARG002 -- both hang there
        """From above."""
        return OVERHEAD

    @property
    def reading(self) -> Reading:
        """What the simulator would say."""
        done = not self.held and bool(np.hypot(*(self.bowl - self.plate)[:2]) < 0.03)
        fingers = np.array([self.width / 2, -self.width / 2])
        objects = {name: np.array([*at, *UPRIGHT]) for name, at in (("bowl", self.bowl), ("plate", self.plate))}
        return Reading(self.hand, np.array(DOWNWARD), fingers, done, objects)


@pytest.fixture
def toy() -> ToySimulator:
    """A new one."""
    return ToySimulator()


@pytest.fixture(scope="session")
def oft_recipe() -> LiberoRecipe:
    """Two cameras, the state, three actions a chunk."""
    head = {"head_width": 16, "head_depth": 1}
    return replace(LIBERO_TINY_OFT, **SIZES, **SHORT, **head, horizon=3, execute=3)


@pytest.fixture(scope="session")
def token_recipe() -> LiberoRecipe:
    """Two cameras, one action of the three that are known."""
    return replace(LIBERO_TINY, **SIZES, **SHORT, horizon=3)


def made_up(rng: np.random.Generator, steps: int = 9) -> Demonstration:
    """Noise: every other step has pictures."""
    kept = np.arange(0, steps, 2)
    pictures = [[jpeg(rng.integers(0, 256, (PX, PX, 3), dtype=np.uint8)) for _ in CAMERAS] for _ in kept]
    gripper = rng.choice([-1.0, 1.0], (steps, 1))
    return Demonstration(
        pictures=pictures,
        kept=kept,
        states=rng.uniform(-1, 1, (steps, 8)),
        actions=np.concatenate([rng.uniform(-0.5, 0.5, (steps, 6)), gripper], axis=1).astype(np.float32),
        points_m=rng.uniform(-0.3, 0.3, (steps, 3, 3)).astype(np.float32),
        points_px=rng.uniform(0, PX, (steps, 3, 2)).astype(np.float32),
    )


@pytest.fixture
def demos(tmp_path: Path) -> Callable[[int], DemoFolder]:
    """A folder with so many made-up demonstrations of each task."""

    def write(each: int) -> DemoFolder:
        folder, rng = DemoFolder(tmp_path / "demos"), np.random.default_rng(5)
        for task in range(10):
            for number in range(each):
                folder.save(DemoId(task, number), made_up(rng))
        return folder

    return write

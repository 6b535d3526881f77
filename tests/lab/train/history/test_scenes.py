from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stillframe.errors import ConfigError
from stillframe.models.actions import Statistics
from stillframe_lab.train.history.dataset import Scenes
from stillframe_lab.train.history.sampling import NOTHING
from stillframe_lab.train.history.scenes import WantedScenes, collect_scenes, scenes_in
from stillframe_lab.train.new_checkpoint import action_statistics

pytestmark = pytest.mark.usefixtures("needs_gl")
SCALE = Statistics(action_statistics()).scales["jaco_sim"]
FEW = WantedScenes(scenes=40, seed=(1, 2), variant="ordered-distractor", image_px=112)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, needs_gl: None) -> Scenes:  # noqa: ARG001 -- for its skip
    """Forty scenes of the hardest variant."""
    return scenes_in(tmp_path_factory.mktemp("few"), FEW, SCALE)


def brightest(picture: np.ndarray, colour: int) -> float:
    """How much one channel stands out where it stands out most: lamps shine, cubes are dull."""
    others = np.delete(picture.astype(float), colour, axis=-1).max(-1)
    return float((picture[..., colour] * (others < 0.6 * picture[..., colour])).max())


def test_every_label_has_a_row_a_scene(few: Scenes) -> None:
    """Pictures of the size that was asked for, an action towards each cube, pixels inside the picture."""
    assert few.images.shape == (40, 112, 112, 3)
    assert few.actions.shape == (40, 3, 7)
    assert all(len(getattr(few, field.name)) == 40 for field in fields(few))
    assert np.abs(few.actions).max() <= 1
    assert (few.points_px[:, :3] > 0).all()
    assert (few.points_px[:, :3] < 112).all()


def test_every_kind_of_scene_is_there(few: Scenes) -> None:
    """Each colour, cues and decoys, dark scenes before and after the first cube; a lit lamp is never late."""
    lit = few.shown != NOTHING

    assert set(few.shown) == {0, 1, 2, NOTHING}
    assert set(few.marked[lit]) == set(few.late[~lit]) == {False, True}
    assert not few.marked[~lit].any()
    assert not few.late[lit].any()


def test_labels_say_what_the_picture_shows(few: Scenes) -> None:
    """The lamp shines in the colour of its label; white pixels are there where a marker or white lamps are."""
    white = (few.images.min(-1) > 235).sum((1, 2))
    lit = np.flatnonzero(few.shown != NOTHING)

    assert all(brightest(few.images[scene], few.shown[scene]) > 225 for scene in lit)
    assert white[few.late].min() >= 10
    assert white[few.marked].mean() > 3 > white[~few.marked & ~few.late].mean()


def test_actions_go_to_each_cube(few: Scenes) -> None:
    """Sideways towards the cube, from wherever the tool is more than 5 cm away."""
    offsets = few.points_m[:, :3, :2] - few.points_m[:, 4:, :2]  # [scenes, cubes, 2]
    signs = np.sign(few.actions[:, :, :2]) == np.sign(offsets)

    assert signs[np.abs(offsets) > 0.05].all()


def test_cues_are_mostly_shown_to_an_arm_at_home(few: Scenes) -> None:
    """As in the task, where it is frozen there; the scenes that are acted on have it anywhere."""
    at_home = np.linalg.norm(few.points_m[:, 4] - [0.38, 0.0, 0.28], axis=-1) < 0.005
    lit = few.shown != NOTHING

    assert 0.3 < at_home[lit].mean() < 0.9
    assert 0.0 < at_home[~lit].mean() < 0.4


def test_a_lamp_that_the_arm_hides_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its label would be a lie. With a higher bar, what is kept shows more of it."""
    bar = 0.004
    monkeypatch.setattr("stillframe_lab.train.history.scenes.SEEN_SHARE", bar)
    scenes = scenes_in(tmp_path, replace(FEW, variant="ordered"), SCALE)
    white_share = (scenes.images.min(-1) > 150).mean((1, 2))  # its rim is less than white

    assert white_share[scenes.late].min() > 0.8 * bar


@pytest.mark.few(1)
@pytest.mark.parametrize(("variant", "late", "decoys"), [("simple", False, False), ("distractor", False, True)])
def test_variants_have_what_their_episodes_have(tmp_path: Path, variant: str, late: bool, decoys: bool) -> None:  # noqa: FBT001 (parameters)
    """No white lamp where nothing follows, no unmarked flash where there are no decoys."""
    scenes = scenes_in(tmp_path, replace(FEW, variant=variant), SCALE)

    assert scenes.late.any() == late
    assert (~scenes.marked[scenes.shown != NOTHING]).any() == decoys


def test_the_same_wish_gives_the_same_scenes(tmp_path: Path) -> None:
    """To the bit; another seed gives others."""
    wishes = [replace(FEW, scenes=6), replace(FEW, scenes=6), replace(FEW, scenes=6, seed=(1, 3))]
    first, again, other = (scenes_in(tmp_path / str(number), wish, SCALE) for number, wish in enumerate(wishes))

    assert all(assert_array_equal(getattr(first, f.name), getattr(again, f.name)) is None for f in fields(first))
    assert not np.array_equal(first.images, other.images)


def test_what_is_there_is_not_collected_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished store is only opened, and one of other scenes is refused."""
    collected: list[WantedScenes] = []

    def counted(folder: Path, wanted: WantedScenes, scale: object) -> None:
        collected.append(wanted)
        collect: Callable[..., None] = collect_scenes
        collect(folder, wanted, scale)

    monkeypatch.setattr("stillframe_lab.train.history.scenes.collect_scenes", counted)
    wish = replace(FEW, scenes=2)
    first, again = (scenes_in(tmp_path, wish, SCALE) for _ in range(2))

    assert collected == [wish]
    assert_array_equal(first.images, again.images)
    with pytest.raises(ConfigError, match="another recipe or scene"):
        scenes_in(tmp_path, replace(wish, variant="simple"), SCALE)

from __future__ import annotations

from pathlib import Path

import pytest

from stillframe.errors import ConfigError
from stillframe_lab.latency.scene import SCENE_FILE, Scene, SceneFrame, load_scene

SHORT = Scene([SceneFrame(bytes([number]), "go") for number in range(4)])


def test_what_ships_is_small_and_whole(scene: Scene) -> None:
    """Forty pictures of 224 pixels from each camera that differ, and the arm's state, below 700 KB."""
    seen = [shot.observation(("front", "wrist"), with_state=True) for shot in scene.shots]

    assert SCENE_FILE.stat().st_size < 700_000
    assert {picture.shape for one in seen for picture in one.images.values()} == {(224, 224, 3)}
    assert len({shot.jpeg for shot in scene.shots} | {shot.wrist for shot in scene.shots}) == 2 * len(scene.shots) == 80
    assert {one.state.shape for one in seen if one.state is not None} == {(7,)}


def test_one_camera_sees_what_it_saw(scene: Scene) -> None:
    """By whatever name, without a state; the second one's picture comes under the second name."""
    alone, both = scene.shots[3].observation(), scene.shots[3].observation(("a", "b"), with_state=True)

    assert (list(alone.images), list(both.images), alone.state) == (["image"], ["a", "b"], None)
    assert (alone.images["image"] == both.images["a"]).all()
    assert (both.images["a"] != both.images["b"]).any()


def test_it_goes_forth_and_back() -> None:
    """No frame jumps, and none comes twice in a row."""
    assert [SHORT.shot("moving", turn).jpeg[0] for turn in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]


def test_a_static_scene_is_one_frame() -> None:
    """Of each robot one of its own."""
    assert {SHORT.shot("static", turn).jpeg for turn in range(9)} == {SHORT.shots[0].jpeg}
    assert SHORT.shot("static", 5, robot=1) != SHORT.shot("static", 5)


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x80", b"\x82\xa6frames\x90\xabinstruction\xa2go"])
def test_a_file_that_is_no_scene_is_refused(tmp_path: Path, content: bytes) -> None:
    """With its name."""
    file = tmp_path / "scene.msgpack"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"scene\.msgpack"):
        load_scene(file)

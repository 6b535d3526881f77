from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stillframe.domain import Image, KeyframeReason, Observation, SessionRef, Step
from stillframe.engine.core import EngineCore
from stillframe.engine.kept_picture import KeptPicture, kept_bytes
from stillframe.engine.kv_slots import slot_shape
from stillframe.engine.requests import FrameRequest
from stillframe.engine.step import step
from stillframe.errors import ConfigError
from stillframe.models.base import ImageEncoder, Prepared, picture_rows
from stillframe.models.llama.layout import TokenLayout
from stillframe.models.prismatic.vision import TowerConfig, VisionBackbone
from stillframe.models.token_sparse import TokenSparseVision

GRID, PX, WIDTH, ACTION_DIM = 8, 2, 32, 7
SIDE, PATCHES = GRID * PX, GRID * GRID
DINO = TowerConfig(12, 3, 2, 2.0, prefix_tokens=2, layer_scale=True, image_px=SIDE, patch_px=PX)
SIGLIP = TowerConfig(20, 3, 2, 2.0, prefix_tokens=0, layer_scale=False, image_px=SIDE, patch_px=PX)
FEW = (3, 20, 41)  # patches
Make = Callable[..., Any]


class Eyes:
    """Small towers of random weights, in the place of a toy policy's one matrix."""

    def __init__(self, cameras: Sequence[str]):
        draw = torch.Generator().manual_seed(4)
        self.towers = VisionBackbone(DINO, SIGLIP).requires_grad_(requires_grad=False)
        for weight in self.towers.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw) * 0.3)
        project = torch.randn(DINO.embed_dim + SIGLIP.embed_dim, WIDTH, generator=draw) * 0.2
        self.cameras, self.project = cameras, lambda features: features @ project
        self.computed: list[list[int]] = []  # of each pass over patches, how many of each picture
        self.whole: list[int] = []  # of each other pass, how many pictures
        self.sparse = TokenSparseVision((self.towers.featurizer, self.towers.fused_featurizer), self.project)
        whole, changed = self.sparse.whole, self.sparse.changed

        def counted_whole(pictures: Sequence[Tensor]) -> Any:
            self.whole.append(len(pictures))
            return whole(pictures)

        def counted_changed(pictures: Sequence[Any]) -> list[Tensor]:
            self.computed.append([len(picture.at) for picture in pictures])
            return changed(pictures)

        self.sparse.whole, self.sparse.changed = counted_whole, counted_changed  # type: ignore[method-assign]

    def encode(self, pictures: list[Tensor]) -> Tensor:
        """Whole."""
        return self.project(self.towers(torch.stack(pictures)))


@pytest.fixture
def seers(robots: Make, toy: Any) -> Make:
    """Make robots that see by towers: `seers(cameras=("front", "wrist"), vision="whole")`."""

    class Seer(toy):  # type: ignore[misc]
        def __init__(self, cameras: tuple[str, ...]):
            super().__init__(cameras)
            self.eyes = Eyes(cameras)
            self.fixed_rows = 1 + len(cameras) * PATCHES + ACTION_DIM

        @property
        def token_sparse_vision(self) -> TokenSparseVision:
            return self.eyes.sparse

        def prepare(self, observation: Observation) -> Prepared:
            made = super().prepare(observation)
            starts = range(1, 1 + len(made.views) * PATCHES, PATCHES)
            patches = {camera: range(at, at + PATCHES) for camera, at in zip(made.views, starts, strict=True)}
            begin = 1 + len(made.views) * PATCHES
            text = range(begin, begin + len(made.ids) - 1)
            layout = TokenLayout(patches, (GRID, GRID), text, range(text.stop, text.stop + ACTION_DIM))
            pixels = made.pixels.permute(0, 3, 1, 2).float() / 128 - 1
            return replace(made, layout=layout, pixels=torch.cat((pixels, pixels * 0.7), dim=1))

        def embed(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None = None) -> list[Tensor]:  # noqa: ARG002
            texts = [self.decoder.embed(one.ids) for one in prepared]
            rows = picture_rows(prepared, self.eyes.encode)
            return [torch.cat((text[:1], *own, text[1:])) for text, own in zip(texts, rows, strict=True)]

    def make(
        mode: Any = "adaptive", *, cameras: tuple[str, ...] = ("front",), vision: Any = "changed",
        difference: float = 0.0, motion: float = 2.0, **knobs: Any,
    ) -> Any:  # fmt: skip
        like = robots(mode, cameras=cameras, **knobs)
        adaptive = replace(like.settings.adaptive, vision=vision, vision_difference=difference, vision_motion=motion)
        settings = replace(like.settings, adaptive=adaptive, gap_s=3600.0)
        model = Seer(cameras)
        core = EngineCore.of(model, settings, like.clock)
        return type(like)(model, core, like.clock, settings)

    return make


def noise(seed: int) -> Image:
    """[SIDE, SIDE, 3], from 60 to 190 grey levels."""
    return np.random.default_rng(seed).integers(60, 190, (SIDE, SIDE, 3), dtype=np.uint8)


def changed(image: Image, *patches: int, seed: int = 5) -> Image:
    """The same with other patches of this grid."""
    other, out = noise(seed), image.copy()
    for patch in patches:
        y, x = patch // GRID * PX, patch % GRID * PX
        out[y : y + PX, x : x + PX] = other[y : y + PX, x : x + PX]
    return out


def exact_rows(team: Any, picture: Image | Mapping[str, Image]) -> Tensor:
    """The prompt's rows of a whole pass over these pictures."""
    images = picture if isinstance(picture, Mapping) else {team.model.cameras[0]: picture}
    (rows,) = team.model.embed([team.model.prepare(Observation(images, "reach the red cube"))])
    return rows


def kept(team: Any, robot: str = "a", camera: str = "front") -> KeptPicture:
    """What a robot's session keeps of a picture."""
    picture = team.session(robot).vision.kept[camera]
    assert isinstance(picture, KeptPicture)
    return picture


def test_keyframes_are_looked_at_whole(seers: Make) -> None:
    """To the bit: what is kept beside changes nothing."""
    team = seers()
    team.see(noise(1))

    assert torch.equal(team.frame.rows, exact_rows(team, noise(1)))
    assert kept(team).exact
    assert (team.model.eyes.whole, team.model.eyes.computed) == ([1], [])


def test_of_a_delta_frame_what_changed_is_computed(seers: Make) -> None:
    """And a sample of the rest; its rows are near those of a whole pass, and are not those."""
    team = seers()
    team.see(noise(1))
    second = changed(noise(1), *FEW)
    report = team.see(second).report

    assert report.cache.keyframe_reason is None
    assert (team.model.eyes.whole, team.model.eyes.computed) == ([1], [[32]])
    whole, before = exact_rows(team, second), exact_rows(team, noise(1))
    at = [1 + patch for patch in FEW]
    assert not torch.equal(team.frame.rows, whole)
    assert not kept(team).exact
    assert (team.frame.rows - whole)[at].norm() < 0.3 * (before - whole)[at].norm()


def test_an_equal_picture_is_not_looked_at(seers: Make) -> None:
    """Whatever its rows are, they are kept; exact ones are exact."""
    team = seers()
    for picture in (noise(1), noise(1), changed(noise(1), *FEW), changed(noise(1), *FEW)):
        team.see(picture)
        rows, exact = team.frame.rows, kept(team).exact

    assert (team.model.eyes.whole, team.model.eyes.computed) == ([1], [[32]])
    assert not exact
    assert torch.equal(rows, team.frame.rows)


def test_a_difference_below_the_limit_is_none(seers: Make) -> None:
    """Nothing is computed, and the rows are not taken for exact."""
    team = seers(difference=4.0)
    team.see(noise(1))
    rows = team.frame.rows
    team.see(noise(1) + np.uint8(4))

    assert team.model.eyes.computed == []
    assert torch.equal(team.frame.rows, rows)
    assert not kept(team).exact


def test_a_difference_adds_up(seers: Make) -> None:
    """A patch is compared with what it was computed from, however long ago that is."""
    team = seers(difference=4.0)
    for more in (0, 3, 6):
        team.see(changed(noise(1) + np.uint8(more), *range(40, 64), seed=1))

    assert len(team.model.eyes.computed) + len(team.model.eyes.whole) == 2


def test_a_picture_that_changed_is_computed_whole(seers: Make) -> None:
    """More than half of it: all rows are those of a whole pass, to the bit."""
    team = seers()
    team.see(noise(1))
    second = changed(noise(1), *range(40))
    team.see(second)

    assert torch.equal(team.frame.rows, exact_rows(team, second))
    assert kept(team).exact
    assert team.model.eyes.whole == [1, 1]


def test_a_sample_that_moved_far_has_its_picture_computed_whole(seers: Make) -> None:
    """As if nothing had been renewed: all rows are those of a whole pass, to the bit, and so is what is kept."""
    team, fresh, second = seers(motion=0.0), seers(), changed(noise(1), *FEW)
    team.see(noise(1))
    team.see(second)
    fresh.see(second)

    assert (team.model.eyes.computed, team.model.eyes.whole) == ([[32]], [1, 1])
    assert torch.equal(team.frame.rows, exact_rows(team, second))
    assert kept(team).exact
    assert all(torch.equal(*both) for both in zip(kept(team).kv.towers, kept(fresh).kv.towers, strict=True))


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"scene_cut": 1.0}, "scene-cut"),
        ({"keyframe_every": 1}, "age"),
        ({"distance": 0.0, "scene_cut": 0.9}, "scene-cut"),
    ],
    ids=["cut", "age", "moved"],
)
def test_a_keyframe_of_any_reason_is_exact(seers: Make, knobs: Mapping[str, Any], reason: str) -> None:
    """Also where that it is one was found after its picture had been renewed in part."""
    team = seers(**knobs)
    team.see(noise(1))
    second = changed(noise(1), *FEW)
    report = team.see(second).report

    assert report.cache.keyframe_reason == reason
    assert torch.equal(team.frame.rows, exact_rows(team, second))
    assert torch.equal(team.frame.tokens.rows, exact_rows(team, second)[1 : 1 + PATCHES])
    assert kept(team).exact


def test_vision_whole_computes_all_of_every_other_picture(seers: Make) -> None:
    """And keeps nothing to renew."""
    team = seers(vision="whole")
    for picture in (noise(1), changed(noise(1), *FEW)):
        team.see(picture)
        assert torch.equal(team.frame.rows, exact_rows(team, picture))

    assert team.session("a").vision.kept == {}
    assert (team.model.eyes.whole, team.model.eyes.computed) == ([], [])


@pytest.mark.parametrize("mode", ["off", "exact", "paper", "static-only"])
def test_other_modes_look_at_pictures_whole(seers: Make, mode: str) -> None:
    """They promise what they promise; and take over nothing that mode adaptive renewed in part."""
    team = seers()
    team.see(noise(1))
    second = changed(noise(1), *FEW)
    team.see(second)
    team.see(second, mode=mode)

    assert torch.equal(team.frame.rows, exact_rows(team, second))
    assert team.session("a").vision.kept == {}


def test_a_refresh_looks_again_and_its_drift_is_visions_too(seers: Make) -> None:
    """Drift is the distance from what a dense pass over the picture answers; the session goes on from that pass."""
    team, second = seers(), changed(noise(1), *range(20, 50), seed=9)
    team.see(noise(1))
    answer = team.see(second)
    rows = team.frame.rows
    frame, dense = team.frame, team.see(second, None).chunk.actions
    report = team.refresh()

    assert report.drift == pytest.approx(np.abs(answer.chunk.actions - dense).max())
    assert torch.equal(frame.rows, rows)  # of the answer that was given
    assert kept(team).exact
    assert torch.equal(kept(team).rows, exact_rows(team, second)[1 : 1 + PATCHES])
    assert torch.equal(team.session("a").reuse.reference.rows, kept(team).rows)
    assert np.array_equal(kept(team).seen, kept(team).reference)


@pytest.mark.parametrize("asked", range(1, 6))
def test_a_refresh_gives_way_between_blocks(seers: Make, asked: int) -> None:
    """Then the session is left as it was, and its next frame is what it would have been without."""
    team, other = seers(), seers()
    pictures = [noise(1), changed(noise(1), *FEW), changed(noise(1), *FEW, 9)]
    for one in (team, other):
        one.see(pictures[0])
        one.see(pictures[1])
    asks = iter(range(asked, -1, -1))
    report = team.refresh(lambda: next(asks) == 0)
    for one in (team, other):
        one.see(pictures[2])

    assert report.drift is None
    assert torch.equal(team.frame.rows, other.frame.rows)
    assert team.model.eyes.computed == other.model.eyes.computed == [[32], [32]]


def test_an_exact_picture_is_not_looked_at_again_in_a_pause(seers: Make) -> None:
    """The same picture twice: the second frame is a delta frame, whose rows are exact."""
    team = seers()
    team.see(noise(1))
    team.see(noise(1))
    team.refresh()

    assert team.model.eyes.whole == [1]


def test_robots_in_turn_are_what_they_are_alone(seers: Make) -> None:
    """To the bit: a session's keys and values are its own."""
    stories = {
        robot: [noise(seed), changed(noise(seed), *FEW), changed(noise(seed), 7, *FEW, seed=8)]
        for robot, seed in (("a", 1), ("b", 2))
    }
    together, alone = seers(), seers()
    rows = {robot: [] for robot in stories}
    for turn in range(3):
        for robot, story in stories.items():
            together.see(story[turn], robot)
            rows[robot].append(together.frame.rows)
    for robot, story in stories.items():
        for turn, picture in enumerate(story):
            alone.see(picture, robot)
            assert torch.equal(alone.frame.rows, rows[robot][turn])


def test_robots_side_by_side_share_passes(seers: Make) -> None:
    """Whole pictures one, patches another; each robot's rows are what they are alone, up to rounding."""
    firsts = [noise(1), noise(2), noise(3)]
    seconds = [changed(noise(1), *FEW), changed(noise(2), *range(30)), noise(3)]
    together, alone = seers(), seers()
    frames: list[Any] = []
    commit = together.core.cache._commit
    together.core.cache._commit = lambda frame, decoded: (frames.append(frame), commit(frame, decoded))[1]
    for turn, pictures in enumerate((firsts, seconds, [noise(4), *seconds[1:]])):
        requests = [
            FrameRequest(Observation({"front": picture}, "reach the red cube"), SessionRef(f"robot-{at}", seq=turn))
            for at, picture in enumerate(pictures)
        ]
        assert all(isinstance(answer, Step) for answer in step(together.core, requests))
    pictures_of = [*zip(firsts, seconds, [noise(4), *seconds[1:]], strict=True)]
    for at, story in enumerate(pictures_of):
        for turn, picture in enumerate(story):
            alone.see(picture, f"robot-{at}")
            assert torch.allclose(frames[3 * turn + at].rows, alone.frame.rows, atol=1e-4)

    assert together.model.eyes.whole == [3, 1]
    assert together.model.eyes.computed == [[32, 48]]


def test_each_camera_for_itself(seers: Make) -> None:
    """What one sees is computed, what the other saw is kept."""
    team = seers(cameras=("front", "wrist"))
    first = {"front": noise(1), "wrist": noise(2)}
    second = {"front": changed(noise(1), *FEW), "wrist": noise(2)}
    team.see(first)
    team.see(second)
    exact = exact_rows(team, first)

    assert team.model.eyes.computed == [[32]]
    assert [kept(team, camera=camera).exact for camera in first] == [False, True]
    assert torch.equal(team.frame.rows[1 + PATCHES : 1 + 2 * PATCHES], exact[1 + PATCHES : 1 + 2 * PATCHES])


def test_a_refresh_of_two_cameras(seers: Make) -> None:
    """All of their rows are exact afterwards."""
    team = seers(cameras=("front", "wrist"))
    second = {"front": changed(noise(1), *FEW), "wrist": changed(noise(2), 8)}
    team.see({"front": noise(1), "wrist": noise(2)})
    team.see(second)
    team.refresh()

    assert torch.equal(team.session("a").vision.rows, exact_rows(team, second))


def test_after_a_failure_pictures_are_looked_at_whole(seers: Make) -> None:
    """What a pass left half-way is not gone on from."""
    team = seers()
    team.see(noise(1))
    team.model.broken = RuntimeError("no memory")
    with pytest.raises(RuntimeError):
        team.see(changed(noise(1), *FEW))
    assert team.session("a").vision is None
    third = changed(noise(1), 9)
    team.see(third)

    assert torch.equal(team.frame.rows, exact_rows(team, third))


def test_a_pass_that_ends_in_the_towers_leaves_nothing(seers: Make) -> None:
    """Its keys and values may be of two pictures."""
    team = seers()
    team.see(noise(1))
    block = team.model.eyes.towers.fused_featurizer.blocks[1]
    forward, block.forward = block.forward, lambda *_: (_ for _ in ()).throw(RuntimeError("no memory"))
    with pytest.raises(RuntimeError):
        team.see(changed(noise(1), *FEW))
    block.forward = forward
    team.see(noise(1))

    assert torch.equal(team.frame.rows, exact_rows(team, noise(1)))
    assert team.model.eyes.whole == [1, 1]


def test_an_episode_begins_with_a_whole_look(seers: Make) -> None:
    """Though its first picture be the last one's nearly."""
    team = seers()
    team.see(noise(1))
    team.reset("a")
    second = changed(noise(1), *FEW)
    step_ = team.see(second)

    assert step_.report.cache.keyframe_reason is KeyframeReason.RESET
    assert torch.equal(team.frame.rows, exact_rows(team, second))
    assert team.model.eyes.computed == []


def test_what_is_kept_counts_and_goes_with_the_session(seers: Make) -> None:
    """As much as was planned for; a pool has slots for as many sessions as its budget holds with it."""
    team = seers(cameras=("front", "wrist"))
    shape = slot_shape(team.model, team.settings)
    budget = 3 * (shape.nbytes + shape.beside_bytes)
    team = seers(cameras=("front", "wrist"), kv_budget_mib=budget / 2**20)
    cache, pictures = team.core.cache, {"front": noise(1), "wrist": noise(2)}
    report = team.see(pictures, "a").report
    held = sum(one.nbytes for one in team.session("a").vision.kept.values())

    assert held == kept_bytes(team.model, team.settings) == shape.beside_bytes > 0
    assert report.cache.kv_bytes == shape.nbytes + held
    assert (cache.usage.slots, cache.usage.budget_bytes) == (2, 2 * shape.slot_bytes)
    team.see(pictures, "b")
    assert cache.usage.in_use_bytes == 2 * shape.slot_bytes
    team.see(pictures, "c")
    assert team.session("a").vision is None
    team.core.cache.end("c")
    assert cache.usage.in_use_bytes == shape.slot_bytes


def test_a_frame_without_a_slot_keeps_no_picture(seers: Make) -> None:
    """Its prompt is too long for one: what it would keep is counted nowhere."""
    team = seers()
    team.see(noise(1), says="one two three four five six seven eight nine ten")

    assert team.session("a").vision.kept == {}


def test_a_drawn_over_picture_is_none_that_was_seen(seers: Make) -> None:
    """A simulator may render the next picture into the same memory."""
    team, picture = seers(), noise(1)
    team.see(picture)
    picture[:PX, :PX] = 255
    team.see(picture)

    assert team.model.eyes.computed == [[32]]


def test_a_model_that_cannot_is_refused(toy: Make, robots: Make) -> None:
    """At start, with what to do."""
    settings = robots().settings
    settings = replace(settings, adaptive=replace(settings.adaptive, vision="changed"))
    with pytest.raises(ConfigError, match=r"reuse\.adaptive\.vision is 'changed'.*toy.*leave it out"):
        EngineCore.of(toy(), settings, lambda: 0.0)

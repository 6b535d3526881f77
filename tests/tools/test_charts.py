from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from stillframe.tools.charts import CAPTION_PX, LAST_FRAME_MS, captioned, latency_chart, loss_chart, write_gif

RED, SKY = (235, 12, 10), (70, 130, 180)
NEAR = 16  # of 255, per channel: what a palette of 256 may cost


def scene(step: int) -> Image.Image:
    """A noisy table with a red cube of 10 pixels that moves."""
    picture = np.random.default_rng(step).integers(60, 200, (64, 64, 3), np.uint8)
    picture[5:15, 4 * step : 4 * step + 10] = RED
    return Image.fromarray(picture)


def frames_of(file: Path) -> list[Image.Image]:
    """Every frame in full colour, as a viewer composes it."""
    with Image.open(file) as animation:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(animation)]


def durations_ms(file: Path) -> list[int]:
    """How long each frame stays."""
    with Image.open(file) as animation:
        return [int(frame.info["duration"]) for frame in ImageSequence.Iterator(animation)]


def test_a_caption_stands_under_the_picture() -> None:
    """The picture is untouched, the strip below it holds ink on white, and other words look different."""
    picture = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    card, other = (np.asarray(captioned(picture, words)) for words in ("reach", "pick"))

    assert card.shape == (40 + CAPTION_PX, 90, 3)
    assert np.array_equal(card[:40], picture)
    assert (card[40:] == 255).all(-1).mean() > 0.5
    assert card[40:].min() < 80
    assert not np.array_equal(card[40:], other[40:])


def test_an_animation_has_every_frame_and_rests_at_each_end(tmp_path: Path) -> None:
    """Episodes follow each other; the last frame of each stays longer; it repeats for ever."""
    file = tmp_path / "two.gif"
    write_gif(file, [[scene(step) for step in (0, 1, 2)], [scene(step) for step in (5, 6)]], frame_ms=100)

    assert durations_ms(file) == [100, 100, LAST_FRAME_MS, 100, LAST_FRAME_MS]
    with Image.open(file) as animation:
        assert animation.info["loop"] == 0
        assert animation.size == (64, 64)


def test_time_passes_where_nothing_moves(tmp_path: Path) -> None:
    """Equal frames may be stored as one, but it then stays as long as all of them."""
    file = tmp_path / "still.gif"
    write_gif(file, [[scene(0), scene(0), scene(0), scene(1)]], frame_ms=50)

    assert sum(durations_ms(file)) == 3 * 50 + LAST_FRAME_MS


def test_an_animation_keeps_colours_and_places(tmp_path: Path) -> None:
    """A red cube among noise is red, where it was, in every frame."""
    file = tmp_path / "red.gif"
    write_gif(file, [[scene(step) for step in range(10)]], frame_ms=100)
    frames = frames_of(file)

    assert len(frames) == 10
    for step, frame in enumerate(frames):
        cube = np.asarray(frame, int)[5:15, 4 * step : 4 * step + 10]
        assert np.abs(cube - RED).max() <= NEAR
        table = np.asarray(frame, int)[20:].mean((0, 1))
        assert np.abs(table - np.asarray(scene(step), int)[20:].mean((0, 1))).max() <= NEAR


def test_one_frames_colours_are_not_anothers(tmp_path: Path) -> None:
    """Each frame has a palette of its own: a blue picture after a red one is blue."""
    file = tmp_path / "colours.gif"
    write_gif(file, [[Image.new("RGB", (16, 16), colour) for colour in (RED, SKY)]], frame_ms=100)
    red, sky = (np.asarray(frame, int) for frame in frames_of(file))

    assert np.abs(red - RED).max() <= NEAR
    assert np.abs(sky - SKY).max() <= NEAR


def draw_latency(file: Path) -> None:
    """A chart of some latencies."""
    values = np.random.default_rng(0).gamma(9, 4, 500).tolist()
    latency_chart(file, values, {"queue": 0.1, "vision": 9.0, "prefill": 12.0, "decode": 20.0, "wire": 2.0}, "some")


def draw_loss(file: Path) -> None:
    """A chart of some training."""
    log = [{"step": step, "loss": 5 / (step + 1), "xyz_error": 0.5 / (step + 1)} for step in range(60)]
    loss_chart(file, log, "some")


@pytest.mark.parametrize(
    ("draw", "size"), [(draw_latency, (1125, 630)), (draw_loss, (1125, 750))], ids=["latency", "loss"]
)
def test_a_chart_is_a_png_with_something_in_it(
    tmp_path: Path, draw: Callable[[Path], None], size: tuple[int, int]
) -> None:
    """A PNG of the size it is meant to have, mostly empty, with our accent colour in it."""
    file = tmp_path / "chart.png"
    draw(file)
    with Image.open(file) as chart:
        pixels = np.asarray(chart.convert("RGB"), int)
        assert chart.format == "PNG"
        assert chart.size == size

    accent = np.abs(pixels - (0xD6, 0x45, 0x45)).max(-1) < 8
    assert accent.sum() > 100
    assert (pixels == 255).all(-1).mean() > 0.5


def test_a_chart_shows_its_numbers(tmp_path: Path) -> None:
    """Other latencies, another picture; the same ones, the same."""
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file, latency_ms in zip(files, ([10.0, 20.0, 30.0], [10.0, 20.0, 30.0], [10.0, 25.0, 90.0]), strict=True):
        latency_chart(file, latency_ms, {"queue": 1.0}, "some")
    first, second, third = (np.asarray(Image.open(file).convert("RGB")) for file in files)

    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)

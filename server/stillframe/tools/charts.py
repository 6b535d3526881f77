"""Draw animations of episodes, latency charts and loss curves.

Knows pixels and axes; not how the numbers were measured.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stillframe.domain import Image as Picture
from stillframe.files.writing import write_whole_bytes

CAPTION_PX = 22
LAST_FRAME_MS = 900
INK, FAINT, ACCENT = "#1f2933", "#c3cad1", "#d64545"
WHITE, PALE = (255, 255, 255), 0.8  # over what is not to be looked at


def captioned(picture: Picture, caption: str) -> Image.Image:
    """The picture with a line of text under it."""
    height, width = picture.shape[:2]
    card = Image.new("RGB", (width, height + CAPTION_PX), "white")
    card.paste(Image.fromarray(picture))
    font = ImageFont.load_default(size=12)
    ImageDraw.Draw(card).text((6, height + 4), caption, fill=INK, font=font)
    return card


def tinted(picture: Picture, patches: NDArray[np.bool_], colour: tuple[int, int, int], share: float) -> Picture:
    """The picture with `share` of a colour over some patches: a grid [rows, columns] of any size that covers it."""
    height, width = picture.shape[:2]
    rows = np.arange(height) * patches.shape[0] // height
    columns = np.arange(width) * patches.shape[1] // width
    covered = patches[rows][:, columns, None] * share
    blended: Picture = np.rint(picture * (1 - covered) + np.array(colour) * covered).astype(np.uint8)
    return blended


def write_gif(file: Path, episodes: Sequence[Sequence[Image.Image]], frame_ms: int) -> None:
    """Write episodes one after the other, pausing on each last frame. A palette for each frame keeps the colours."""
    frames = [frame.quantize(256, Image.Quantize.MAXCOVERAGE) for episode in episodes for frame in episode]
    rests = [[frame_ms] * (len(episode) - 1) + [LAST_FRAME_MS] for episode in episodes]
    durations = [duration for episode in rests for duration in episode]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=durations, loop=0)


def latency_chart(file: Path, latency_ms: Sequence[float], stages_ms: Mapping[str, float], title: str) -> None:
    """Latencies of all steps as a histogram, and the median step's stages as one bar."""
    figure, (spread, bar) = new_figure(2, (7.5, 4.2), (3, 1))
    p50, p99 = np.percentile(latency_ms, (50, 99))
    spread.hist(latency_ms, bins=40, range=(0, float(p99) * 1.5), color=FAINT)
    for value, name, height in ((p50, "p50", 0.92), (p99, "p99", 0.80)):
        spread.axvline(value, color=ACCENT, linewidth=1.2)
        spread.text(value, height, f" {name} {value:.0f} ms", transform=spread.get_xaxis_transform(), color=ACCENT)
    spread.set_title(title, loc="left", fontsize=11, color=INK)
    spread.set_xlabel("picture to action, ms")
    spread.set_ylabel("steps")
    _stage_bar(bar, stages_ms)
    save_figure(figure, file)


def loss_chart(
    file: Path, log: Sequence[Mapping[str, float]], title: str, loss_name: str = "action loss, nats"
) -> None:
    """A training log's action loss and its error in x, y, z, both against the step."""
    figure, (loss, error) = new_figure(2, (7.5, 5.0), (1, 1))
    steps = [line["step"] for line in log]
    for axes, key, label in (
        (loss, "loss", loss_name),
        (error, "xyz_error", "|dx dy dz| error,\nof the limit"),
    ):
        values = [line[key] for line in log]
        axes.plot(steps, values, color=FAINT, linewidth=0.8)
        axes.plot(steps, _smooth(values), color=ACCENT, linewidth=1.4)
        axes.set_ylabel(label)
        axes.set_yscale("log")
    loss.set_title(title, loc="left", fontsize=11, color=INK)
    error.set_xlabel("step")
    save_figure(figure, file)


def _stage_bar(axes: Any, stages_ms: Mapping[str, float]) -> None:
    left = 0.0
    shades = ["#52606d", "#7b8794", "#9aa5b1", "#cbd2d9", ACCENT, "#e5a0a0", "#f0c9c9", "#323f4b"]
    for (name, width), shade in zip(stages_ms.items(), shades * 2, strict=False):
        axes.barh(0, width, left=left, color=shade, label=f"{name} {width:.1f}")
        left += width
    axes.set_yticks([])
    axes.set_xlabel("the median step's stages, ms")
    axes.legend(ncols=4, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.55))


def _smooth(values: Sequence[float], reach: int = 8) -> list[float]:
    """A mean over `reach` values to either side."""
    return [float(np.mean(values[max(0, index - reach) : index + reach + 1])) for index in range(len(values))]


def new_figure(rows: int, size: tuple[float, float], heights: Sequence[float]) -> tuple[Any, Any]:
    """A figure of `rows` axes, `size` inches, that needs no display -> figure, axes."""
    from matplotlib import rc_context  # slow to import, and only charts need it
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": FAINT}
    style |= {"font.size": 9, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.subplots(rows, 1, height_ratios=heights)


def save_figure(figure: Any, file: Path, dpi: int = 150) -> None:
    """Write a PNG, whole or not at all. Raises OSError."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png")
    write_whole_bytes(file, buffer.getvalue())

"""An animation of one episode: what the camera sees, beside what the bridge asked for and sent.

Knows pictures with their times and the streamer's log of ticks; films nothing that the bridge waits for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from stillframe.tools.charts import ACCENT, FAINT, INK
from stillframe_client.jaco2.cameras.base import CameraError
from stillframe_client.jaco2.cameras.mujoco import WorldCamera
from stillframe_client.jaco2.settings import CameraSettings

PX, FPS = 224, 10
PANEL_PX, PAD_PX, LINE_PX = 300, 10, 16
WINDOW_S = 4.0
FASTEST_M_S = 0.25
LEFT_PX, RIGHT_PX = 40, PANEL_PX - PAD_PX


class Camera(threading.Thread):
    """A second viewer of the world, which keeps every picture with its time."""

    def __init__(self, socket: str):
        super().__init__(name="film", daemon=True)
        self.pictures: list[tuple[float, NDArray[np.uint8]]] = []
        settings = CameraSettings(kind="mujoco", source="front", width=PX, height=PX, fps=float(FPS))
        self._camera, self._over = WorldCamera(settings, socket), threading.Event()

    def run(self) -> None:
        """Keep pictures until it is over, or the world is."""
        self._camera.open()
        try:
            while not self._over.is_set():
                picture = self._camera.read()
                self.pictures.append((time.monotonic(), picture))
        except CameraError:
            pass
        finally:
            self._camera.close()

    def end(self) -> None:
        """Keep no more."""
        self._over.set()
        self.join()


@dataclass(frozen=True, eq=False)
class Track:
    """A log of ticks as arrays [ticks]."""

    time_s: NDArray[np.float64]
    asked_m_s: NDArray[np.float64]
    sent_m_s: NDArray[np.float64]
    height_m: NDArray[np.float64]  # of the newest report
    closure: NDArray[np.float64]  # that was sent
    states: Sequence[str]


def track(ticks: Sequence[Mapping[str, Any]]) -> Track:
    """The arrays of a log's ticks."""
    height, heights = float("nan"), []
    for tick in ticks:
        height = tick["arm"]["pose"][2] if "arm" in tick else height
        heights.append(height)
    sent = [tick.get("sent", [0.0] * 7) for tick in ticks]
    return Track(
        np.array([tick["t"] for tick in ticks]),
        np.array([np.linalg.norm(tick["asked"][:3]) for tick in ticks]),
        np.array([np.linalg.norm(one[:3]) for one in sent]),
        np.array(heights),
        np.array([one[6] for one in sent]),
        [tick["state"] for tick in ticks],
    )


def frames(
    pictures: Sequence[tuple[float, NDArray[np.uint8]]], shown: Track, head: str, between_s: tuple[float, float]
) -> list[Image.Image]:
    """The pictures of that time, each beside its panel."""
    begin_s, end_s = between_s
    return [
        _beside(picture, _panel(shown, at_s, head, at_s - begin_s))
        for at_s, picture in pictures
        if begin_s <= at_s <= end_s
    ]


def _beside(picture: NDArray[np.uint8], panel: Image.Image) -> Image.Image:
    card = Image.new("RGB", (PX + PANEL_PX, PX), "white")
    card.paste(Image.fromarray(picture), (0, 0))
    card.paste(panel, (PX, 0))
    return card


def _panel(shown: Track, now_s: float, head: str, since_s: float) -> Image.Image:
    """State in words, and the tool's speed and height over the last seconds."""
    card = Image.new("RGB", (PANEL_PX, PX), "white")
    pen, font = ImageDraw.Draw(card), ImageFont.load_default(size=12)
    index = max(int(np.searchsorted(shown.time_s, now_s)) - 1, 0)
    hand = "close" if shown.closure[index] > 0.5 else "open"
    lines = (head, f"{shown.states[index]}   {since_s:.1f} s   hand told: {hand}")
    for number, line in enumerate(lines):
        pen.text((PAD_PX, 6 + number * LINE_PX), line, fill=INK, font=font)
    window = slice(int(np.searchsorted(shown.time_s, now_s - WINDOW_S)), index + 1)
    ages = shown.time_s[window] - now_s
    _plot(
        pen,
        (56, 130),
        "speed, m/s: asked (grey), sent (red)",
        FASTEST_M_S,
        ages,
        {FAINT: shown.asked_m_s[window], ACCENT: shown.sent_m_s[window]},
    )
    _plot(pen, (152, 210), "height, m", 0.35, ages, {INK: shown.height_m[window]})
    return card


def _plot(
    pen: ImageDraw.ImageDraw, rows: tuple[int, int], name: str, most: float, ages_s: NDArray[np.float64],
    lines: Mapping[str, NDArray[np.float64]],
) -> None:  # fmt: skip
    """One small chart: values from 0 to `most` against the last seconds."""
    top, bottom = rows
    font = ImageFont.load_default(size=10)
    pen.line([(LEFT_PX, top), (LEFT_PX, bottom), (RIGHT_PX, bottom)], fill=FAINT)
    pen.text((LEFT_PX + 4, top - 4), name, fill=INK, font=font)
    pen.text((PAD_PX, top - 4), f"{most:g}", fill=INK, font=font)
    pen.text((PAD_PX, bottom - 8), "0", fill=INK, font=font)
    across = RIGHT_PX + ages_s / WINDOW_S * (RIGHT_PX - LEFT_PX)
    for colour, values in lines.items():
        down = bottom - np.clip(values / most, 0, 1) * (bottom - top)
        points = [(float(x), float(y)) for x, y in zip(across, down, strict=True) if np.isfinite(y)]
        if len(points) > 1:
            pen.line(points, fill=colour, width=2)


def write(file: Path, film: Sequence[Image.Image]) -> None:
    """A GIF that plays as fast as it was."""
    from stillframe.tools.charts import write_gif

    write_gif(file, [film], frame_ms=1000 // FPS)

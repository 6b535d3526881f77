"""Chart of utilities over one episode: flashes, both scorers' utilities, frames held; pictures above.

Knows axes, a finished document and small pictures; computes nothing.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from stillframe.tools.charts import INK, new_figure, save_figure
from stillframe_lab.history.arms import GATE, LINEAR
from stillframe_lab.history.charts import SHADES
from stillframe_lab.history.readme import NAMES

LAMPS = {"red": "#e05252", "green": "#3fae5a", "blue": "#4a7be0"}
HIGHEST = 1.2  # of the axis of utilities: words stand above the stems
SPACE_PX = 12  # between pictures


def utility_chart(file: Path, utility: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> None:
    """Pictures, the gate's utilities, the linear score's."""
    figure, (pictures, *panels) = new_figure(3, (9.0, 6.4), (1.15, 1, 1))
    _strip(pictures, utility, shots)
    for axes, arm in zip(panels, (GATE, LINEAR), strict=True):
        _flashes(axes, utility)
        _stems(axes, arm, utility["arms"][arm])
        axes.set_xlim(0, utility["steps"] + 1)
        axes.set_ylim(0, HIGHEST)
        axes.set_yticks([0, 0.5, 1])
        axes.set_ylabel(f"utility\n{NAMES[arm]}")
    panels[-1].set_xlabel("step (10 a second). Filled: held when the episode was over; hollow: gone")
    save_figure(figure, file)


def _strip(axes: Any, utility: Mapping[str, Any], shots: Sequence[Mapping[str, Any]]) -> None:
    """Side by side, their steps below."""
    decoded = [_picture(shot["png"]) for shot in shots]
    height, width = decoded[0].shape[:2]
    card = np.full((height, len(decoded) * (width + SPACE_PX) - SPACE_PX, 3), 255, np.uint8)
    for number, picture in enumerate(decoded):
        left = number * (width + SPACE_PX)
        card[:, left : left + width] = picture
        words = f"step {shots[number]['step']}: {_shown(utility, shots[number]['step'])}"
        axes.text(left + width / 2, height + 6, words, ha="center", va="top", fontsize=8, color=INK)
    axes.imshow(card, interpolation="nearest")
    axes.set_axis_off()
    outcome = "success" if utility["success"] else "no success"
    title = f"{utility['variant']}, delay {utility['delay']}, {utility['chunks']} chunks kept: {outcome}"
    axes.set_title(title, loc="left", fontsize=11, color=INK)


def _shown(utility: Mapping[str, Any], step: int) -> str:
    for flash in utility["flashes"]:
        if flash["first"] <= step <= flash["last"]:
            return str(flash["colour"]) if flash["meant"] else f"{flash['colour']}, decoy"
    return "the arm is free" if step == utility["free_from"] else "the end"


def _flashes(axes: Any, utility: Mapping[str, Any]) -> None:
    """Bands in the lamps' colours, decoys hatched; a line from which on the arm is free."""
    for flash in utility["flashes"]:
        style: dict[str, Any] = {"facecolor": LAMPS[flash["colour"]], "alpha": 0.28, "linewidth": 0}
        if not flash["meant"]:
            style |= {"hatch": "////", "edgecolor": "white"}
        axes.axvspan(flash["first"] - 0.5, flash["last"] + 0.5, **style)
    axes.axvline(utility["free_from"] - 0.5, color=INK, linewidth=0.8, linestyle=":")
    axes.text(utility["free_from"], HIGHEST, " the arm is free", fontsize=8, color=INK, va="top")


def _stems(axes: Any, arm: str, said: Mapping[str, Any]) -> None:
    """A stem a frame; filled where the frame is held at the end."""
    utilities, held = said["utilities"], set(said["held"])
    steps = range(1, len(utilities) + 1)
    axes.vlines(steps, 0, utilities, color=SHADES[arm], linewidth=0.8)
    for kept, (fill, size) in {True: (SHADES[arm], 34), False: ("white", 9)}.items():
        chosen = [(step, worth) for step, worth in zip(steps, utilities, strict=True) if (step in held) == kept]
        places, heights = [step for step, _ in chosen], [worth for _, worth in chosen]
        axes.scatter(places, heights, s=size, facecolor=fill, edgecolor=SHADES[arm], linewidth=0.8, zorder=3)


def _picture(text: str) -> Any:
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))

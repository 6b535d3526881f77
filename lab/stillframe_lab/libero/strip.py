"""A strip of pictures out of films: a row a task, each some frames of its first film.

Knows film files; plays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stillframe.tools.charts import INK

SHOWN = 5  # frames of a film, evenly spread, its ends among them
WIDTH_PX = 256  # of a frame; a narrower one is left as it is
HEAD_PX, GAP_PX = 22, 4


def write_strip(films: Path, instructions: Mapping[int, str]) -> Path:
    """Write the strip beside a folder of films, as a PNG of its name -> the file.

    `instructions`: of each task. Raises FileNotFoundError for one without a film.
    """
    rows = [_row(_first(films, task), text) for task, text in instructions.items()]
    width, height = max(row.width for row in rows), sum(row.height for row in rows)
    strip = Image.new("RGB", (width, height), "white")
    top = 0
    for row in rows:
        strip.paste(row, (0, top))
        top += row.height
    file = films.with_suffix(".png")
    strip.save(file, optimize=True)
    return file


def _first(films: Path, task: int) -> Path:
    found = sorted(films.glob(f"task-{task}-*.webp"))
    if not found:
        raise FileNotFoundError(f"{films} has no film of task {task}")
    return found[0]


def _row(film: Path, text: str) -> Image.Image:
    """What is asked, above some of the film's frames."""
    with Image.open(film) as opened:
        count = getattr(opened, "n_frames", 1)
        chosen = [round(at) for at in np.linspace(0, count - 1, min(SHOWN, count))]
        frames = []
        for at in chosen:
            opened.seek(at)
            frames.append(opened.convert("RGB"))
    width = min(WIDTH_PX, frames[0].width)
    height = round(frames[0].height * width / frames[0].width)
    row = Image.new("RGB", (len(frames) * (width + GAP_PX), HEAD_PX + height + GAP_PX), "white")
    ImageDraw.Draw(row).text((4, 3), text, fill=INK, font=ImageFont.load_default(size=14))
    for column, frame in enumerate(frames):
        row.paste(frame.resize((width, height), Image.Resampling.LANCZOS), (column * (width + GAP_PX), HEAD_PX))
    return row

"""The figure of the two memories: older frames, few of them kept, and the last frame, most of it reused.

Knows one moment of an episode; plays nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stillframe.domain import Image as Picture
from stillframe.tools.charts import ACCENT, FAINT, INK, tinted
from stillframe_lab.ablation.filmstrip import STATIC_RGB, TINT, Grid

THUMB_PX, LARGE_PX, GAP_PX, EDGE_PX = 118, 224, 8, 16
TOP_PX, FOOT_PX, HEIGHT_PX = 64, 344, 396
BAR_PX = 56  # of a utility of 1
PALE = 0.72
KEPT, WHITE = "#2f7f86", (255, 255, 255)


@dataclass(frozen=True)
class OlderFrame:
    """One older frame."""

    step: int
    picture: Picture
    utility: float  # the gate's score when it was added
    kept: bool


@dataclass(frozen=True)
class Moment:
    """One step of an episode with its history."""

    older: Sequence[OlderFrame]  # oldest first, without some of the dropped ones
    came: int  # number of older frames
    last: Picture
    now: Picture
    reused: Grid  # patches of `now` whose keys and values are those of earlier frames
    chunk_bytes: int


def draw(at: Moment) -> Image.Image:
    """Older frames on the left, last and new frame on the right, and below what is attended to."""
    right_px = 4 * EDGE_PX + len(at.older) * (THUMB_PX + GAP_PX)
    card = Image.new("RGB", (right_px + 2 * (LARGE_PX + GAP_PX) + EDGE_PX, HEIGHT_PX), "white")
    pen = ImageDraw.Draw(card)
    _older_frames(card, pen, at, EDGE_PX)
    pen.line([(right_px - 1.5 * EDGE_PX, 12), (right_px - 1.5 * EDGE_PX, FOOT_PX - 40)], fill=FAINT, width=2)
    _last_frame(card, pen, at, right_px)
    _looked_at(pen, card.width, _kept(at), float(at.reused.mean()))
    return card


def _kept(at: Moment) -> int:
    return sum(one.kept for one in at.older)


def _older_frames(card: Image.Image, pen: ImageDraw.ImageDraw, at: Moment, left: int) -> None:
    chunk = "each leaves one chunk: two slots of keys and values a layer. A gate says"
    _headline(pen, left, "older frames", "memory/", chunk)
    kept = f"of {at.came} chunks {_kept(at)} are kept, the last in any case, {at.chunk_bytes // 1024} KiB each."
    _line(pen, left, 38, f"what it is worth (bars); {kept}")
    for index, one in enumerate(at.older):
        _thumb(card, pen, one, left + index * (THUMB_PX + GAP_PX))


def _last_frame(card: Image.Image, pen: ImageDraw.ImageDraw, at: Moment, left: int) -> None:
    _headline(pen, left, "the last frame", "reuse/", "what has not changed since it was computed")
    _line(pen, left, 38, f"is not computed again: {at.reused.mean():.0%} of this picture (tinted).")
    overlay = tinted(at.now, at.reused, STATIC_RGB, TINT)
    for index, (picture, name) in enumerate(((at.last, "last frame"), (overlay, "new frame"))):
        across = left + index * (LARGE_PX + GAP_PX)
        card.paste(Image.fromarray(picture).resize((LARGE_PX, LARGE_PX)), (across, TOP_PX))
        _line(pen, across, TOP_PX + LARGE_PX + 3, name)


def _thumb(card: Image.Image, pen: ImageDraw.ImageDraw, one: OlderFrame, left: int) -> None:
    """The picture, pale if it was dropped, its step, and its utility as a bar under it."""
    top = TOP_PX
    everywhere = np.ones((1, 1), np.bool_)
    picture = one.picture if one.kept else tinted(one.picture, everywhere, WHITE, PALE)
    card.paste(Image.fromarray(picture).resize((THUMB_PX, THUMB_PX)), (left, top))
    if one.kept:
        pen.rectangle((left - 2, top - 2, left + THUMB_PX + 1, top + THUMB_PX + 1), outline=KEPT, width=3)
    _line(pen, left, top + THUMB_PX + 6, f"frame {one.step}")
    base = top + THUMB_PX + 28 + BAR_PX
    pen.rectangle((left, base - round(BAR_PX * one.utility), left + THUMB_PX, base), fill=KEPT if one.kept else FAINT)
    _line(pen, left, base + 4, f"{one.utility:.2f}, {'kept' if one.kept else 'dropped'}")


def _looked_at(pen: ImageDraw.ImageDraw, width: int, kept: int, reused: float) -> None:
    """The keys that text and action rows attend to, as one bar."""
    top, left, right = FOOT_PX, EDGE_PX, width - EDGE_PX
    _line(pen, left, top - 24, "what the rows of text and action look at, in every layer (not to scale):")
    middle, whole = left + (right - left) * 0.28, right - left
    parts = (
        (left, middle, KEPT, f"{kept} older chunks", "white"),
        (middle, middle + whole * 0.6 * reused, "#8fc1c5", "image tokens of earlier computations", INK),
        (middle + whole * 0.6 * reused, left + whole * 0.88, "#e9edf1", "image tokens computed now", INK),
        (left + whole * 0.88, right, ACCENT, "text, action", "white"),
    )
    for first, last, fill, name, ink in parts:
        if last - first > 3:
            pen.rectangle((first, top, last - 3, top + 32), fill=fill)
            _line(pen, first + 8, top + 8, name, ink)


def _headline(pen: ImageDraw.ImageDraw, left: float, name: str, room: str, line: str) -> None:
    pen.text((left, 14), name, fill=INK, font=ImageFont.load_default(size=18))
    after = pen.textlength(name, font=ImageFont.load_default(size=18)) + 8
    _line(pen, left + after, 19, f"{room}  {line}")


def _line(pen: ImageDraw.ImageDraw, left: float, top: float, said: str, ink: str = INK) -> None:
    pen.text((left, top), said, fill=ink, font=ImageFont.load_default(size=13))

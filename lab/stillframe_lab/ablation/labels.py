"""Words beside the points of a chart, where they can be read.

Knows axes whose limits are final; not what the points are.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.tools.charts import FAINT, INK

Boxes = NDArray[np.float64]  # [boxes, left bottom right top], in pixels
FONT = 8
REACH = 4.0  # of a point, in typographic points
DISTANCES = (7, 16, 28, 42)  # of the words, likewise, nearest first
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # right, left, above, below, between
ACROSS, ALONG = {1: "left", 0: "center", -1: "right"}, {1: "bottom", 0: "center", -1: "top"}


def place_labels(axes: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each name beside its point, in data units: nearest where it covers no point, no name and no edge.

    Where every place is taken, the one that covers least is; words further off are tied to their point.
    """
    axes.figure.draw_without_rendering()  # the layout sets where the axes are
    px = axes.figure.dpi / 72  # of a typographic point
    centres = {name: axes.transData.transform(point) for name, point in points.items()}
    taken = [(x - REACH * px, y - REACH * px, x + REACH * px, y + REACH * px) for x, y in centres.values()]
    for name, (x, y) in centres.items():
        width, height = _size(axes, name)
        places = [
            (distance, side, (x + side[0] * (distance * px + width / 2), y + side[1] * (distance * px + height / 2)))
            for distance, side in product(DISTANCES, SIDES)
        ]
        boxes = [(u - width / 2, v - height / 2, u + width / 2, v + height / 2) for _, _, (u, v) in places]
        best = int(_covered(np.array(boxes), np.array(taken), axes.bbox.extents).argmin())
        taken.append(boxes[best])
        distance, side, _ = places[best]
        _write(axes, name, points[name], side, distance)


def _size(axes: Any, name: str) -> tuple[float, float]:
    """Of the words, in pixels."""
    words = axes.text(0, 0, name, fontsize=FONT)
    box = words.get_window_extent()
    words.remove()
    return float(box.width), float(box.height)


def _write(axes: Any, name: str, point: tuple[float, float], side: tuple[int, int], distance: int) -> None:
    """The words on one side of a point, so many typographic points off."""
    from matplotlib.patheffects import withStroke

    across, along = side
    tied = {"arrowprops": {"arrowstyle": "-", "color": FAINT, "shrinkB": REACH}} if distance > DISTANCES[0] else {}
    axes.annotate(
        name,
        point,
        xytext=(across * distance, along * distance),
        textcoords="offset points",
        ha=ACROSS[across],
        va=ALONG[along],
        fontsize=FONT,
        color=INK,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],  # readable across a line
        **tied,
    )


def _covered(boxes: Boxes, taken: Boxes, edge: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels of each box that lie on others, or beyond the edge."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    beyond: NDArray[np.float64] = width * height - _shared(boxes, edge[None])
    return beyond + _shared(boxes, taken)


def _shared(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Pixels of each box that lie on others, one by one."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared: NDArray[np.float64] = np.maximum(high - low, 0).prod(axis=2).sum(axis=1)
    return shared

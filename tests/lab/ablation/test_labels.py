from __future__ import annotations

import itertools

import numpy as np
from matplotlib.text import Text

from stillframe.tools.charts import new_figure
from stillframe_lab.ablation.labels import place_labels


def test_names_of_crowded_points_can_all_be_read() -> None:
    """They cover neither each other nor a point, stay within the axes, and are all there."""
    figure, axes = new_figure(1, (8.0, 4.0), (1,))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    rng = np.random.default_rng(4)
    points = {
        f"static + {number}": (0.45 + 0.1 * x, 0.45 + 0.1 * y) for number, (x, y) in enumerate(rng.random((7, 2)))
    }
    points |= {"in a corner": (0.99, 0.99), "at the left": (0.0, 0.02)}
    place_labels(axes, points)
    figure.draw_without_rendering()
    boxes = {words.get_text(): Text.get_window_extent(words) for words in axes.texts}
    centres = [axes.transData.transform(point) for point in points.values()]

    assert boxes.keys() == points.keys()
    assert not any(one.overlaps(two) for one, two in itertools.combinations(boxes.values(), 2))
    assert not any(box.contains(*centre) for box in boxes.values() for centre in centres)
    assert all(axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1) for box in boxes.values())


def test_where_all_is_covered_every_name_is_there_still() -> None:
    """Many points on one spot: each keeps its words."""
    _, axes = new_figure(1, (2.0, 1.0), (1,))
    points = {f"arm {number}": (0.5, 0.5) for number in range(40)}
    place_labels(axes, points)

    assert sorted(words.get_text() for words in axes.texts) == sorted(points)

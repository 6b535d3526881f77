"""Pictures of dashboards: what is on them, of answers made up for it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from stillframe_lab.dashboards.answers import Series
from stillframe_lab.dashboards.drawing import Ask, draw
from stillframe_lab.dashboards.panels import Dashboard, Panel, Query

FILES = sorted((Path(__file__).resolve().parents[3] / "docker/grafana/dashboards").glob("*.json"))
TIMES_S = np.arange(1_700_000_000.0, 1_700_000_060.0)
BOX = (0, 0, 12, 8)


def steady(value: float, **labels: str) -> Series:
    """A line that stays where it is."""
    return Series(labels, TIMES_S, np.full(len(TIMES_S), value))


def words(panel: Panel, *answer: Series) -> list[str]:
    """All that is written on a picture of one panel."""
    figure = draw(Dashboard("one", "one", (panel,)), lambda _: answer)
    return [text.get_text() for holder in (figure, *figure.axes) for text in holder.texts]


def test_a_line_has_its_name_and_its_last_value() -> None:
    """By its labels, in the panel's unit."""
    panel = Panel("Stages", "timeseries", BOX, "s", (Query("q", "{{stage}}, p50"),))
    told = words(panel, steady(0.02, stage="vision"), steady(0.3, stage="prefill"))

    assert "Stages" in told
    assert {"vision, p50", "20 ms", "prefill, p50", "300 ms"} <= set(told)


def test_lines_that_there_is_no_room_for_are_counted() -> None:
    """Those at 0 first; what is not 0 is named before."""
    panel = Panel("Codes", "timeseries", BOX, "ops", (Query("q", "{{code}}"),))
    told = words(panel, *(steady(0.0, code=f"quiet-{at}") for at in range(30)), steady(1.0, code="loud"))

    assert "loud" in told
    assert "30 more at 0" in told


@pytest.mark.parametrize("answer", [[], [steady(np.nan)]])
def test_a_panel_without_numbers_says_so(answer: Sequence[Series]) -> None:
    """Neither an axis nor a line is made up."""
    assert "no data" in words(Panel("Empty", "timeseries", BOX, "s", (Query("q", "line"),)), *answer)


def test_a_stat_says_its_newest_value_or_the_word_for_it() -> None:
    """In its unit, or as its mapping has it."""
    rate = Panel("Frames", "stat", BOX, "ops", (Query("q", "frames"),), decimals=1)
    ready = Panel("Ready", "stat", BOX, "none", (Query("q", "ready"),), words={"1": ("ready", "green")})

    assert "12.5 /s" in words(rate, steady(12.5))
    assert "ready" in words(ready, steady(1.0))


def test_a_stat_of_names_says_what_its_series_are() -> None:
    """Not their value, which is 1 for each."""
    panel = Panel("Served", "stat", BOX, "none", (Query("q", "{{model}} on {{device}}"),), says_name=True)

    assert "tiny on cpu" in words(panel, steady(1.0, model="tiny", device="cpu"))
    assert words(panel, *(steady(1.0, model=f"m{at}", device="cpu") for at in range(5)))[-1] == "3 more"


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of words of the page whose boxes meet."""
    figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in figure.texts if text.get_text()]
    return [
        (one, other) for at, (one, box) in enumerate(boxes) for other, beside in boxes[at + 1 :] if box.overlaps(beside)
    ]


def crowded() -> Ask:
    """Answers with more series than a panel has room for, with long names."""
    return lambda query: [
        steady(0.001 * (at + 1), **dict.fromkeys(("instance", "stage", "reason", "code"), f"a-rather-long-name-{at}"))
        for at in range(9 if "{{" in query.legend else 1)
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_words_lie_upon_each_other(file: Path) -> None:
    """On the shipped dashboards, however many lines there are."""
    figure = draw(Dashboard.read(file), crowded())
    picture = io.BytesIO()
    figure.savefig(picture, dpi=50, format="png")

    assert overlapping(figure) == []


def test_a_variable_without_a_value_is_not_sent() -> None:
    """Prometheus would answer nothing, or another question."""
    with pytest.raises(KeyError, match="job"):
        Query('up{job=~"$job"}', "up").filled_in({"instance": ".+"})

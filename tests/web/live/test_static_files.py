"""The pages' colours can be told apart, and their scripts keep to what the policy of the page allows."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from stillframe.web.live.static_files import FOLDER, MEDIA_TYPES, load_pages

LEAST = 4.5  # WCAG 2.2, contrast of text, AA
LIGHT, DARK = (
    dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
    for block in re.findall(r":root \{(.*?)\}", (FOLDER / "page.css").read_text(), re.DOTALL)
)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1, the same, to 21, black on white."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("word", ["ink", "quiet", "teal", "red"])
@pytest.mark.parametrize("ground", ["card", "paper"])
def test_text_can_be_read(scheme: dict[str, str], word: str, ground: str) -> None:
    """Each colour of text on each ground, light and dark."""
    assert contrast(scheme[word], scheme[ground]) >= LEAST


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_stages_that_touch_differ_in_lightness(scheme: dict[str, str]) -> None:
    """The bars of a chart are told apart without their hue, as are the two marks on a picture."""
    shades = [scheme[f"s{number}"] for number in range(1, 6)]

    assert all(contrast(one, other) >= 1.35 for one, other in pairwise(shades))
    assert contrast(LIGHT["mark-teal"], LIGHT["mark-amber"]) > 1.1


def test_scripts_make_no_markup_and_load_nothing_from_elsewhere() -> None:
    """What the daemon says becomes text; there is no address in them, and no text is run."""
    for file in FOLDER.glob("*.js"):
        text = file.read_text()
        assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), file
        assert "://" not in text, file
        assert text.startswith("// "), file


def test_every_file_of_the_folder_is_served() -> None:
    """None is left out for its kind, and none is a page by two names but the live page."""
    pages = load_pages()

    assert {file.suffix for file in FOLDER.iterdir()} <= {*MEDIA_TYPES}
    assert {path.rsplit("/", 1)[1] for path in pages if path.startswith("/live/static/")} == {
        file.name for file in FOLDER.iterdir() if file.suffix != ".html"
    }
    assert pages["/"] == pages["/live"] != pages["/docs"]

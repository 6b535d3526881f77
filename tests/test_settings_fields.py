from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from stillframe.settings_fields import RangeChecked, setting


@dataclass(frozen=True)
class Section(RangeChecked):
    """One setting of each form."""

    share: float = setting(0.5, "a share", low=0, high=1)
    most: int | None = setting(None, "how many; null: as many as fit", low=1, high=8)
    layers: list[int] = setting([], "which layers", low=0, high=31)
    name: str = setting("a", "anything goes")


def test_a_knob_says_what_it_means():
    """Description and range are there to be read: the configuration's documentation is made of them."""
    meanings = [part.metadata["description"] for part in fields(Section)]

    assert meanings == ["a share", "how many; null: as many as fit", "which layers", "anything goes"]


def test_lists_are_nobody_elses():
    """A default that can change is made anew for each section."""
    assert Section().layers is not Section().layers


@pytest.mark.parametrize("said", [{"share": 1}, {"share": 0}, {"most": 8}, {"most": None}, {"layers": [0, 31]}])
def test_what_is_in_range_is_taken(said):
    """Both ends, nothing, and lists of what is in range."""
    assert Section(**said) == Section(**said)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"share": 1.5}, "share is 1.5; expected 0 to 1"),
        ({"share": float("nan")}, "share is nan; expected 0 to 1"),
        ({"most": 0}, "most is 0; expected 1 to 8"),
        ({"layers": [3, 32]}, r"layers is \[3, 32\]; expected 0 to 31"),
    ],
)
def test_what_is_out_of_range_is_refused_with_the_range(said, expected):
    """What it was called, what it was, and between what it has to lie."""
    with pytest.raises(ValueError, match=f"^{expected}$"):
        Section(**said)

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.domain import REUSE_MODES
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings

SECTIONS = (AdaptiveSettings, PaperSettings, ReuseSettings)
SHARES = st.lists(st.floats(0, 1), max_size=6)
RANGED = [
    (section, part)
    for section in SECTIONS
    for part in dataclasses.fields(section)
    if part.metadata.get("low") is not None
]


def like(part: dataclasses.Field, number: float) -> object:
    """A number in the form that the knob has."""
    return [number] if "list" in part.type else number


@pytest.mark.parametrize("section", SECTIONS)
def test_the_defaults_are_within_their_ranges(section):
    """Every section can be made as it is."""
    assert section() == section()


@pytest.mark.parametrize(("section", "part"), RANGED, ids=lambda value: getattr(value, "name", ""))
def test_both_ends_of_a_range_are_in_it(section, part):
    """Low and high themselves are accepted."""
    for end in (part.metadata["low"], part.metadata["high"]):
        value = like(part, end)
        assert getattr(section(**{part.name: value}), part.name) == value


@pytest.mark.parametrize(("section", "part"), RANGED, ids=lambda value: getattr(value, "name", ""))
def test_beyond_either_end_is_refused_with_the_range(section, part):
    """What it was called, what it was, and between what it has to lie."""
    low, high = part.metadata["low"], part.metadata["high"]
    said = re.escape(f"expected {low:g} to {high:g}")
    for number in (low - 1, high + 1, float("nan")):
        with pytest.raises(ValueError, match=rf"^{part.name} is .*; {said}$"):
            section(**{part.name: like(part, number)})


def test_every_number_has_a_range():
    """A knob that is a number, or a list of them, says how far it turns; choices, switches and sections do not."""
    without = {
        part.name
        for section in SECTIONS
        for part in dataclasses.fields(section)
        if part.metadata.get("low") is None or part.metadata.get("high") is None
    }

    assert without == {"mode", "criterion", "slack", "adaptive", "paper"}


@pytest.mark.parametrize("mode", REUSE_MODES)
def test_every_mode_can_be_the_default(mode):
    """A deployment chooses among all modes there are."""
    assert ReuseSettings(mode=mode).mode == mode


def test_a_mode_that_is_none_gets_the_list():
    """Also where no YAML is involved."""
    with pytest.raises(ValueError, match="mode is 'fast'; expected one of off, exact, adaptive, paper, static-only"):
        ReuseSettings(mode="fast")


def test_nothing_is_reused_unless_somebody_says_so():
    """A checkpoint whose drift nobody knows is served as ever."""
    assert ReuseSettings().mode == "off"


@given(shares=SHARES)
def test_a_schedule_may_rise_or_stay(shares):
    """Sorted shares are a schedule."""
    assert AdaptiveSettings(schedule=sorted(shares)).schedule == sorted(shares)


@given(shares=SHARES.filter(lambda shares: shares != sorted(shares)))
def test_a_schedule_that_falls_is_refused(shares):
    """A row that one layer drops cannot come back in the next."""
    with pytest.raises(ValueError, match="expected shares that never fall"):
        AdaptiveSettings(schedule=shares)


def test_settings_do_not_change():
    """They are shared between the engine's thread and those that ask."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        ReuseSettings().mode = "paper"

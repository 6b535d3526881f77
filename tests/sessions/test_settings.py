from __future__ import annotations

import dataclasses
import re

import pytest

from stillframe.sessions.settings import SessionSettings

KNOBS = dataclasses.fields(SessionSettings)


@pytest.mark.parametrize("part", KNOBS, ids=lambda part: part.name)
def test_every_knob_has_a_meaning_and_a_range(part):
    """Both ends are taken; beyond either, the refusal names the range."""
    low, high = part.metadata["low"], part.metadata["high"]
    said = re.escape(f"expected {low:g} to {high:g}")
    ends = [getattr(SessionSettings(**{part.name: end}), part.name) for end in (low, high)]

    assert part.metadata["description"]
    assert ends == [low, high]
    for number in (low - 1, high + 1):
        with pytest.raises(ValueError, match=rf"^{part.name} is .*; {said}$"):
            SessionSettings(**{part.name: number})


def test_settings_do_not_change():
    """They are read on every call."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        SessionSettings().ttl_s = 1

from __future__ import annotations

from typing import Any

import pytest

from stillframe.history.settings import SCORERS, HistorySettings


def test_it_is_off_unless_it_is_asked_for() -> None:
    """A policy that was not trained with older frames must not see any."""
    assert HistorySettings().enabled is False


def test_sampling_alone_goes_by_places() -> None:
    """Every other way goes by what a frame is worth."""
    assert [name for name in SCORERS if HistorySettings(gate=name).evenly] == ["sampling"]  # type: ignore[arg-type]  # one of them


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"gate": "psychic"}, "gate is 'psychic'; expected one of gate, linear"),
        ({"budget_mib": -1.0}, "budget_mib is -1.0; expected 0 to"),
        ({"threshold": 1.5}, "threshold is 1.5; expected 0 to 1"),
        ({"chunk_tokens": 0}, "chunk_tokens is 0; expected 1 to"),
    ],
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, Any], said: str) -> None:
    """With the range, or the choices."""
    with pytest.raises(ValueError, match=said):
        HistorySettings(**knobs)

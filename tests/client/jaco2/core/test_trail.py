from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.core.reference import Place
from stillframe_client.jaco2.core.trail import REMEMBERED, Trail

VECTOR = st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3).map(np.array)
EVENTS = st.lists(st.tuples(st.booleans(), VECTOR, VECTOR), max_size=30)


@given(EVENTS)
def test_giving_up_moves_every_place_of_the_past(events):
    """As if each were moved one by one, whatever was added and given up between."""
    trail, plain = Trail(), []
    for k, (adds, shift, turn) in enumerate(events):
        if adds:
            place = Place(shift, rotations.from_vector(turn))
            trail.add(float(k), place)
            plain.append((float(k), place))
        else:
            trail.give_up(shift, turn)
            plain = [(at_s, was.moved(-shift, -turn)) for at_s, was in plain]
    for at_s, place in plain:
        found = trail.at(at_s)
        assert found is not None
        assert np.allclose(found.position_m, place.position_m, atol=1e-9)
        assert abs(float(found.orientation @ place.orientation)) > 1 - 1e-9


def test_the_newest_place_before_a_time_counts():
    """None before it began, and after the oldest is forgotten."""
    trail = Trail()
    assert trail.at(5.0) is None
    for k in range(REMEMBERED + 10):
        trail.add(float(k), Place(np.full(3, float(k)), np.array([0.0, 0.0, 0.0, 1.0])))
    assert trail.at(9.5) is None
    assert trail.at(50.5).position_m.tolist() == [50.0] * 3
    assert trail.at(1e9).position_m.tolist() == [REMEMBERED + 9.0] * 3

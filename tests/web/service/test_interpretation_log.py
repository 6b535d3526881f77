from __future__ import annotations

import logging

import pytest

from stillframe.web.service.interpretation_log import MAX_LINES, InterpretationLog


@pytest.fixture
def notices(caplog):
    """With whatever it says in `caplog`."""
    caplog.set_level(logging.INFO)
    return InterpretationLog(logging.getLogger("notices-test"))


def test_each_way_is_told_once(notices, caplog):
    """By dialect, cameras and keys; where names agree there is nothing to tell."""
    for _ in range(3):
        notices.record("openpi", {"front": "cam_high", "wrist": "cam_left_wrist"}, ["The end is odd."])
        notices.record("openvla-oft", {"front": "full_image"}, ())
        notices.record("native", {}, ())

    assert [record.message for record in caplog.records] == [
        "cameras of openpi frames: front is 'cam_high', wrist is 'cam_left_wrist'",
        "openpi frames: The end is odd.",
        "cameras of openvla-oft frames: front is 'full_image'",
    ]


def test_clients_cannot_fill_the_log(notices, caplog):
    """So many ways and no more, each cut short."""
    for number in range(MAX_LINES * 2):
        notices.record("openpi", {"front": f"{number}" + "x" * 1000}, [f"{number}" * 1000])

    assert len(caplog.records) == MAX_LINES
    assert max(len(record.message) for record in caplog.records) <= 200


def test_frames_are_told_of(desk, caplog):
    """As they are answered, on whatever wire."""
    caplog.set_level(logging.INFO, "web-test")
    raw = {"__numpy__": "AAAA" * 64, "dtype": "|u1", "shape": [8, 8, 3]}
    for _ in range(2):
        assert desk.act({"full_image": raw, "instruction": "go up"}).status_code == 200

    assert [record.message for record in caplog.records if record.name == "web-test"] == [
        "cameras of openvla-oft frames: front is 'full_image'"
    ]

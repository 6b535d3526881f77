from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stillframe.web.http.instruction_warnings import instruction_warnings


@pytest.fixture
def info(desk):
    """A policy whose vocabulary lacks some words."""
    return replace(desk.policy.info, unknown_words=lambda text: tuple(w for w in text.split() if w.startswith("x")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pick up the red cube.", "ends with '.'"),
        ("pick up the red cube!", "ends with '!'"),
        ("pick up the red cube?", "ends with '?'"),
        ("pick up the red cube . ", "ends with '.'"),
        ("\u628a\u7ea2\u8272\u65b9\u5757\u62ff\u8d77\u6765\u3002", "ends with"),
        ("pick up the red cube\n", "white space"),
        (" pick up the red cube", "white space"),
        ("pick up  the red cube", "white space"),
        ("pick up\tthe red cube", "white space"),
        ("pick up\nthe red cube", "white space"),
        ("In: What action should the robot take to pick up the cube?\nOut:", "whole prompt"),
        ("what action should the robot take to lift", "whole prompt"),
        ("USER: pick up the cube", "whole prompt"),
        ("pick up the cube</s>", "whole prompt"),
        ("pick up the xylophone", "no token for 'xylophone'"),
    ],
)
def test_what_is_odd_is_said(info, text, said):
    """One line for each thing."""
    assert any(said in line for line in instruction_warnings(text, info))


@pytest.mark.parametrize(
    "text", ["pick up the red cube", "Pick up the RED cube", "put 0.5 l in the pot", "put it in: the box", "go"]
)
def test_plain_words_are_nothing_to_speak_of(info, text):
    """Capitals do not matter: the prompt is in small letters."""
    assert instruction_warnings(text, info) == ()


def test_a_few_unknown_words_are_named(info):
    """Of many, eight and how many more."""
    (line,) = instruction_warnings(" ".join(f"x{number}" for number in range(20)), info)

    assert "'x0', 'x1'" in line
    assert line.endswith("'x7' and 12 more.")


def test_an_odd_instruction_is_taken_as_it_is(desk):
    """On the wire of a published client the answer's header says so; a readable answer says it too."""
    desk.policy.info = replace(desk.policy.info, unknown_words=lambda _: ("\u00f8",))
    raw = {"image": {"__numpy__": "AAAA" * 64, "dtype": "|u1", "shape": [8, 8, 3]}, "instruction": "pick it.\n"}
    bare = desk.act(raw)
    readable = desk.ask("POST", "/v1/act", json=raw)
    again = desk.ask("POST", "/v1/act", json={**raw, "instruction": "pick it", "session_id": "arm"})

    assert [seen.instruction for seen in desk.policy.seen[:2]] == ["pick it.\n"] * 2
    assert "warnings" not in bare.json()
    assert json.loads(bare.headers["x-stillframe-warning"]) == readable.json()["warnings"]
    assert [line.split()[1] for line in readable.json()["warnings"]] == ["instruction", "instruction", "policy"]
    assert len(again.json()["warnings"]) == 1


def test_a_frame_that_says_no_words_is_not_warned(desk):
    """Its session's were judged when they came."""
    raw = {"image": {"__numpy__": "AAAA" * 64, "dtype": "|u1", "shape": [8, 8, 3]}, "session_id": "arm"}
    first = desk.ask("POST", "/v1/act", json={**raw, "instruction": "go."}).json()
    second = desk.ask("POST", "/v1/act", json=raw).json()

    assert "warnings" in first
    assert "warnings" not in second

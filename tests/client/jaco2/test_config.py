from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2 import ceilings
from stillframe_client.jaco2.config import ConfigError, as_document, changed, load, parse
from stillframe_client.jaco2.settings import SECTIONS, BridgeSettings

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
NAMES = sorted({name for kind in SECTIONS.values() for name in kind.__dataclass_fields__})
SECTION = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), ANYTHING, max_size=4) | ANYTHING
DOCUMENTS = st.dictionaries(st.sampled_from([*SECTIONS, "cameras"]) | st.text(max_size=6), SECTION, max_size=5)


def complaint(document: Any) -> str:
    """What a ConfigError says of a document."""
    with pytest.raises(ConfigError) as caught:
        parse(document, "the test")
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "name", "ceiling"),
    [
        ("limits", "linear_m_s", ceilings.LINEAR_M_S),
        ("limits", "angular_rad_s", ceilings.ANGULAR_RAD_S),
        ("limits", "linear_m_s2", ceilings.LINEAR_M_S2),
        ("limits", "angular_rad_s2", ceilings.ANGULAR_RAD_S2),
        ("limits", "step_m", ceilings.STEP_M),
        ("limits", "step_rad", ceilings.STEP_RAD),
        ("limits", "speed", 1.0),
        ("watch", "pose_fault_s", ceilings.POSE_AGE_S),
        ("watch", "heartbeat_fault_s", ceilings.HEARTBEAT_AGE_S),
        ("policy", "answer_age_s", ceilings.SETPOINT_S),
    ],
)
def test_no_file_passes_a_ceiling(section: str, name: str, ceiling: float) -> None:
    """At the ceiling a limit is accepted; a little over it, nothing is, and the text names limit and range."""
    parse({section: {name: ceiling}}, "the test")

    said = complaint({section: {name: ceiling * 1.001}})

    assert f"{section}.{name} is" in said
    assert f"to {ceiling:g}" in said


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"limit": {}}, "limit is not known: did you mean limits?"),
        ({"limits": {"sped": 0.5}}, "limits.sped is not known: did you mean speed?"),
        ({"limits": {"zzz": 0.5}}, "limits.zzz is not known: expected one of speed"),
        ({"limits": {"speed": "fast"}}, "limits.speed is 'fast'; expected a number"),
        ({"limits": {"speed": True}}, "limits.speed is True; expected a number"),
        ({"limits": {"speed": None}}, "limits.speed is None; expected a number"),
        ({"limits": {"speed": float("nan")}}, "speed is nan; expected 0.05 to 1"),
        ({"limits": {"speed": 10**400}}, "expected a number"),
        ({"policy": {"execute": 10**400}}, "expected 0 to 1024"),
        ({"policy": {"execute": 1.5}}, "policy.execute is 1.5; expected a whole number"),
        ({"policy": {"reuse": False}}, "policy.reuse is False; expected text, in quotes"),
        ({"policy": {"url": 3}}, "policy.url is 3; expected text"),
        ({"policy": {"mode": "fast"}}, "mode is 'fast'; expected one of lockstep, realtime"),
        ({"limits": {"low_m": 3}}, "limits.low_m is 3; expected a list of numbers"),
        ({"limits": {"low_m": [0, 0]}}, "expected three numbers each"),
        ({"limits": {"low_m": [0.5, -0.7, 0.03]}}, "low < high"),
        ({"limits": {"low_m": [10**400, 0, 0]}}, "expected a list of numbers"),
        ({"limits": {"floor_m": 0.7}}, "expected it to be lower"),
        ({"motion": {"close_below": 0.7}}, "the other way round"),
        ({"cameras": {}}, "expected a section for each camera"),
        ({"cameras": {"front": 3}}, "cameras.front: expected a section with names and values, not 3"),
        ({"cameras": {"front": {"crop": [0.5, 0, 0.5, 1]}}}, "left < right"),
        ({"cameras": {"front": {"crop": [0, 0, 1]}}}, "expected left, top, right, bottom"),
        ({"cameras": {"front": {"rotate": 45}}}, "expected one of 0, 90, 180, 270"),
        ({"policy": 3}, "policy: expected a section"),
        ([], "holds a list; expected sections"),
        ("text", "holds a str; expected sections"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_used_is_refused_by_name(document: Any, says: str) -> None:
    """The text says which setting is wrong and what was expected."""
    assert says in complaint(document)


def test_all_faults_are_told_at_once() -> None:
    """Three faults in three sections are three lines."""
    said = complaint({"limits": {"speed": 9}, "arm": {"kind": "other"}, "watsch": {}})

    assert said.count("\n  - ") == 3
    assert all(word in said for word in ("speed is 9", "kind is 'other'", "watsch is not known: did you mean watch?"))


@given(DOCUMENTS | ANYTHING)
def test_any_document_is_settings_or_a_clear_refusal(document: Any) -> None:
    """Whatever a file holds: settings within the ceilings, or ConfigError; nothing else is raised."""
    try:
        limits = parse(document, "the test").limits
    except ConfigError:
        return
    assert limits.linear_m_s <= ceilings.LINEAR_M_S
    assert limits.linear_m_s2 <= ceilings.LINEAR_M_S2


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("missing.toml", None, "cannot be read"),
        ("settings.ini", "", "expected .toml, .yaml or .json"),
        ("settings", "", "ends in nothing"),
        ("settings.toml", "[limits", "not readable as TOML"),
        ("settings.yaml", "limits: [", "not readable as YAML"),
        ("settings.yaml", "limits: !!python/object:os.system {}", "not readable as YAML"),
        ("settings.json", "{", "not readable as JSON"),
        ("settings.json", "[" * 100_000, "not readable as JSON"),
        ("settings.json", "[]", "holds a list"),
        ("settings.json", "0", "holds a int"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    """Missing, of another kind, damaged, or no table: the text names the file and what is wrong with it."""
    file = tmp_path / name
    if text is not None:
        file.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=name) as caught:
        load(file)

    assert says in str(caught.value)


def test_all_formats_say_the_same(tmp_path: Path) -> None:
    """One setting written as TOML, YAML and JSON."""
    texts = {
        "a.toml": "[limits]\nspeed = 0.5\n",
        "a.yaml": "limits: {speed: 0.5}\n",
        "a.json": '{"limits":{"speed":0.5}}',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)

    read = [load(tmp_path / name) for name in texts]

    assert read == [parse({"limits": {"speed": 0.5}}, "the test")] * 3


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    """Nothing is set: nothing is changed."""
    (tmp_path / "a.yaml").write_text("# nothing\n")

    assert load(tmp_path / "a.yaml") == load(None) == BridgeSettings()


def test_settings_come_back_from_their_document() -> None:
    """What the streamer reads is what the bridge wrote, through JSON."""
    settings = load(None, {"limits.speed": 0.3, "cameras.wrist.kind": "replay", "policy.unnorm_key": "jaco"})

    assert parse(json.loads(json.dumps(as_document(settings))), "the test") == settings


def test_overrides_are_dotted_names() -> None:
    """They win over the file, reach into cameras, and what they name wrongly is refused, whatever stands there."""
    settings = load(None, {"limits.speed": 0.5, "cameras.front.source": "2"})

    assert settings.limits.speed == 0.5
    assert settings.cameras["front"].source == "2"
    assert changed(settings, {"limits.floor_m": 0.1}).limits.floor_m == 0.1
    with pytest.raises(ConfigError, match=r"limits\.sped is not known"):
        changed(settings, {"limits.sped": 1})
    with pytest.raises(ConfigError, match=r"speed is \{'much'"):
        load(None, {"limits.speed.much": 1})


def test_an_override_meets_a_file_without_sections(tmp_path: Path) -> None:
    """A list where sections belong is refused as such, with options or without."""
    (tmp_path / "a.json").write_text("[1]")

    with pytest.raises(ConfigError, match="holds a list"):
        load(tmp_path / "a.json", {"limits.speed": 1.0})

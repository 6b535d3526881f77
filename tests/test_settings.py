from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.domain import REUSE_MODES
from stillframe.engine.settings import BatchingSettings, DecodingSettings, GraphSettings
from stillframe.reuse.pruning_settings import FastVSettings, SparseVLMSettings, ToMeSettings
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings
from stillframe.tracing.settings import TracingSettings
from stillframe.web.live.settings import LiveSettings

SECTIONS = (
    *(AdaptiveSettings, PaperSettings, ReuseSettings, DecodingSettings, BatchingSettings, GraphSettings),
    *(FastVSettings, SparseVLMSettings, ToMeSettings, LiveSettings, TracingSettings),
)
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

    assert without == {
        "mode",
        "criterion",
        "relevance",
        "selector",
        "vision",
        "slack",
        "adaptive",
        "paper",
        "fastv",
        "sparsevlm",
        "tome",
        "draft",
        "enabled",
        "endpoint",
        "rtc_jacobian",
    }


KNOBS = {  # default, low, high
    AdaptiveSettings: {
        "criterion": ("embedding", None, None),
        "distance": (0.2, 0, 2),
        "tau": (0.996, -1, 1),
        "tau_centred": (0.95, -1, 1),
        "max_difference": (24.0, 0, 255),
        "top_k": (180, 0, 4096),
        "task_top_k": (40, 0, 4096),
        "relevance": ("text", None, None),
        "relevance_layers": ([], 0, 255),
        "schedule": ([], 0, 1),
        "selector": (None, None, None),
        "selector_drift": (None, 0, 64),
        "age_limit": (8, 1, 10_000),
        "keyframe_every": (30, 1, 10_000),
        "scene_cut": (0.1, 0, 1),
        "audit_share": (0.05, 0, 0.5),
        "vision": ("whole", None, None),
        "vision_difference": (8.0, 0, 255),
        "vision_motion": (0.05, 0, 2),
    },
    PaperSettings: {
        "tau": (0.996, -1, 1),
        "top_k": (130, 0, 4096),
        "task_top_k": (100, 0, 4096),
        "tau_task": (None, 0, 1),
        "k": (1.0, 0, 1000),
        "layers": ([], 0, 255),
        "relevance": ("text", None, None),
        "relevance_layers": ([], 0, 255),
    },
    ReuseSettings: {
        "mode": ("off", None, None),
        "drift_budget": (0.02, 0, 2),
        "slack": (True, None, None),
        "gap_s": (2.0, 0, 3600),
        "kv_budget_mib": (None, 0, 10**6),
        "slot_text_tokens": (64, 1, 4096),
        "adaptive": (AdaptiveSettings(), None, None),
        "paper": (PaperSettings(), None, None),
        "fastv": (FastVSettings(), None, None),
        "sparsevlm": (SparseVLMSettings(), None, None),
        "tome": (ToMeSettings(), None, None),
    },
    FastVSettings: {"layer": (2, 1, 255), "ratio": (0.5, 0, 1)},
    SparseVLMSettings: {
        "layers": ([2, 6, 15], 0, 255),
        "scale": (13.5, 0, 4096),
        "bias": (0.0, -4096, 4096),
        "recycle": (0.3, 0, 1),
    },
    ToMeSettings: {"layers": ([0], 0, 255), "ratio": (0.5, 0, 0.5)},
    DecodingSettings: {
        "draft": ("exact", None, None),
        "radius": ([2], 0, 255),
        "ensemble": (0, 0, 64),
        "execute": (0, 0, 1024),
        "rtc_strength": (5.0, 0, 100),
        "rtc_jacobian": ("network", None, None),
    },
    BatchingSettings: {"most": (8, 1, 64), "hold_ms": (100.0, 0, 10_000)},
    GraphSettings: {
        "enabled": (True, None, None),
        "batches": ([1, 2, 4, 8], 1, 64),
        "rows": ([64, 128, 192, 256, 320], 1, 100_000),
    },
    TracingSettings: {"endpoint": (None, None, None), "share": (0.01, 0, 1)},
    LiveSettings: {"enabled": (True, None, None), "most": (8, 1, 256), "rate_hz": (5.0, 1, 30)},
}


@pytest.mark.parametrize("section", SECTIONS)
def test_a_deployment_that_says_nothing_gets_what_was_measured(section):
    """Every knob's default and how far it turns: the paper's own where it is the paper's, ours as calibrated."""
    made = section()
    found = {
        part.name: (getattr(made, part.name), part.metadata.get("low"), part.metadata.get("high"))
        for part in dataclasses.fields(section)
    }

    assert found == KNOBS[section]


@pytest.mark.parametrize("mode", REUSE_MODES)
def test_every_mode_can_be_the_default(mode):
    """A deployment chooses among all modes there are."""
    assert ReuseSettings(mode=mode).mode == mode


@pytest.mark.parametrize("slack", [True, False, "auto"])
def test_pauses_are_used_always_never_or_as_drift_asks(slack):
    """A deployment chooses; any other word is refused with these."""
    assert ReuseSettings(slack=slack).slack == slack
    with pytest.raises(ValueError, match="slack is 'often'; expected true, false or auto"):
        ReuseSettings(slack="often")


def test_a_mode_that_is_none_gets_the_list():
    """Also where no YAML is involved."""
    with pytest.raises(ValueError, match="mode is 'fast'; expected one of off, exact, adaptive, paper, static-only"):
        ReuseSettings(mode="fast")


@pytest.mark.parametrize("draft", ["", "fast"])
def test_a_draft_mode_that_is_none_gets_the_list(draft):
    """Likewise."""
    with pytest.raises(ValueError, match=f"draft is '{draft}'; expected one of exact, strict, relaxed, off"):
        DecodingSettings(draft=draft)


def test_a_radius_is_one_number_at_least():
    """An empty list says nothing of any dimension."""
    with pytest.raises(ValueError, match=r"radius is \[\]; expected one number, or one for each dimension"):
        DecodingSettings(radius=[])


def test_graphs_take_one_batch_size_at_least():
    """Unless none are recorded."""
    with pytest.raises(ValueError, match=r"batches is \[\]; expected one size at least, or enabled: false"):
        GraphSettings(batches=[])
    assert GraphSettings(enabled=False, batches=[]).batches == []


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

"""A selector's features against a plain loop, what its estimates choose, and its files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from stillframe.errors import CheckpointError, ConfigError
from stillframe.reuse.policies import ReusePolicy, reuse_policy
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.selection import TaskRelevance, select
from stillframe.reuse.selector import FEATURES, PatchEvidence, PatchSelector, SelectorForm, within_drift
from stillframe.reuse.selector_file import check_form, load_selector, save_selector
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe.reuse.similarity import IdenticalPrefix, Similarity

GRID, CAMERAS = (3, 4), [slice(0, 12), slice(12, 24)]
TOKENS = 24
FORM = SelectorForm(32, 4, ("front", "wrist"), "text", (0, 1), hidden=5)
CPU = torch.device("cpu")
some = settings(max_examples=max(10, settings().max_examples // 3), derandomize=True)


def evidence(seed: int) -> PatchEvidence:
    """Made up, of two cameras."""
    random = torch.Generator().manual_seed(seed)
    scores = torch.rand(TOKENS, generator=random)
    ages = torch.randint(0, 4, (TOKENS,), generator=random, dtype=torch.int32)
    return PatchEvidence(torch.rand(TOKENS, generator=random), scores / scores.sum(), ages, CAMERAS, GRID)


def around(camera: int, row: int, column: int) -> list[int]:
    """The tokens beside one, itself among them."""
    rows, columns = (range(max(0, at - 1), min(at + 2, end)) for at, end in zip((row, column), GRID, strict=True))
    return [camera * 12 + other * GRID[1] + beside for other in rows for beside in columns]


def selector(seed: int = 0) -> PatchSelector:
    """Random weights that tell tokens apart."""
    torch.manual_seed(seed)
    made = PatchSelector(FORM).eval().requires_grad_(requires_grad=False)
    made.outward.weight.mul_(20)
    return made


def test_features_are_what_they_say() -> None:
    """Token by token: distance and relevance, those around, the camera's mean; age and place."""
    known = evidence(0)
    moved, looked = known.distance.tolist(), (known.scores * TOKENS).tolist()
    rows = []
    for token in range(TOKENS):
        camera, (row, column) = token // 12, divmod(token % 12, GRID[1])
        near, whole = around(camera, row, column), moved[camera * 12 : camera * 12 + 12]
        distances = (
            moved[token],
            sum(moved[at] for at in near) / len(near),
            max(moved[at] for at in near),
            sum(whole) / 12,
        )
        scores = (looked[token], sum(looked[at] for at in near) / len(near))
        logarithms = [*(math.log(one + 1e-3) for one in distances), *(math.log(one + 1e-2) for one in scores)]
        rows.append([*logarithms, int(known.ages[token]), camera, row, column])

    assert len(rows[0]) == FEATURES
    torch.testing.assert_close(known.features(), torch.tensor(rows).float())


def test_a_token_is_judged_by_its_own_features() -> None:
    """Alone or among others, and whatever its number; what it adds is above nothing."""
    features, made = evidence(1).features(), selector()
    added = made(features)

    assert float(added.min()) > 0
    torch.testing.assert_close(made(features[3:4]), added[3:4])
    torch.testing.assert_close(made(features.flip(0)), added.flip(0))
    assert float(added.max() / added.min()) > 2


@some
@given(
    added=st.lists(st.sampled_from([0.001, 0.01, 0.02, 0.5]), min_size=1, max_size=12),
    budget=st.sampled_from([0.0, 0.005, 0.03, 0.1, 9.0]),
    data=st.data(),
)
def test_as_many_as_the_budget_bears(added: list[float], budget: float, data: Any) -> None:
    """The least first, ties by index, those alone that may be; the next would go beyond it."""
    may = data.draw(st.lists(st.booleans(), min_size=len(added), max_size=len(added)))
    chosen = within_drift(torch.tensor(added, dtype=torch.float64), torch.tensor(may), budget).tolist()
    order = sorted((token for token in range(len(added)) if may[token]), key=lambda token: (added[token], token))

    assert chosen == order[: len(chosen)]
    assert sum(added[token] for token in chosen) <= budget + 1e-12
    if len(chosen) < len(order):
        assert sum(added[token] for token in order[: len(chosen) + 1]) > budget - 1e-12


def chosen(policy: ReusePolicy, known: PatchEvidence) -> list[int]:
    """What a policy reuses, whatever its criterion finds static."""
    nothing = torch.zeros(TOKENS, dtype=torch.bool)
    attended = TaskRelevance(Relevance(known.scores, torch.zeros(1)), nothing, 0)
    return sorted(select(Similarity(known.distance, nothing), attended, known.ages, CAMERAS, policy, GRID).tolist())


def test_the_selector_chooses_in_place_of_the_thresholds() -> None:
    """Also what moved or is looked at; but nothing that is too old."""
    known, made = evidence(2), selector()
    added = made(known.features())
    policy = ReusePolicy(IdenticalPrefix(), selector=made, drift=float(added.sum()), age_limit=2)
    less = replace(policy, drift=float(added[known.ages < 2].sum()) / 3)

    assert chosen(policy, known) == (known.ages < 2).nonzero()[:, 0].tolist()
    assert set(chosen(less, known)) < set(chosen(policy, known))
    assert len(chosen(less, known)) > 0


def test_caution_takes_from_what_a_plan_may_drift() -> None:
    """In proportion; full caution leaves nothing."""
    policy = ReusePolicy(IdenticalPrefix(), selector=selector(), drift=0.5, bounded=True)

    assert policy.tightened(0.25).drift == 0.375
    assert chosen(policy.tightened(1.0), evidence(2)) == []


def test_the_settings_make_a_policy_with_it() -> None:
    """Within the drift budget unless another is set; its plans need relevance, and no threshold of it."""
    made = selector()
    adaptive = AdaptiveSettings(selector=Path("x"), task_top_k=7, top_k=3, schedule=[0.5])
    own = ReuseSettings("adaptive", drift_budget=0.25, adaptive=adaptive)
    policy = reuse_policy("adaptive", own, 4, made)
    other = reuse_policy("adaptive", replace(own, adaptive=replace(adaptive, selector_drift=0.0)), 4, made)

    assert policy is not None
    assert other is not None
    assert (policy.selector, policy.drift, policy.task_top_k, policy.needs_relevance) == (made, 0.25, 0, True)
    assert policy.schedule(4, None) == (1.0,) * 4
    assert other.drift == 0
    for mode in ("paper", "static-only", "exact"):
        assert reuse_policy(mode, own, 4, made).selector is None


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Both files; the same estimates to the bit, and what it was trained for."""
    made, file = selector(3), tmp_path / "selector.safetensors"
    made.fit_scale(evidence(0).features())
    save_selector(file, made)
    read = load_selector(file, CPU)

    assert read.form == FORM
    assert torch.equal(read(evidence(4).features()), made(evidence(4).features()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["selector.json", "selector.safetensors"]


def damaged(file: Path, how: str) -> None:
    """Spoil what was written."""
    form, tensors = file.with_suffix(".json"), load_file(file)
    document = json.loads(form.read_text())
    match how:
        case "no form":
            form.unlink()
        case "no tensors":
            file.unlink()
        case "another format":
            form.write_text(json.dumps({**document, "format": "other/1"}))
        case "a key too many":
            form.write_text(json.dumps({**document, "depth": 2}))
        case "no size":
            form.write_text(json.dumps({**document, "hidden": 0}))
        case "another size":
            form.write_text(json.dumps({**document, "hidden": 6}))
        case "a pickle":
            file.write_bytes(b"\x80\x04K\x01.")
        case "not finite":
            save_file({**tensors, "centre": torch.full((FEATURES,), torch.nan)}, file)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no form", "selector.json cannot be read: No such file"),
        ("no tensors", "selector.safetensors cannot be read; expected the tensors that selector.json describes"),
        ("another format", "of format other/1; expected a file of `stillframe train selector`"),
        ("a key too many", "selector.json cannot be read; expected a file of `stillframe train selector`"),
        ("no size", "'hidden': 0"),
        ("another size", "selector.safetensors cannot be read; expected the tensors that selector.json describes"),
        ("a pickle", "it is a Python pickle, which can run code and is never opened here"),
        ("not finite", "tensor centre holds numbers that are not finite"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, how: str, said: str) -> None:
    """In one line that names it."""
    file = tmp_path / "selector.safetensors"
    save_selector(file, selector())
    damaged(file, how)

    with pytest.raises(CheckpointError) as caught:
        load_selector(file, CPU)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"width": 64}, "a decoder of width 32, and here it is 64: train one for this checkpoint"),
        ({"layers": 5}, "a decoder whose number of layers is 4, and here it is 5: train one for this checkpoint"),
        ({"cameras": ("front",)}, "the cameras ('front', 'wrist'), and here it is ('front',): train one"),
        ({"relevance": "expert"}, "reuse.adaptive.relevance text, and here it is expert: set it as it was"),
        ({"relevance_layers": ()}, "reuse.adaptive.relevance_layers (0, 1), and here it is (): set it as it was"),
    ],
)
def test_a_selector_of_another_checkpoint_is_refused(other: dict[str, Any], said: str) -> None:
    """What it was trained for, what is served, and what to do."""
    with pytest.raises(ConfigError) as caught:
        check_form(Path("s.safetensors"), FORM, replace(FORM, **other))
    assert said in str(caught.value)
    check_form(Path("s.safetensors"), FORM, replace(FORM, hidden=99))

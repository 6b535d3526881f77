from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillframe.reuse.policies import NO_LIMIT, ReusePolicy
from stillframe.reuse.relevance import Relevance
from stillframe.reuse.selection import TaskRelevance, select
from stillframe.reuse.similarity import IdenticalPrefix, Similarity

ONE, TWO = [slice(0, 8)], [slice(0, 4), slice(4, 8)]
ALL = [True] * 8


def chosen(
    distance: Sequence[float],
    scores: Sequence[float] | None = None,
    *,
    static: list[bool] = ALL,
    ages: list[int] | None = None,
    cameras: list[slice] = ONE,
    **knobs: Any,
) -> Tensor:
    """Indices of those of eight tokens that are reused, in their order."""
    recipe = ReusePolicy(IdenticalPrefix(), **knobs)
    attended = (
        None
        if scores is None
        else TaskRelevance.of(Relevance(torch.tensor(scores).float(), torch.zeros(1)), cameras, recipe)
    )
    likeness = Similarity(torch.tensor(distance).float(), torch.tensor(static))
    return select(likeness, attended, torch.tensor(ages or [0] * 8), cameras, recipe)


def relevant(scores: list[float], cameras: list[slice] = ONE, **knobs: Any) -> list[int]:
    """Indices of those of eight tokens that the task needs; as many as it says."""
    relevance = Relevance(torch.tensor(scores), torch.zeros(1))
    own = TaskRelevance.of(relevance, cameras, ReusePolicy(IdenticalPrefix(), **knobs))
    assert own.count == own.relevant.sum()
    return indices(own.relevant)


def indices(mask: Tensor) -> list[int]:
    """Where it is True."""
    return list(mask.nonzero()[:, 0].tolist())


RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def test_the_most_similar_come_first() -> None:
    """Not in raster order, as the published code takes them."""
    assert chosen([0.3, 0.1, 0.8, 0.2, 0.7, 0.4, 0.6, 0.5]).tolist() == [1, 3, 0, 5, 7, 6, 4, 2]


def test_ties_go_by_index() -> None:
    """So that a plan is reproducible."""
    assert chosen([0.0] * 8).tolist() == [*range(8)]


def test_what_is_not_static_is_not_reused() -> None:
    """However small its distance."""
    static = [False, True] * 4

    assert chosen(RISING, static=static).tolist() == [1, 3, 5, 7]
    assert chosen(RISING, static=[False] * 8).tolist() == []


def test_the_task_takes_its_share_of_each_camera() -> None:
    """task_top_k is counted camera by camera: a wrist view cannot use up the front view's share."""
    scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]

    assert relevant(scores, task_top_k=2) == [6, 7]
    assert relevant(scores, task_top_k=2, cameras=TWO) == [2, 3, 6, 7]
    assert relevant(scores, task_top_k=9, cameras=TWO) == [*range(8)]
    assert set(chosen(RISING, scores, task_top_k=2, cameras=TWO).tolist()) == {0, 1, 4, 5}


def test_the_task_threshold_is_on_each_cameras_own_scale() -> None:
    """tau_task of the way from a camera's least to its greatest relevance."""
    scores = [0.0, 1.0, 2.0, 4.0, 0.0, 0.01, 0.02, 0.04]

    assert relevant(scores, tau_task=0.5, cameras=TWO) == [2, 3, 6, 7]
    assert relevant(scores, tau_task=0.51, cameras=TWO) == [3, 7]
    assert relevant(scores, tau_task=0.0, cameras=TWO) == [*range(8)]


def test_at_most_top_k_of_each_camera() -> None:
    """The least similar of each are computed."""
    assert chosen(RISING, top_k=3).tolist() == [0, 1, 2]
    assert sorted(chosen(RISING, top_k=1, cameras=TWO).tolist()) == [0, 4]
    assert chosen(RISING, top_k=0).tolist() == []


def test_ours_fills_top_k_after_the_task_has_chosen() -> None:
    """What the task takes away makes room for the next most similar; as published it does not."""
    scores = [1.0, 1.0, 0, 0, 0, 0, 0, 0]

    assert len(chosen(RISING, scores, top_k=3, task_top_k=2)) == 3
    assert chosen(RISING, scores, top_k=3, task_top_k=2, published=True).tolist() == [2]


def test_ours_weighs_relevance_where_it_does_not_forbid() -> None:
    """Of equally similar tokens those that the text looks at least come first; not so in the published way."""
    scores = [0.8, 0.1, 0.7, 0.2, 0.6, 0.3, 0.5, 0.4]

    assert chosen([0.5] * 8, scores, top_k=3).tolist() == [1, 3, 5]
    assert chosen([0.5] * 8, scores, top_k=3, published=True).tolist() == [0, 1, 2]
    assert chosen([0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.1, 0.9], scores, top_k=2).tolist() == [6, 4]


def test_a_token_at_its_age_limit_is_computed() -> None:
    """A limit of three lets a token be reused for three frames: its age is that of the last frame."""
    ages = [0, 1, 2, 3, 4, 5, 2, 3]

    assert chosen(RISING, ages=ages, age_limit=3).tolist() == [0, 1, 2, 6]
    assert chosen(RISING, ages=ages, age_limit=3, published=True).tolist() == [0, 1, 2, 6]
    assert len(chosen(RISING, ages=[10**6] * 8)) == 8


def test_the_task_may_need_what_is_not_static() -> None:
    """Relevance is the pass's before this frame and asks nobody what has moved since."""
    assert chosen(RISING, [0, 0, 0, 0, 0, 0, 1, 2], static=[True] * 7 + [False], task_top_k=2).tolist() == [*range(6)]


TASK = ("task_top_k", "tau_task")
numbers = st.lists(st.floats(0, 2, width=32), min_size=8, max_size=8)


@settings(max_examples=2 * settings().max_examples)
@given(
    distance=numbers,
    scores=st.none() | numbers,
    static=st.lists(st.booleans(), min_size=8, max_size=8),
    ages=st.lists(st.integers(0, 5), min_size=8, max_size=8),
    cameras=st.sampled_from([ONE, TWO, [slice(0, 2), slice(2, 8)]]),
    age_limit=st.integers(1, 6),
    top_k=st.integers(0, 9) | st.just(NO_LIMIT),
    task_top_k=st.integers(0, 9),
    tau_task=st.none() | st.floats(0, 1),
    published=st.booleans(),
)
def test_nothing_forbidden_is_ever_reused(**given_: Any) -> None:
    """Rules 5 and 6 for any input: never a relevant, a changed or an old token, no token twice, top_k a camera."""
    cameras, ages, static = given_["cameras"], given_["ages"], given_["static"]
    distance, scores = given_.pop("distance"), given_.pop("scores")
    order = chosen(distance, scores, **given_).tolist()
    needed = [] if scores is None else relevant(scores, cameras, **{name: given_[name] for name in TASK})

    assert len(order) == len(set(order))
    assert not {*order} & {*needed}
    assert all(static[token] and ages[token] < given_["age_limit"] for token in order)
    for camera in cameras:
        assert sum(camera.start <= token < camera.stop for token in order) <= given_["top_k"]


@dataclass
class Case:
    """What a frame brings to a selection, in whole numbers, so that ties are frequent and products exact."""

    distance: list[int]
    scores: list[int] | None
    static: list[bool]
    ages: list[int]
    cameras: list[slice]
    knobs: dict[str, Any]

    def expected(self) -> list[int]:
        """The same written down token by token: numpy's float32 does the only sums."""
        knobs, scores = self.knobs, self.scores
        young = [token for token in range(8) if self.static[token] and self.ages[token] < knobs["age_limit"]]
        needed = [] if scores is None else self.needed(scores)
        cost: list[Any] = [*self.distance]
        if scores is not None and not knobs["published"]:
            moved = np.array(self.distance, np.float32) + np.float32(1e-6)
            cost = (moved * np.array(scores, np.float32)).tolist()
            young = [token for token in young if token not in needed]
        taken = []
        for camera in self.cameras:
            own = sorted((token for token in young if camera.start <= token < camera.stop), key=cost.__getitem__)
            count = int(knobs["share"] * min(len(own), knobs["top_k"]))
            if scores is not None and not knobs["published"]:
                calm = sorted(own, key=scores.__getitem__)[: int(knobs["share"] * len(own))]
                own = [token for token in own if token in calm]
            taken += own[:count]
        return [token for token in sorted(taken, key=cost.__getitem__) if token not in needed]

    def needed(self, scores: list[int]) -> list[int]:
        """Those that the task looks at."""
        found: list[int] = []
        for camera in self.cameras:
            own = range(8)[camera]
            if self.knobs["tau_task"] is None:
                found += sorted(own, key=lambda token: -scores[token])[: self.knobs["task_top_k"]]
            else:
                low, high = min(scores[token] for token in own), max(scores[token] for token in own)
                found += [token for token in own if scores[token] - low >= self.knobs["tau_task"] * (high - low)]
        return found


few = st.lists(st.integers(0, 3), min_size=8, max_size=8)
cases = st.builds(
    Case,
    distance=few,
    scores=st.none() | st.permutations(range(8)),
    static=st.lists(st.sampled_from([True, True, True, False]), min_size=8, max_size=8),
    ages=few,
    cameras=st.sampled_from([ONE, TWO, [slice(0, 2), slice(2, 8)]]),
    knobs=st.fixed_dictionaries(
        {
            "age_limit": st.integers(1, 4),
            "top_k": st.integers(0, 8) | st.just(NO_LIMIT),
            "share": st.sampled_from([0.0, 0.5, 0.75, 1.0]),
            "task_top_k": st.integers(0, 4),
            "tau_task": st.none() | st.sampled_from([0.25, 0.5, 1.0]),
            "published": st.booleans(),
        }
    ),
)


@settings(max_examples=2 * settings().max_examples)
@given(case=cases)
def test_a_selection_is_what_its_rules_say_token_by_token(case: Case) -> None:
    """Which tokens, and in which order: by cost over all cameras, of each camera a share of what top_k leaves."""
    found = chosen(
        case.distance, case.scores, static=case.static, ages=case.ages, cameras=case.cameras, **case.knobs
    ).tolist()

    assert found == case.expected()


def test_what_did_not_move_goes_by_relevance() -> None:
    """Of tokens at distance zero those that the text looks at least come first."""
    assert chosen([0.0] * 8, [0.8, 0.1, 0.7, 0.2, 0.6, 0.3, 0.5, 0.4]).tolist() == [1, 3, 5, 7, 6, 4, 2, 0]


def test_a_share_is_of_what_top_k_leaves() -> None:
    """Caution halves the tokens that would be reused, not those that might be."""
    assert len(chosen(RISING, top_k=4, share=0.5)) == 2


def test_caution_first_gives_up_what_is_attended_most() -> None:
    """Although it moved least: of eight tokens half are kept, those that the text looks at least, by cost."""
    scores = [0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]

    assert chosen([0.0, 0.0, 0.0, 0.0, 4.0, 3.0, 2.0, 1.0], scores, share=0.5).tolist() == [7, 6, 5, 4]
    assert chosen([0.0, 0.0, 0.0, 0.0, 4.0, 3.0, 2.0, 1.0], scores)[:4].tolist() == [3, 2, 1, 0]


def test_cameras_are_merged_by_cost() -> None:
    """The layers drop the most reusable first, whichever camera's they are."""
    assert chosen([0.1, 0.4, 0.5, 0.8, 0.2, 0.3, 0.6, 0.7], cameras=TWO).tolist() == [0, 4, 5, 1, 2, 6, 7, 3]


def test_a_gap_between_limits_is_filled_as_far_as_it_goes() -> None:
    """Every static, young token that the task does not need is reused where top_k has room for it."""
    static, ages = [True, True, False, True, True, True, True, True], [0, 9, 0, 0, 0, 0, 0, 0]
    scores = [0, 0, 0, 1.0, 0, 0, 0, 0]

    assert sorted(chosen(RISING, scores, static=static, ages=ages, age_limit=3, task_top_k=1).tolist()) == [
        0,
        4,
        5,
        6,
        7,
    ]


@pytest.mark.parametrize("published", [False, True])
def test_without_relevance_nothing_is_relevant(*, published: bool) -> None:
    """Before the first dense pass was listened to, and in static-only."""
    assert len(chosen(RISING, None, task_top_k=4, published=published)) == 8

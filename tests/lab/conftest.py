"""What the lab's tests share: scenes that remember themselves, which evaluations build; checkpoints that load quickly.

Torch is loaded by those who ask for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import pytest

from stillframe_client.sim import JacoEnv
from stillframe_client.sim.state import Vector


class Scenes:
    """Stands where the evaluation takes JacoEnv from: builds real ones and keeps them."""

    def __init__(self) -> None:
        self.built: list[JacoEnv] = []
        self.asked: list[dict[str, Any]] = []  # what each was built with
        self.closed = 0

    def __call__(self, task: str, **options: Any) -> JacoEnv:
        """Build one."""
        env = JacoEnv(task, **options)
        free = env.close

        def close() -> None:
            self.closed += 1
            free()

        env.close = close  # type: ignore[method-assign] # counted
        self.built.append(env)
        self.asked.append({"task": task, **options})
        return env

    def expert(self, _: object) -> Vector:
        """An Act: what the expert would do in the newest scene."""
        return self.built[-1].expert()


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch, needs_gl: None) -> Iterator[Scenes]:  # noqa: ARG001 -- for its skip
    """Evaluations in this test build their scenes here."""
    made = Scenes()
    monkeypatch.setattr("stillframe_lab.evaluation.evaluate.JacoEnv", made)
    yield made
    for env in made.built:
        env.close()  # looking inside after an evaluation opens it anew


@pytest.fixture(scope="module", autouse=True)
def _what_a_load_finds_out_is_remembered() -> Iterator[None]:
    """Decoders of one shape are tested for batch invariance once, and a tokenizer's file is parsed once.

    Most of the time in which a golden's checkpoint loads goes into these two, and many tests load one.
    """
    network = sys.modules.get("stillframe.models.prismatic.network")
    prompt = sys.modules.get("stillframe.models.prismatic.prompt")
    with pytest.MonkeyPatch.context() as patch:
        if network is not None and prompt is not None:
            patch.setattr(network, "is_batch_invariant", remembered(network.is_batch_invariant, shape_of))
            patch.setattr(prompt, "read_tokenizer", remembered(prompt.read_tokenizer, content_of))
        yield


FOUND: dict[Hashable, Any] = {}


def remembered(find: Callable[..., Any], key_of: Callable[..., Hashable]) -> Callable[..., Any]:
    """The same, asked once for each key."""

    def asked(*given: Any) -> Any:
        key = (find.__name__, key_of(*given))
        if key not in FOUND:
            FOUND[key] = find(*given)
        return FOUND[key]

    return asked


def shape_of(decoder: Any) -> Hashable:
    """All that decides how a decoder's products are summed up: sizes, kinds of layers, dtype, device, threads."""
    import torch

    norm = decoder.model.norm.weight
    kinds = tuple(type(module) for module in decoder.modules())
    return repr(decoder.config), kinds, norm.dtype, norm.device, torch.get_num_threads()


def content_of(file: Any, vocabulary: int | None = None) -> Hashable:
    """What a tokenizer is read from."""
    return file.name, file.read_bytes(), vocabulary

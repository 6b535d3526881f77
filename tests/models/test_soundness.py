from __future__ import annotations

import math

import pytest
import torch

from stillframe.models.soundness import unsound, zero_rows

WEIGHT = "language_model.lm_head.weight"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_trained_numbers_are_sound(dtype: torch.dtype) -> None:
    """Some zeros among them are nothing special, and neither are small numbers."""
    tensor = torch.tensor([[0.0, 1e-6], [0.0, -3.0]], dtype=dtype)

    assert unsound(WEIGHT, tensor) is None
    assert unsound(WEIGHT, tensor, last=True) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [WEIGHT, "a.bias", "a.cls_token"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_have_to_be_finite(value: float, name: str, dtype: torch.dtype) -> None:
    """One number is enough, in any tensor: which, and where."""
    tensor = torch.ones(40, 70, dtype=dtype)
    tensor[33, 5] = value

    assert f"tensor {name} holds {value} at (33, 5); weights have to be finite" in str(unsound(name, tensor))


@pytest.mark.parametrize("name", [WEIGHT, "language_model.model.norm.weight", "vision_backbone.featurizer.pos_embed"])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zeros_are_no_weights(name: str, zero: float) -> None:
    """Matrices, norms, positions: and what has probably happened."""
    said = unsound(name, torch.full((4, 4), zero))

    assert f"tensor {name} holds zeros only; room was probably made for a download that stopped" in str(said)


@pytest.mark.parametrize("name", ["fc1.bias", "vision_backbone.featurizer.cls_token", "reg_token"])
def test_what_training_may_leave_at_nought_is_sound(name: str) -> None:
    """Biases begin there."""
    assert unsound(name, torch.zeros(4)) is None
    assert unsound(name, torch.zeros(4), last=True) is None


def test_a_file_that_ends_in_zeros_was_not_fetched_whole() -> None:
    """Half a tensor came; inside of a file as many zeros mean nothing."""
    tensor = torch.ones(4, 64)
    tensor[3] = 0

    assert "the last of its file, ends in zeros" in str(unsound(WEIGHT, tensor, last=True))
    assert unsound(WEIGHT, tensor) is None
    tensor[3, 63] = 1e-9
    assert unsound(WEIGHT, tensor, last=True) is None


def test_a_tensor_without_numbers_is_no_weight() -> None:
    """A side of length nought."""
    assert f"tensor {WEIGHT} holds no numbers" in str(unsound(WEIGHT, torch.zeros(0, 4)))


def test_rows_that_all_have_to_mean_something() -> None:
    """The first that does not, and how many more."""
    rows = torch.ones(6, 3)
    assert zero_rows(WEIGHT, rows, 100) is None
    rows[[2, 4, 5]] = 0

    assert f"tensor {WEIGHT} holds zeros only in row 102 and 2 more; " in str(zero_rows(WEIGHT, rows, 100))

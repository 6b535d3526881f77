from __future__ import annotations

import pytest

from stillframe.models.tensor_names import naming_hint

NAME = "language_model.lm_head.weight"


@pytest.mark.parametrize(
    ("missing", "stored", "said"),
    [
        ((NAME,), ("language_model.lm_head.qweight",), "; by their names its weights are quantised"),
        ((), (NAME, f"{NAME}.absmax"), "; by their names its weights are quantised"),
        ((NAME,), ("language_model.lm_head.base_layer.weight",), "; by their names a LoRA adapter is not merged yet"),
        ((), (NAME, "language_model.lm_head.lora_A.default.weight"), "; by their names a LoRA adapter is not merged"),
        ((NAME,), (f"module.{NAME}",), "; its names begin with 'module.': save the model without"),
        ((NAME,), (f"_orig_mod.{NAME}",), "; its names begin with '_orig_mod.'"),
        ((NAME,), ("language_model.norm.weight",), ""),
        ((), (f"module.{NAME}",), ""),
    ],
)
def test_names_tell_how_weights_were_saved(missing: tuple[str, ...], stored: tuple[str, ...], said: str) -> None:
    """And nothing where they tell nothing."""
    assert naming_hint(missing, stored).startswith(said)
    assert bool(naming_hint(missing, stored)) == bool(said)

"""How a checkpoint was saved, by the names of its tensors, where they are not the expected ones.

Knows what training and quantising leave in names; no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

QUANTISED = (".qweight", ".qzeros", ".scales", ".absmax", ".quant_map", ".SCB", ".weight_scale", ".weight_packed")
ADAPTED = (".lora_A.", ".lora_B.", ".base_layer.", ".lora_magnitude_vector")
WRAPPERS = ("module.", "_orig_mod.", "model.", "base_model.model.", "_fsdp_wrapped_module.", "policy.", "vla.")


def naming_hint(missing: Sequence[str], stored: Iterable[str]) -> str:
    """A clause, '; ...', on what the `stored` names say about `missing` ones; empty for nothing."""
    names = set(stored)
    if any(name.endswith(QUANTISED) for name in names):
        return "; by their names its weights are quantised: only F32, F16 and BF16 are served"
    if any(part in name for part in ADAPTED for name in names):
        return "; by their names a LoRA adapter is not merged yet: call merge_and_unload and save that"
    for wrapper in WRAPPERS:
        if missing and f"{wrapper}{missing[0]}" in names:
            return f"; its names begin with {wrapper!r}: save the model without what was wrapped round it"
    return ""

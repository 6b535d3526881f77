"""A selector's two files: FILE.safetensors, and beside it FILE.json, which says what it was trained for.

Knows their layout; not what a selector is asked. Nothing is unpickled.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from stillframe.errors import CheckpointError, ConfigError
from stillframe.files.json import read_object
from stillframe.files.kinds import mistaken, shown
from stillframe.files.writing import write_whole
from stillframe.reuse.selector import FEATURES, PatchSelector, SelectorForm

FORMAT = "stillframe-selector/1"
LARGEST_HIDDEN = 1024
EXPECTED = f"a file of `stillframe train selector`, which names the format {FORMAT}"
TRAIN = "train one for this checkpoint with `stillframe train selector`, or set it to null"
NAMES = {
    "width": "a decoder of width",
    "layers": "a decoder whose number of layers is",
    "cameras": "the cameras",
    "relevance": "reuse.adaptive.relevance",
    "relevance_layers": "reuse.adaptive.relevance_layers",
}
SET = "set it as it was, or train another with `stillframe train selector`"
CURES = {"relevance": SET, "relevance_layers": SET}


def save_selector(file: Path, selector: PatchSelector) -> None:
    """Write both; the tensors, written last, whole or not at all."""
    _form_file(file).write_text(
        json.dumps({"format": FORMAT, **asdict(selector.form)}, indent=2) + "\n", encoding="utf-8"
    )
    tensors = {name: tensor.contiguous() for name, tensor in selector.state_dict().items()}

    def write(part: Path) -> None:
        save_file(tensors, part)
        part.chmod(0o644)  # safetensors gives it to its owner alone; a daemon may run under another account

    write_whole(file, write)


def load_selector(file: Path, device: torch.device) -> PatchSelector:
    """Read both. Raises CheckpointError for one that is missing or does not fit."""
    selector = PatchSelector(_form(_form_file(file)))
    try:
        _check_shapes(file, selector)
        selector.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        kind = mistaken(file)
        raise CheckpointError(
            f"{shown(file)} cannot be read{f': it {kind}' if kind else ''}; expected the tensors that "
            f"{_form_file(file).name} describes, as `stillframe train selector` wrote them"
        ) from error
    for name, tensor in selector.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{shown(file)}: tensor {name} holds numbers that are not finite; it is damaged")
    return selector.to(device).eval().requires_grad_(requires_grad=False)


def check_form(file: Path, trained: SelectorForm, served: SelectorForm) -> None:
    """Raise ConfigError where a selector was trained for another checkpoint, or other settings, than are served."""
    for name, wanted in asdict(served).items():
        given = getattr(trained, name)
        if name != "hidden" and given != wanted:
            raise ConfigError(
                f"reuse.adaptive.selector {shown(file)} was trained for {NAMES[name]} {shown(given)}, and here it is "
                f"{shown(wanted)}: {CURES.get(name, TRAIN)}"
            )


def _form_file(file: Path) -> Path:
    return file.with_suffix(".json")


def _form(file: Path) -> SelectorForm:
    document: dict[str, Any] = read_object(file)
    try:
        said = document.pop("format")
        lists = {name: tuple(document[name]) for name in ("cameras", "relevance_layers")}
        form = SelectorForm(**{**document, **lists})
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{shown(file)} cannot be read; expected {EXPECTED}") from error
    whole = all(type(size) is int and size > 0 for size in (form.width, form.layers, form.hidden))
    if said != FORMAT or not whole or form.hidden > LARGEST_HIDDEN:
        raise CheckpointError(f"{shown(file)} says {shown(document)} of format {shown(said)}; expected {EXPECTED}")
    return form


def _check_shapes(file: Path, selector: PatchSelector) -> None:
    """Raise ValueError for tensors of other sizes, before they are read."""
    with safe_open(file, framework="pt") as tensors:
        found = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    wanted = {name: tuple(tensor.shape) for name, tensor in selector.state_dict().items()}
    if found != wanted:
        raise ValueError(f"tensors {found}; expected {wanted}, of {FEATURES} features")

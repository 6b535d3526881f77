"""A checkpoint folder on disk: its JSON files and its tensors, checked before use.

Knows files, names and shapes; no family. Never unpickles and never runs a checkpoint's code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from stillframe.errors import CheckpointError, ConfigError
from stillframe.models.graphs.memory import too_heavy

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
NAMED_AT_ONCE = 5  # tensors listed in an error before "and n more"


class CheckpointFolder:
    """Reads one folder in the Hugging Face layout."""

    def __init__(self, path: Path):
        self.path = path
        if not path.is_dir():
            raise CheckpointError(f"{path} is not a folder; expected a checkpoint with config.json and safetensors")

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object that has to be there."""
        file = self.file(name)
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{file} is not JSON ({error})") from error
        if not isinstance(value, dict):
            raise CheckpointError(f"{file} holds a {type(value).__name__}; expected a JSON object")
        return value

    def file(self, name: str) -> Path:
        """A file that has to be there."""
        file = self.path / name
        if not file.is_file():
            found = ", ".join(sorted(entry.name for entry in self.path.iterdir())) or "nothing"
            raise CheckpointError(f"{self.path} lacks {name}; found: {found}")
        return file

    def has(self, name: str) -> bool:
        """Whether an optional file is there."""
        return (self.path / name).is_file()

    def tensor_files(self) -> dict[str, Path]:
        """Tensor name -> the file that holds it, by the index where there is one."""
        if self.has(INDEX_NAME):
            weight_map = self.json(INDEX_NAME).get("weight_map")
            if not isinstance(weight_map, dict):
                raise CheckpointError(f"{self.path / INDEX_NAME} lacks `weight_map`")
            named = {name: _plain_name(shard) for name, shard in weight_map.items()}
            shards = {shard: self.file(shard) for shard in set(named.values())}
            return {name: shards[shard] for name, shard in named.items()}
        single = self.file(SINGLE_NAME)
        with _opened(single) as tensors:
            return dict.fromkeys(tensors.keys(), single)

    def load_into(self, module: nn.Module, *, dtype: torch.dtype, device: torch.device, unused: Iterable[str]) -> None:
        """Fill `module` (on any device, meta included) from the tensors of the same names.

        Every tensor is checked first, so nothing is half loaded. Names that start with one of `unused` are passed over.
        Raises ConfigError for more weights than a GPU has room for.
        """
        files = self.tensor_files()
        wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        self._check_names(wanted, files, tuple(unused))
        self._check_shapes(wanted, files)
        _check_room(module, dtype, device)
        loaded: dict[str, Tensor] = {}
        for file in sorted({files[name] for name in wanted}):
            with _opened(file) as tensors:
                here = [name for name in wanted if files[name] == file]
                # A copy: who overwrites the file of a mapped tensor ends the daemon with a bus error.
                loaded |= {name: tensors.get_tensor(name).to(device, dtype, copy=True) for name in here}
        module.load_state_dict(loaded, strict=True, assign=True)

    def _check_names(self, wanted: Mapping[str, object], files: Mapping[str, Path], unused: tuple[str, ...]) -> None:
        """Nothing missing, nothing that we do not understand."""
        missing = [name for name in wanted if name not in files]
        if missing:
            raise CheckpointError(f"{self.path} lacks {_listed('tensor', missing)}")
        strangers = [name for name in files if name not in wanted and not name.startswith(unused)]
        if strangers:
            raise CheckpointError(f"{self.path} holds {_listed('unknown tensor', strangers)}; is it another variant?")

    def _check_shapes(self, wanted: Mapping[str, tuple[int, ...]], files: Mapping[str, Path]) -> None:
        """Every shape as the configuration says, and every number a float."""
        for file in sorted({files[name] for name in wanted}):
            with _opened(file) as tensors:
                stored = set(tensors.keys())
                for name in (name for name in wanted if files[name] == file):
                    if name not in stored:
                        raise CheckpointError(f"{file} lacks tensor {name}, which {INDEX_NAME} promises")
                    _check_one(file, name, tensors.get_slice(name), wanted[name])


def _check_room(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    if device.type == "cuda":
        weights = sum(tensor.numel() for tensor in module.state_dict().values()) * dtype.itemsize
        refusal = too_heavy(weights, torch.cuda.mem_get_info(device)[0], dtype.itemsize)
        if refusal is not None:
            raise ConfigError(refusal)


def _check_one(file: Path, name: str, stored: Any, expected: tuple[int, ...]) -> None:
    found = tuple(stored.get_shape())
    if found != expected:
        raise CheckpointError(
            f"{file}: tensor {name} has shape {found}, expected {expected} by config.json; "
            "check that weights and config.json belong together"
        )
    if stored.get_dtype() not in {"F32", "F16", "BF16", "F64"}:
        raise CheckpointError(f"{file}: tensor {name} is {stored.get_dtype()}; expected F32, F16 or BF16")


def _opened(file: Path) -> Any:
    """Memory-map a safetensors file."""
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is not a readable safetensors file ({error})") from error


def _plain_name(name: object) -> str:
    """A shard's name from the index, which must not lead out of the folder."""
    if not isinstance(name, str) or Path(name).name != name:
        raise CheckpointError(f"{INDEX_NAME} names the shard {name!r}; expected a plain file name")
    return name


def _listed(what: str, names: list[str]) -> str:
    """'3 tensors: a, b, c' or '... and 7 more'."""
    more = len(names) - NAMED_AT_ONCE
    shown = ", ".join(names[:NAMED_AT_ONCE]) + (f" and {more} more" if more > 0 else "")
    return f"{what} {shown}" if len(names) == 1 else f"{len(names)} {what}s: {shown}"

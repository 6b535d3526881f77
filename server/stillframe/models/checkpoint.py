"""A checkpoint folder on disk: its JSON files and its tensors, checked before use.

Knows files, names and shapes; no family. Never unpickles and never runs a checkpoint's code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from stillframe.errors import CheckpointError, ConfigError
from stillframe.files.json import read_object, reading
from stillframe.files.kinds import shown
from stillframe.models.folder_kinds import absent, entries, instead
from stillframe.models.graphs.gpu_budget import weights_exceed
from stillframe.models.hub.ids import snapshot_id
from stillframe.models.soundness import unsound
from stillframe.models.tensor_files import Stored, header, opened
from stillframe.models.tensor_names import naming_hint

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
STATISTICS = "dataset_statistics.json"
NOTHING: Mapping[str, float] = MappingProxyType({})
NAMED_AT_ONCE = 5  # tensors listed in an error before "and n more"
LONGEST_NAME = 255  # bytes of a file's name, on every file system there is


class TensorsDiffer(CheckpointError):
    """Tensors of other names than are read: `missing` are not stored, `unknown` are, and feed nothing."""

    def __init__(self, text: str, missing: list[str], unknown: list[str]):
        super().__init__(text)
        self.missing = missing
        self.unknown = unknown


class CheckpointFolder:
    """Reads one folder in the Hugging Face layout."""

    def __init__(self, path: Path, config: Mapping[str, Any] | None = None):
        """`config`: keys that take the place of those in config.json."""
        self.path = path
        self.config = dict(config or {})
        with reading(path):
            is_folder = path.is_dir()
        if not is_folder:
            raise CheckpointError(absent(path))

    @property
    def statistics_in(self) -> str:
        """Where its data sets' statistics are, for an inspection."""
        return STATISTICS if self.has(STATISTICS) else "config.json, norm_stats"

    @property
    def name(self) -> str:
        """What the checkpoint is called: its folder's name, or its repository's where that is one of the hub."""
        source = snapshot_id(self.path)
        return self.path.resolve().name if source is None else source.repository.partition("/")[2]

    @property
    def names(self) -> list[str]:
        """Files and folders in it, sorted; of a very large one only the first found."""
        return entries(self.path)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object that has to be there."""
        found = read_object(self.file(name))
        return {**found, **self.config} if name == "config.json" else found

    def file(self, name: str) -> Path:
        """A file that has to be there."""
        file = self.path / name
        with reading(file):
            if not file.is_file():
                raise CheckpointError(f"{shown(self.path)} lacks {shown(name)}{instead(self.path, name)}")
        return file

    def has(self, name: str) -> bool:
        """Whether an optional file is there. A link that leads nowhere is there: reading it says so."""
        file = self.path / name
        with reading(file):
            return file.is_file() or (file.is_symlink() and not file.exists())

    @cached_property
    def stored(self) -> Mapping[str, tuple[Path, Stored]]:
        """Tensor name -> the file that holds it, and what its header says; by the index where there is one."""
        files = self.tensor_files()
        headers = {file: header(file) for file in sorted(set(files.values()))}
        for name, file in files.items():
            if name not in headers[file]:
                raise CheckpointError(f"{shown(file)} lacks tensor {shown(name)}, which {INDEX_NAME} promises")
        return {name: (file, headers[file][name]) for name, file in files.items()}

    def opened(self, file: Path) -> AbstractContextManager[Any]:
        """The tensors of one file, memory-mapped, by `get_tensor(name)`."""
        return opened(file)

    def tensor_files(self) -> dict[str, Path]:
        """Tensor name -> the file that holds it, by the index where there is one."""
        if self.has(INDEX_NAME):
            named = self.shards()
            shards = {shard: self.file(shard) for shard in set(named.values())}
            return {name: shards[shard] for name, shard in named.items()}
        single = self.file(SINGLE_NAME)
        return dict.fromkeys(header(single), single)

    def shards(self) -> dict[str, str]:
        """Tensor name -> the name of the file that holds it, by the index, which has to be there."""
        weight_map = self.json(INDEX_NAME).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(
                f"{shown(self.path / INDEX_NAME)} lacks `weight_map`; expected the file of each tensor, by name"
            )
        return {name: _plain_name(shard) for name, shard in weight_map.items()}

    def check_sizes(
        self, sizes: Mapping[str, int], counts: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        """Refuse sizes that contradict the weights, before anything of such a size is built.

        `sizes`: keys of config.json that are a side of some tensor; `counts`: those of which each has tensors;
        `shapes`: of some tensors, of which one that is missing is left to `load_into`.
        """
        longest = max((side for _, one in self.stored.values() for side in one.shape), default=0)
        for key, size in sizes.items():
            if size > longest:
                raise CheckpointError(
                    self._too_large(key, size, f"no side of a stored tensor is longer than {longest}")
                )
        for key, count in counts.items():
            if count > len(self.stored):
                raise CheckpointError(self._too_large(key, count, f"there are {len(self.stored)} tensors in all"))
        for name, shape in shapes.items():
            if name in self.stored:
                _check_one(name, *self.stored[name], shape)

    def load_into(
        self,
        module: nn.Module,
        *,
        dtype: torch.dtype,
        device: torch.device,
        unused: Iterable[str],
        quantised: Mapping[str, float] = NOTHING,
    ) -> None:
        """Fill `module` (on any device, meta included) from the tensors of the same names.

        Every tensor is checked first, so nothing is half loaded. Names that start with one of `unused` are passed over.
        On device meta that is all: no number is read. Raises ConfigError for more weights than a GPU has room for.

        `quantised`: names of weights -> bytes a number that they will take. They come as they are stored, in the file's
        own mapping: of such weights memory never holds more than the one that is quantised next.
        """
        wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        self._check_names(wanted, tuple(unused))
        for name, shape in wanted.items():
            _check_one(name, *self.stored[name], shape)
        if device.type == "meta":
            module.to(dtype)
            return
        _check_room(module, dtype, device, quantised)
        loaded: dict[str, Tensor] = {}
        for file in sorted({self.stored[name][0] for name in wanted}):
            here = [name for name in wanted if self.stored[name][0] == file]
            loaded |= self._loaded(file, here, dtype, device, quantised)
        module.load_state_dict(loaded, strict=True, assign=True)

    def dtype_of(self, name: str, dtype: torch.dtype) -> torch.dtype:  # noqa: ARG002 (a family's folder may say otherwise)
        """What a tensor is loaded in, of weights that are to be in `dtype`."""
        return dtype

    def _loaded(
        self, file: Path, names: list[str], dtype: torch.dtype, device: torch.device, mapped: Collection[str]
    ) -> dict[str, Tensor]:
        """The tensors of one file, each with numbers that can be weights."""
        last = max(one.end for held, one in self.stored.values() if held == file)
        made: dict[str, Tensor] = {}
        with self.opened(file) as tensors:
            for name in names:
                made[name] = tensors.get_tensor(name)
                if name not in mapped:  # a copy: a mapped tensor whose file is overwritten ends the daemon with SIGBUS
                    made[name] = made[name].to(device, self.dtype_of(name, dtype), copy=True)
                fault = unsound(name, made[name], last=self.stored[name][1].end == last)
                if fault is not None:
                    raise CheckpointError(f"{shown(file)}: {fault}")
        return made

    def _check_names(self, wanted: Mapping[str, object], unused: tuple[str, ...]) -> None:
        """No tensor is missing, none is unknown."""
        missing = [name for name in wanted if name not in self.stored]
        strangers = [name for name in self.stored if name not in wanted and not name.startswith(unused)]
        if missing:
            text = f"{shown(self.path)} lacks {_listed('tensor', missing)}{naming_hint(missing, self.stored)}"
            raise TensorsDiffer(text, missing, strangers)
        if strangers:
            raise TensorsDiffer(
                f"{shown(self.path)} holds {_listed('unknown tensor', strangers)}; is it another variant?"
                f"{naming_hint((), strangers)}",
                missing,
                strangers,
            )

    def _too_large(self, key: str, size: int, why: str) -> str:
        return (
            f"{shown(self.path)}: config.json says {key} is {size}, but {why}; "
            "check that weights and config.json belong together"
        )


def _check_room(
    module: nn.Module, dtype: torch.dtype, device: torch.device, quantised: Mapping[str, float] = NOTHING
) -> None:
    if device.type == "cuda":
        sizes = {name: tensor.numel() for name, tensor in module.state_dict().items()}
        weights = round(sum(size * quantised.get(name, dtype.itemsize) for name, size in sizes.items()))
        refusal = weights_exceed(weights, torch.cuda.mem_get_info(device)[0], dtype.itemsize, quantised=bool(quantised))
        if refusal is not None:
            raise ConfigError(refusal)


def _check_one(name: str, file: Path, stored: Stored, expected: tuple[int, ...]) -> None:
    if stored.shape != expected:
        raise CheckpointError(
            f"{shown(file)}: tensor {name} has shape {stored.shape}, expected {expected} by config.json; "
            "check that weights and config.json belong together"
        )
    if stored.dtype not in {"F32", "F16", "BF16", "F64"}:
        raise CheckpointError(f"{shown(file)}: tensor {name} is {shown(stored.dtype)}; expected F32, F16 or BF16")


def _plain_name(name: object) -> str:
    """A shard's name from the index, which must not lead out of the folder."""
    if not isinstance(name, str) or Path(name).name != name:
        raise CheckpointError(f"{INDEX_NAME} names the shard {shown(repr(name))}; expected a plain file name")
    if len(name.encode()) > LONGEST_NAME or not name.isprintable():
        raise CheckpointError(
            f"{INDEX_NAME} names the shard {shown(repr(name))}; expected at most {LONGEST_NAME} bytes"
        )
    return name


def _listed(what: str, names: list[str]) -> str:
    """'3 tensors: a, b, c' or '... and 7 more'."""
    more = len(names) - NAMED_AT_ONCE
    listed = ", ".join(map(shown, names[:NAMED_AT_ONCE])) + (f" and {more} more" if more > 0 else "")
    return f"{what} {listed}" if len(names) == 1 else f"{len(names)} {what}s: {listed}"

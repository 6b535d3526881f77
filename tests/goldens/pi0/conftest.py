"""What openpi and lerobot returned on tiny random checkpoints of pi0 and pi0.5, and these, loaded by us.

Knows where the files lie; no test. Lerobot's folders have openpi's weights under other names: they are made here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from stillframe.models.pi0.model import Pi0
from stillframe.models.registry import load_policy

HERE = Path(__file__).parent
LEROBOT = "-lerobot"

Record = Mapping[str, NDArray[Any]]


@pytest.fixture(scope="session")
def pi0_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """'pi0-micro', 'pi05-micro-lerobot', ... -> the folder, as it would be published, the tokenizer beside it."""
    made = tmp_path_factory.mktemp("pi0")

    def folder(name: str) -> Path:
        if not name.endswith(LEROBOT):
            return HERE / name
        if not (made / name).exists():
            shutil.copytree(HERE / name, made / name)
            plain = HERE / name.removesuffix(LEROBOT)
            shutil.copy(plain / "paligemma_tokenizer.model", made / name / "tokenizer.model")
            tensors = load_file(plain / "model.safetensors")
            save_file({f"model.{key}": each for key, each in tensors.items()}, made / name / "model.safetensors")
        return made / name

    return folder


@pytest.fixture(scope="session")
def pi0_record() -> Callable[[str], Record]:
    """The record of a folder's name: what went in, and what came out."""

    def record(name: str) -> Record:
        with np.load(HERE / f"{name}.npz") as arrays:
            found = dict(arrays)
        if name.endswith(LEROBOT):
            with np.load(HERE / f"{name.removesuffix(LEROBOT)}.npz") as arrays:
                found = {**{key: arrays[key] for key in arrays if is_input(key)}, **found}
        return found

    return record


@pytest.fixture(scope="session")
def pi0_policy(pi0_folder: Callable[[str], Path]) -> Callable[..., Pi0]:
    """Load a folder by its name; `keys` in place of those in its config.json."""

    def policy(name: str, keys: Mapping[str, Any] | None = None, dtype: torch.dtype = torch.float32) -> Pi0:
        loaded = load_policy(pi0_folder(name), dtype=dtype, device=torch.device("cpu"), config=keys)
        assert isinstance(loaded, Pi0)
        return loaded

    return policy


def is_input(key: str) -> bool:
    """Whether a key of the record is what went in."""
    return key in {"states", "instructions"} or "_i" not in key

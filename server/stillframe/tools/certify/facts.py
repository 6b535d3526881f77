"""Facts that a certificate states beside its figures: machine, versions, settings, and digests of a checkpoint's files.

Knows Linux's files, torch's build and a deployment; no host's, user's or folder's name gets in.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from stillframe import __version__
from stillframe.daemon.config import DaemonConfig
from stillframe.domain import PolicyInfo
from stillframe.files.json import reading
from stillframe.models.hub.ids import HubId, snapshot_id
from stillframe.models.hub.listed import ListedFolder
from stillframe.models.registry import files_read
from stillframe.tools.certify.certificate import CheckpointFacts, MachineFacts
from stillframe.tools.machine import commit, cpu_flags, machine

# Of /proc/cpuinfo: what decides which kernels multiply, and in which order they add.
FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "bf16", "i8mm", "sve"),
)
PACKAGES = ("torch", "transformers", "numpy", "tokenizers", "sentencepiece", "safetensors", "pillow", "torchao")
# Keys of a deployment that answers depend on. The checkpoint's place is not among them.
SETTINGS = (
    *("checkpoint_config", "device", "dtype", "weights", "threads", "unnorm_key", "cameras", "center_crop"),
    *("decoding", "graphs", "reuse", "history"),
)
CHUNK_BYTES = 2**20


def load_average() -> list[float]:
    """Of 1, 5 and 15 minutes."""
    return [round(load, 2) for load in os.getloadavg()]


def machine_facts(info: PolicyInfo, loads: list[list[float]]) -> MachineFacts:
    """Of a policy that is loaded; `loads`: load averages before and after the ticks."""
    found = machine()
    return MachineFacts(
        cpu=found["cpu"],
        cpu_flags=[flag for flag in FLAGS if flag in cpu_flags()],
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        cores=found["cores"],
        threads=torch.get_num_threads(),
        gpu=None if info.device == "cpu" else _gpu(torch.device(info.device)),
        batch_invariant=info.batch_invariant,
        load_average=loads,
    )


def runs_on_one_thread(info: PolicyInfo) -> bool:
    """Whether one thread does all of a policy's work."""
    return info.device == "cpu" and torch.get_num_threads() == 1


def versions() -> dict[str, str | None]:
    """Name -> version; null where it is not installed, or not known."""
    found: dict[str, str | None] = {name: _version(name) for name in PACKAGES}
    return {
        "stillframe": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()}",
        "cuda": torch.version.cuda,
        **found,
    }


def settings_of(deployment: DaemonConfig) -> dict[str, Any]:
    """As its YAML would say them, with torch's threads."""
    return {**deployment.model_dump(mode="json", include={*SETTINGS}), "threads": torch.get_num_threads()}


def checkpoint_facts(folder: Path, info: PolicyInfo) -> CheckpointFacts:
    """With the digest of every file that the family reads."""
    snapshot = snapshot_id(folder)
    files = digests(folder)
    return CheckpointFacts(
        name=info.name,
        source=None if snapshot is None else str(snapshot),
        family=info.family,
        parameters=info.parameters,
        files=files,
        sha256=digest_of(files),
    )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that the checkpoint's family reads, those of a trained history too, sorted by name."""
    with reading(folder):
        sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in _files(folder)}
    names = files_read(ListedFolder(folder, HubId(folder.name), sizes))
    return {name: _sha256(folder / name) for name in sorted({*names})}


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder; those of a linked folder, as the hub's cache and run folders have them, too."""
    for place, _, names in os.walk(folder, followlinks=True):
        yield from (file for name in names if (file := Path(place, name)).is_file())


def digest_of(files: Mapping[str, str]) -> str:
    """Over the files' digests: what `sha256sum FILES | sha256sum` prints, with FILES sorted by name."""
    return hashlib.sha256("".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()).hexdigest()


def _sha256(file: Path) -> str:
    hashed = hashlib.sha256()
    with reading(file), file.open("rb") as opened:
        while part := opened.read(CHUNK_BYTES):
            hashed.update(part)
    return hashed.hexdigest()


def _gpu(device: torch.device) -> str:
    found = torch.cuda.get_device_properties(device)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB, compute capability {found.major}.{found.minor}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

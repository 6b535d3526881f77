"""Looks at a checkpoint's folder: names, shapes and JSON; no weight is read into memory.

Knows what any family tells of itself; no family. What only numbers show (NaN, a download that stopped in zeros) is
found when the checkpoint is served.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch

from stillframe.domain import PolicyInfo
from stillframe.errors import CheckpointError
from stillframe.models.augmented import augmented
from stillframe.models.checkpoint import CheckpointFolder, TensorsDiffer
from stillframe.models.components import Component, Described, disk_bytes, numbers
from stillframe.models.hub.ids import snapshot_id
from stillframe.models.quantised.quantise import bytes_by_scheme
from stillframe.models.registry import load_policy, open_folder
from stillframe.models.tensor_files import Stored
from stillframe.tools.inspect.findings import Findings, Names, PartSize, TensorTotals
from stillframe.web.service.model_card import model_card

# As it is served, not stored.
MEASURED = ("source", "device", "dtype", "weights", "weight_bytes", "batch_invariant", "draft", "history", "profile")


def inspect(path: Path, config: Mapping[str, Any] | None = None) -> Findings:
    """What the folder is. A checkpoint that would be refused has that as `refusal`, and what was found before it.

    `config`: keys in place of those in its config.json. Raises ConfigError for those that its family does not have.
    """
    said: list[str] = []
    snapshot = snapshot_id(path)
    found = Findings(str(path), None if snapshot is None else str(snapshot))
    try:
        with _notes(said):
            family, folder = open_folder(path, config)
            found = _stored(replace(found, family=family), folder)
            policy = load_policy(path, dtype=torch.float32, device=torch.device("meta"), config=config)
            found = _described(found, folder, cast("Described", policy))
    except CheckpointError as error:
        found = _refused(found, error)
    if sign := augmented(path):
        said.append(f"{sign}: fine-tuned with image augmentation, it may want 'center_crop: 0.9'")
    return replace(found, notes=said)


def _stored(found: Findings, folder: CheckpointFolder) -> Findings:
    """With the totals of the tensors that the folder holds."""
    stored = {name: one for name, (_, one) in folder.stored.items()}
    begins = dict.fromkeys(name.partition(".")[0] for name in stored)
    groups = {
        begin: _totals(one for name, one in stored.items() if name.partition(".")[0] == begin) for begin in begins
    }
    return replace(found, stored=_totals(stored.values()), groups=groups)


def _described(found: Findings, folder: CheckpointFolder, policy: Described) -> Findings:
    """With what the policy says of itself."""
    parts, info = policy.components(folder), policy.info
    read = {name: one for part in parts for name, one in part.stored.items()}
    everything = {**{name: one for name, (_, one) in folder.stored.items()}, **read}
    return replace(
        found,
        stored=_totals(everything.values()),
        parts=[_size(part) for part in parts],
        unused=Names.of([name for name in folder.stored if name not in read]),
        statistics_in=folder.statistics_in,
        statistics=dict(info.norm_stats),
        memory=bytes_by_scheme(info.parameters, policy.decoder, torch.bfloat16.itemsize),
        contract=_contract(info),
        state=None if info.state is None else asdict(info.state),
        tokenizer=policy.tokenizer_facts,
    )


def _refused(found: Findings, error: CheckpointError) -> Findings:
    differ = error if isinstance(error, TensorsDiffer) else None
    missing, unknown = (differ.missing, differ.unknown) if differ else ([], [])
    return replace(found, refusal=str(error), missing=Names.of(missing), unknown=Names.of(unknown))


def _contract(info: PolicyInfo) -> dict[str, Any]:
    """As /v1/models says it, without what is known only of a checkpoint that is served, and statistics said already."""
    card = model_card(info).model_dump(mode="json")
    return {key: value for key, value in card.items() if key not in (*MEASURED, "norm_stats")}


def _size(part: Component) -> PartSize:
    return PartSize(part.name, part.layers, part.width, part.heads, _totals(part.stored.values()))


def _totals(stored: Iterable[Stored]) -> TensorTotals:
    tensors = list(stored)
    dtypes = dict(Counter(one.dtype for one in tensors).most_common())
    return TensorTotals(len(tensors), sum(map(numbers, tensors)), sum(map(disk_bytes, tensors)), dtypes)


@contextlib.contextmanager
def _notes(said: list[str]) -> Iterator[None]:
    """Keep what the models' rooms log while they read, instead of printing it."""

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log, keep = logging.getLogger("stillframe.models"), Keep()
    before = log.propagate, log.level
    log.addHandler(keep)
    log.propagate, log.level = False, logging.INFO
    try:
        yield
    finally:
        log.removeHandler(keep)
        log.propagate, log.level = before

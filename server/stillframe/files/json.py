"""Reads a checkpoint's JSON within bounds: bytes, depth, each key once.

Knows JSON; not what a document is about.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stillframe.errors import CheckpointError
from stillframe.files.kinds import mistaken, shown

MOST_BYTES = 8 * 2**20  # openvla-7b's config.json and index have 0.1 MiB each
DEEPEST = 64


def read_object(file: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in `file`. Raises CheckpointError, in one line, for whatever else is there."""
    with reading(file):
        value = parse(file, _text(file, most_bytes))
    if not isinstance(value, dict):
        raise CheckpointError(f"{shown(file)} holds a {type(value).__name__}; expected a JSON object")
    return value


def parse(file: Path, text: str) -> Any:
    """`text` as JSON; `file` is what errors name."""
    try:
        value = json.loads(text, object_pairs_hook=_once)
        _check_depth(value)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text, and cannot be shown
    except (RecursionError, _TooDeep) as error:
        raise CheckpointError(
            f"{shown(file)} is not JSON that we read: it is nested deeper than {DEEPEST} levels"
        ) from error
    except ValueError as error:
        kind = mistaken(file)
        why = f": it {kind}" if kind else f" ({shown(error)})"
        raise CheckpointError(f"{shown(file)} is not JSON{why}") from error
    return value


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn OSError and MemoryError while `file` is read into a CheckpointError that names it."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{shown(file)} cannot be read: {error.strerror or error}; check the disk and who may read the file"
        ) from error
    except MemoryError as error:
        raise CheckpointError(f"{shown(file)} cannot be read: it takes more memory than there is") from error


class _TooDeep(Exception):
    """A document nested deeper than DEEPEST."""


def _text(file: Path, most_bytes: int) -> str:
    """Read at most so many bytes, whatever the file's size says."""
    with file.open("rb") as opened:
        data = opened.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise CheckpointError(
            f"{shown(file)} has more than {most_bytes} bytes, the most that is read of such a file; "
            "is it another file under that name?"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        kind = mistaken(file)
        raise CheckpointError(f"{shown(file)} is not JSON{f': it {kind}' if kind else f' ({error})'}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without duplicate keys: of two, either may be meant."""
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)!r} stands twice in one object")
    return made


def _check_depth(value: Any) -> None:
    """Raise _TooDeep beyond DEEPEST levels; without recursion."""
    level, deep = [value], 0
    while level:
        deep += 1
        if deep > DEEPEST:
            raise _TooDeep
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
            if isinstance(part, dict | list)
        ]

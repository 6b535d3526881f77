"""What an earlier run's results.json says of what this run did not make: taken over, and marked as that run's.

Knows a finished results document and a run's settings; plays nothing and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stillframe.errors import ConfigError

Document = Mapping[str, Any]
Row = Mapping[str, Any]
SAME = ("checkpoint", "weights", "seed", "noise_sigma", "window_frames", "decay")  # or figures could not stand together
OF_RUN = ("cpu", "cores", "load_average", "python", "torch", "cpu_capability", "episodes_per_cell")
MARK = "earlier"  # in whatever is taken over: OF_RUN of the run that made it


def read_earlier(file: Path, made_with: Mapping[str, Any], variant: str) -> Document | None:
    """The results document in `file`, if there is one and it was made with the same policy, seeds and settings.

    A document without the digest of its weights is taken at its checkpoint's name. Raises ConfigError for a file that
    holds no such document.
    """
    if not file.is_file():
        return None
    try:
        document: Document = json.loads(file.read_text(encoding="utf-8"))
        theirs, hard = document["made_with"], document["hard"]["variant"]
        same = all(key not in theirs or theirs[key] == made_with[key] for key in SAME) and hard == variant
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is no results document of older frames; expected one that this wrote") from error
    return document if same else None


def marked(part: Row, earlier: Document) -> dict[str, Any]:
    """A row, a comparison or a measurement with the run that made it, which may have been one before the earlier."""
    return {MARK: {key: earlier["made_with"].get(key) for key in OF_RUN}, **part}


def key_of(row: Row) -> tuple[Any, ...]:
    """What tells rows apart, as plans have it too."""
    return tuple(row[name] for name in ("arm", "variant", "delay", "budget_chunks"))


def with_earlier(rows: Sequence[Row], order: Sequence[tuple[Any, ...]], earlier: Document | None) -> list[Row]:
    """Rows of now, and of the earlier run where there is none now, in the order of `order`: what is planned."""
    known = {} if earlier is None else {key_of(row): marked(row, earlier) for row in earlier["rows"]}
    known |= {key_of(row): row for row in rows}
    return [known[key] for key in order if key in known]


def kept_comparisons(
    found: Mapping[str, Mapping[str, Any]], scopes: Mapping[str, Sequence[Row]], earlier: Document | None
) -> dict[str, dict[str, Any]]:
    """Comparisons `found`, and the earlier ones of scopes whose rows are all the earlier run's: they say as much still.

    Rows of before their outcomes were published cannot be compared anew.
    """
    kept: dict[str, dict[str, Any]] = {scope: {} for scope in scopes}
    for scope, rows in scopes.items():
        if earlier is not None and rows and all(MARK in row for row in rows):
            theirs = earlier["comparisons"].get(scope, {})
            kept[scope] = {other: marked(one, earlier) for other, one in theirs.items()}
    merged = {scope: {**known, **found.get(scope, {})} for scope, known in kept.items()}
    return {scope: against for scope, against in merged.items() if against}

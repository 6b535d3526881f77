"""Training curves of the gate, and of the joint fine-tuning.

Knows the lines of their logs; trains nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stillframe.tools.charts import ACCENT, FAINT, INK, new_figure, save_figure
from stillframe_lab.train.trainer import LOG_NAME

Log = Sequence[Mapping[str, Any]]
SCORERS = (("gate", "", ACCENT), ("linear score", "linear_", INK))  # name, prefix of the log's fields, colour


def read_log(run: Path) -> list[dict[str, Any]]:
    """A run's lines."""
    return [json.loads(line) for line in (run / LOG_NAME).read_text(encoding="utf-8").splitlines()]


def gate_chart(file: Path, log: Log, title: str) -> None:
    """Errors of both scorers on training episodes, dotted, and on held-out ones."""
    figure, both = new_figure(2, (7.5, 5.0), (1, 1))
    for axes, kind, label in (
        (both[0], "worthy", "error where a chunk\nis worth much"),
        (both[1], "idle", "elsewhere"),
    ):
        for name, prefix, colour in SCORERS:
            for episodes, style in (("learnt", ":"), ("held_out", "-")):
                said = f"{name}, {'held out' if episodes == 'held_out' else 'learnt from'}"
                _curve(axes, log, (episodes, prefix + kind), color=colour, linestyle=style, label=said)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    both[0].legend(fontsize=8, frameon=False, ncols=2)
    _finish(figure, both, file, title)


def together_chart(file: Path, log: Log, title: str) -> None:
    """What answers lose by evicted chunks, and how many are kept."""
    figure, axes = new_figure(3, (7.5, 6.5), (1, 1, 1))
    _curve(axes[0], log, ("means", "xyz_error"), color=ACCENT, label="with what was kept")
    _curve(axes[0], log, ("means", "whole_xyz_error"), color=INK, label="with all of it")
    axes[0].set_ylabel("|dx dy dz| error,\nof the limit")
    axes[0].legend(fontsize=8, frameon=False)
    _curve(axes[1], log, ("means", "parted"), color=ACCENT)
    axes[1].set_ylabel("KL of the answers, nats")
    _curve(axes[2], log, ("means", "worthy"), color=ACCENT, label="off where a chunk is worth much")
    _curve(axes[2], log, ("means", "idle"), color=INK, label="off elsewhere")
    _curve(axes[2], log, ("means", "kept"), color=FAINT, label="share of chunks kept")
    axes[2].set_ylabel("utility, of 1")
    axes[2].set_ylim(0, 1)
    axes[2].legend(fontsize=8, frameon=False, ncols=3, loc="upper center")
    _finish(figure, axes, file, title)


def _curve(axes: Any, log: Log, keys: Sequence[str], **look: str) -> None:
    axes.plot([line["step"] for line in log], [_field(line, keys) for line in log], linewidth=1.3, **look)


def _field(line: Mapping[str, Any], keys: Sequence[str]) -> float:
    found: Any = line
    for key in keys:
        found = found[key]
    return float(found)


def _finish(figure: Any, axes: Any, file: Path, title: str) -> None:
    axes[0].set_title(title, loc="left", fontsize=11, color=INK)
    axes[-1].set_xlabel("step")
    save_figure(figure, file)

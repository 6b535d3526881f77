"""How all charts look: colours, the shading of holds and faults, one legend below; and how they are written.

Knows no numbers. Importing it needs no matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Sequence

from stillframe_client.jaco2.reports.series import states

if TYPE_CHECKING:
    from pathlib import Path

    from stillframe_client.jaco2.reports.tick_file import TickFile

INK, FAINT, ASKED, SENT, MEASURED = "#1f2933", "#c3cad1", "#b8c4d0", "#2f7f86", "#d64545"
SHADES = {"DISARMED": "#e4e7eb", "READY": "#cfe3e5", "RUNNING": "#2f7f86", "HOLD": "#f0b429", "FAULT": "#d64545"}
AXES = ("x", "y", "z")
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "font.size": 9,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
MARKED = ("HOLD", "FAULT")


def save(figure: Any, file: Path) -> Path:
    """Write a PNG, whole or not at all. Raises OSError."""
    unfinished = file.with_suffix(".part")
    figure.savefig(unfinished, dpi=130, format="png")
    unfinished.replace(file)
    return file


def mark(panel: Any, log: TickFile) -> None:
    """Shade holds and faults."""
    for begin, end, state in states(log):
        if state in MARKED:
            panel.axvspan(begin, end, color=SHADES[state], alpha=0.22, linewidth=0, label=state)


def legend_below(figure: Any, panels: Sequence[Any]) -> None:
    """One legend for all panels, each name once."""
    found: Dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        found.update(zip(labels, handles))  # noqa: B905 -- one each
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=max(len(found), 1))

"""Output of a calibration: the deployment's YAML with a new `reuse` section, a summary, and a chart.

Knows text and points; not how they were found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import yaml

from stillframe.errors import ConfigError
from stillframe.reuse.settings import ReuseSettings
from stillframe.tools.calibration.candidates import CandidateResult
from stillframe.tools.calibration.search import Calibration
from stillframe.tools.charts import ACCENT, FAINT, INK, new_figure, save_figure

_COMMENT = re.compile(r"^# Calibrated [^\n]*\n(#  [^\n]*\n)*", re.MULTILINE)  # of an earlier calibration
_SECTION = re.compile(r"^reuse:[^\n]*\n(([ \t][^\n]*)?\n)*?(?=\S|\Z)", re.MULTILINE)
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):(?P<value> *[^#\n]*)(?P<rest>#[^\n]*)?")
Keys = tuple[str, ...]


@dataclass(frozen=True)
class ReusePoint:
    """One candidate in the chart."""

    reuse: float  # share of token-layers
    drift: float  # normalised units
    criterion: str


def summary(found: Calibration) -> str:
    """Frames searched, and the reuse and drift that were reached: the lines of a comment."""
    seen = (
        f"{found.searched} frames, chosen with {found.checked} others" if found.checked else f"{found.searched} frames"
    )
    budget = found.settings.drift_budget
    return (
        f"Calibrated over {seen}, of {found.episodes} recorded episodes, for drift p90 <= {budget:g}.\n"
        f"  with a pause after each answer:  {_figures(found.with_slack)}\n"
        f"  without any pause:               {_figures(found.without_slack)}\n"
    )


def calibrated_yaml(text: str, found: Calibration) -> str:
    """A deployment's YAML `text` with the calibrated settings in its reuse section, and a comment above it.

    All else is unchanged, comments included, if each setting has a line of its own or there is no section yet.
    """
    before: dict[str, Any] = yaml.safe_load(text)
    changes = _changes(found.settings)
    after = before | {"reuse": (before.get("reuse") or {}) | changes}
    comment = "".join(f"# {line}\n" for line in summary(found).splitlines())
    plain = _COMMENT.sub("", text if text.endswith("\n") else text + "\n")
    edited = re.sub(r"(?m)^reuse:", lambda _: comment + "reuse:", _with_values(plain, _flat(changes)), count=1)
    appended = _SECTION.sub("", plain) + comment + _dump({"reuse": after["reuse"]})
    readable = [result for result in (edited, appended) if _reads_as(result, after)]
    return readable[0] if readable else comment + _dump(after)


def draw_chart(file: Path, tried: Sequence[CandidateResult], budget: float, found: Calibration | None) -> None:
    """Chart reuse against drift: all candidates, the budget, and the chosen ones, if any."""
    points = [_point(result) for result in tried]
    chosen = (
        {} if found is None else {"chosen": _point(found.with_slack), "without pauses": _point(found.without_slack)}
    )
    candidates_chart(file, points, chosen, budget, f"{len(points)} candidates: reuse against drift")


def candidates_chart(
    file: Path, points: Sequence[ReusePoint], chosen: Mapping[str, ReusePoint], budget: float, title: str
) -> None:
    """Reuse against drift p90: all points, those within budget darker, the budget, and the chosen ones by name."""
    figure, axes = new_figure(1, (7.5, 4.8), (1,))
    for criterion, marker in zip(sorted({point.criterion for point in points}), "osD^", strict=False):
        ours = [point for point in points if point.criterion == criterion]
        colours = [INK if point.drift <= budget else FAINT for point in ours]
        axes.scatter(*_places(ours), c=colours, marker=marker, s=18, linewidths=0, label=criterion)
    axes.axhline(budget, color=ACCENT, linewidth=1.2, label=f"budget {budget:g}")
    for (name, point), face in zip(chosen.items(), (ACCENT, "white"), strict=False):
        axes.scatter(*_places([point]), s=70, facecolor=face, edgecolor=ACCENT, linewidths=1.5, zorder=3, label=name)
    axes.set_yscale("symlog", linthresh=max(budget, 0.001))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("reuse: token-layers not computed, share")
    axes.set_ylabel("drift p90, normalised units")
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    save_figure(figure, file)


def check_writable(*files: Path | None) -> None:
    """Create the files' folders before a long search. Raises ConfigError for a file that cannot be written."""
    for file in filter(None, files):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot write {file}: {error.strerror}") from error
        if file.is_dir():
            raise ConfigError(f"cannot write {file}: it is a folder")


def _changes(settings: ReuseSettings) -> dict[str, Any]:
    return {"mode": settings.mode, "drift_budget": settings.drift_budget, "adaptive": asdict(settings.adaptive)}


def _flat(changes: Mapping[str, Any]) -> dict[Keys, str]:
    """Key path of each value -> its text in the file."""
    nested = {("reuse", "adaptive", key): value for key, value in changes["adaptive"].items()}
    top = {("reuse", key): value for key, value in changes.items() if key != "adaptive"}
    return {keys: _flow(value) for keys, value in (top | nested).items()}


def _with_values(text: str, values: Mapping[Keys, str]) -> str:
    """Replace values on lines of their own; comments after them keep their column if there is room."""
    lines, above = [], list[tuple[int, str]]()  # indent and key of the enclosing sections
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is not None:
            indent = len(found["indent"])
            above = [*((depth, key) for depth, key in above if depth < indent), (indent, found["key"])]
            value = values.get(tuple(key for _, key in above))
            if value is not None:
                head = f"{found['indent']}{found['key']}: {value} ".ljust(found.end("value"))
                line = (head + (found["rest"] or "")).rstrip()
        lines.append(line)
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value in flow style, on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=inf).strip()[1:-1]


def _dump(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=inf)


def _reads_as(text: str, expected: dict[str, Any]) -> bool:
    try:
        return bool(yaml.safe_load(text) == expected)
    except yaml.YAMLError:
        return False


def _figures(result: CandidateResult) -> str:
    p50, p90, p99 = (result.drift(percent) for percent in (50, 90, 99))
    return f"reuse {result.reuse:.2f}, drift p50 {p50:.4f}, p90 {p90:.4f}, p99 {p99:.4f}"


def _point(result: CandidateResult) -> ReusePoint:
    return ReusePoint(result.reuse, result.drift(90), result.knobs.criterion)


def _places(points: Sequence[ReusePoint]) -> tuple[list[float], list[float]]:
    return [point.reuse for point in points], [point.drift for point in points]

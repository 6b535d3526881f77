"""The page of the methods in the suites: tables in Markdown, what was published beside them, and how to read them.

Knows finished results documents; computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillframe_lab.ablation.plan import OFF
from stillframe_lab.ablation.readme import drift_words
from stillframe_lab.evaluation.page import number, success, table, targets_table
from stillframe_lab.methods.later import LATER
from stillframe_lab.methods.plan import is_count

Result = Mapping[str, Any]
HEAD = """\
# Methods side by side

Made by `stillframe study methods --suite S`: every arm plays the same initial states in the same simulator, in turn,
another one first in each episode. An arm that is added later plays its own episodes. The policy is in the process that
plays, on one thread, and is asked as [docs/libero.md](../libero.md) or [docs/jaco2-suite.md](../jaco2-suite.md) says.
"""
SUITE = """\
## {suite}, {checkpoint}

{episodes} episodes an arm, {count} of each of {tasks} tasks, or fewer of an arm that was added: it is compared with
`off` on those. Seeds from {seed} on; of each answer {execute} are played; {look}. {cpu}, {cores} cores
({cpu_capability}), torch {torch}. Every figure is in [{name}.json]({name}.json).

![success and drift against reuse]({name}.png)
"""
COLUMNS = (
    *("arm", "success (95 % interval)", "points against off (95 %)", "only off / only it", "reuse", "pruned"),
    *("decoder GMAC an answer", "drift p50 / p90 / p99", "ms p50 / p99", "published"),
)
# arXiv 2502.02175: LIBERO-Spatial with OpenVLA, its tables of components and of reused tokens; its real Jaco2.
PUBLISHED = {
    "libero_spatial": {
        "off": "84.4 %",
        "static-only": "74.2 %",
        "static + relevance": "82.6 %",
        "paper": "83.8 %",
    },
    "jaco2": {"off": "82.1 %", "paper": "84.5 %"},
}
STRIP = """\
### The same frames by each arm

Frames of one episode that `off` played, shown to every arm in order; both cameras side by side.

![patches reused, pruned and relevant by each arm]({strip})
"""
APART = """\
Not all arms were played in turn with each other: some were added to results that were there. Success, reuse and drift
compare all the same, for initial states and simulator are the same; times compare within a group alone:"""
AGAIN = """\
### Played later: {arms}

{episodes} episodes an arm, of the initial states above, compared with an `off` of their own. {cpu}, {cores} cores
({cpu_capability}), torch {torch}; times compare within this table alone.
"""
READING = """\
## How to read it

- **published** is what the paper has (arXiv 2502.02175: OpenVLA-7B, full pictures, asked every step; of jaco2 its four
  tasks on a real arm): another policy, another computer, another world. It is never mixed into our columns; it is there
  to compare differences.
- **reuse** and **pruned**: token-layers reused, or left out, of all, over all frames of all episodes, keyframes
  included.
- **points against off**: on the same initial states. The interval is Newcombe's, which takes the arms as independent:
  wide for episodes that are paired. **only off / only it**: episodes that one of the two won.
- **decoder GMAC an answer**: multiply-adds of the language model (10^9), mean over all frames; a dash where they are
  not counted.
- **drift**: the worst number of the actions that are played against a dense pass on the same frame, normalised units
  (the whole range is 2), over all answers that could drift.
- **ms**: CPU time of the thread that answers, from pictures to actions, over all answers. A dense pass that renews KV
  between frames is not part of it.
- **static + masks**: as **static + relevance**, but what is recomputed is what the simulator's masks touch, the hand
  and the objects that the task is about (arXiv 2502.02175, section 4.7), in place of what the text attends to most.
- **off** ... **adaptive without slack** and **N tokens**: as in [the ablation](../ablation/README.md).
"""


def methods_page(documents: Mapping[str, Result]) -> str:
    """The whole README.md; a document of each suite and policy, by the name of its files."""
    return "\n".join([HEAD, *(_section(name, one) for name, one in documents.items()), READING])


def _section(name: str, document: Result) -> str:
    arms, made, tasks = document["arms"], document["made_with"], document["tasks"]
    every = made["episodes_per_cell"]
    head = SUITE.format(
        **made,
        suite=document["suite"],
        checkpoint=document["checkpoint"],
        episodes=every,
        count=every // len(tasks),
        tasks=len(tasks),
        execute="all" if document["execute"] is None else f"the first {document['execute']}",
        look=document.get("look") or f"{document['pictures']} pictures",
        name=name,
    )
    published = PUBLISHED.get(document["suite"], {})
    parts = [head, table(COLUMNS, [_row(arm, own, published) for arm, own in arms.items() if not is_count(arm)])]
    counts = [_row(arm, own, published) for arm, own in arms.items() if is_count(arm)]
    if counts:
        parts.append(f"### Against the number of reused tokens of a camera\n\n{table(COLUMNS, counts)}")
    if document.get("strip"):
        parts.append(STRIP.format(strip=document["strip"]))
    parts += _apart(document)
    parts.append(f"### By task\n\n{_tasks(arms, tasks)}")
    for group in document.get(LATER, []):
        parts += _later(group, tasks, published)
    if document["targets"]:
        parts.append(f"### What was to be reached\n\n{targets_table(document['targets'])}")
    return "\n".join(parts)


def _apart(group: Result) -> list[str]:
    """Which arms were not played in turn with each other, where some were not."""
    turns = group.get("played_in_turn", [])  # not said by documents of when all always were
    return [f"{APART} {'; '.join(map(', '.join, turns))}.\n"] if len(turns) > 1 else []


def _later(group: Result, tasks: list[int], published: Mapping[str, str]) -> list[str]:
    """A group of arms that were played apart from the table above."""
    arms, made = group["arms"], group["made_with"]
    others = ", ".join(name for name in arms if name != OFF)
    head = AGAIN.format(**made, arms=others, episodes=made["episodes_per_cell"])
    rows = [_row(arm, own, published) for arm, own in arms.items()]
    return [head, table(COLUMNS, rows), *_apart(group), f"By task:\n\n{_tasks(arms, tasks)}"]


def _row(name: str, arm: Result, published: Mapping[str, str]) -> list[str]:
    against = arm.get("against_off")
    apart, pairs = "", ""
    if against is not None:
        low, high = (100 * bound for bound in against["ci95"])
        apart = f"{100 * against['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
        pairs = f"{against['only_base_succeeds']} / {against['only_arm_succeeds']}"
    return [
        f"**{name}**",
        success(arm),
        apart,
        pairs,
        f"{arm['reuse_ratio']:.2f}",
        f"{arm['pruned_ratio']:.2f}",
        number(arm["decoder_gmacs"], 3),
        drift_words(arm),
        f"{number(arm['latency_ms']['p50'], 1)} / {number(arm['latency_ms']['p99'], 1)}",
        published.get(name, ""),
    ]


def _tasks(arms: Mapping[str, Result], tasks: list[int]) -> str:
    rows = [(f"**{name}**", *(_won(arm["by_task"].get(str(task))) for task in tasks)) for name, arm in arms.items()]
    return table(("arm", *map(str, tasks)), rows)


def _won(task: Result | None) -> str:
    return "-" if task is None else f"{task['wins']}/{task['episodes']}"

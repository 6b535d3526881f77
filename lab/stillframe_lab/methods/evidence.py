"""The README's table of evidence: every method's success and reuse, across suites, families and policies.

Knows the results documents under docs/; plays nothing and computes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillframe.tools.marked_page import replace_between
from stillframe_lab.ablation.plan import ADAPTIVE, OFF
from stillframe_lab.evaluation.page import table
from stillframe_lab.methods.later import all_arms

BEGIN, END = "<!-- evidence: begin -->", "<!-- evidence: end -->"
FAMILIES, METHODS = Path("ablation/families/results.json"), Path("methods")  # under docs/
PICK_AND_REACH = "pick and reach"  # of the simulated Jaco2, perfect pictures and noise together
COLUMNS = {  # arm -> its head
    OFF: "nothing reused",
    "static-only": "static reuse alone",
    "static + relevance": "with relevance",
    "paper": "VLA-Cache as published",
    ADAPTIVE: "`adaptive`",
    "fastv": "FastV",
    "sparsevlm": "SparseVLM",
    "tome": "ToMe",
}


def write_evidence(readme: Path, docs: Path) -> None:
    """Put the table between the README's marks. Raises OSError for a file that is missing, ValueError for no marks."""
    replace_between(readme, BEGIN, END, f"\n{evidence_table(docs)}\n")


def evidence_table(docs: Path) -> str:
    """A row for each suite and policy whose results lie under `docs`, in Markdown."""
    rows = [*_families(docs / FAMILIES), *_suites(docs / METHODS)]
    return table(("suite, policy", *COLUMNS.values()), rows)


def _families(file: Path) -> Iterator[list[str]]:
    """Pick and reach with a policy of each family."""
    for name, family in json.loads(file.read_text(encoding="utf-8"))["families"].items():
        yield _row(PICK_AND_REACH, name, family["pooled"])


def _suites(folder: Path) -> Iterator[list[str]]:
    """What `study methods` has played."""
    for file in sorted(folder.glob("*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        yield _row(document["suite"], document["checkpoint"], all_arms(document))


def _row(suite: str, policy: str, arms: Mapping[str, Any]) -> list[str]:
    """Successes of episodes, and the share of token-layers reused or pruned; a dash for what was not played."""
    return [f"{suite}, {policy}", *(_cell(arms[arm]) if arm in arms else "-" for arm in COLUMNS)]


def _cell(arm: Mapping[str, Any]) -> str:
    """33/50, 0.30."""
    saved = arm["reuse_ratio"] + arm.get("pruned_ratio", 0.0)
    return f"{arm['wins']}/{arm['episodes']}" + (f", {saved:.2f}" if saved else "")

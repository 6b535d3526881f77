from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillframe_lab.methods.evidence import BEGIN, END, evidence_table, write_evidence

ROOT = Path(__file__).parents[3]


def arm(wins: int, reuse: float, pruned: float | None = None) -> dict[str, Any]:
    """An arm's figures, as far as the table has them."""
    return {
        "wins": wins, "episodes": 20, "reuse_ratio": reuse, **({} if pruned is None else {"pruned_ratio": pruned})
    }  # fmt: skip


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A family that picks, and a suite in which another was pruned."""
    (tmp_path / "docs" / "ablation" / "families").mkdir(parents=True)
    (tmp_path / "docs" / "methods").mkdir()
    families = {"families": {"tiny": {"pooled": {"off": arm(20, 0.0), "adaptive": arm(19, 0.5)}}}}
    arms = {"off": arm(18, 0.0, 0.0), "fastv": arm(11, 0.0, 0.25)}
    suite = {"suite": "libero_spatial", "checkpoint": "small", "arms": arms}
    (tmp_path / "docs" / "ablation" / "families" / "results.json").write_text(json.dumps(families))
    (tmp_path / "docs" / "methods" / "small-libero_spatial.json").write_text(json.dumps(suite))
    return tmp_path / "docs"


def test_a_row_for_each_suite_and_policy(docs: Path) -> None:
    """What was not played has a dash, what neither reuses nor prunes no share."""
    _, _, first, second = evidence_table(docs).splitlines()

    assert first == "| pick and reach, tiny | 20/20 | - | - | - | 19/20, 0.50 | - | - | - |"
    assert second == "| libero_spatial, small | 18/20 | - | - | - | - | 11/20, 0.25 | - | - |"


def test_an_arm_that_was_played_later_is_in_the_row(docs: Path) -> None:
    """Beside those of the table, of which none has its place."""
    file = docs / "methods" / "small-libero_spatial.json"
    later = {"off": arm(20, 0.0), "fastv": arm(1, 0.0, 0.1), "adaptive": arm(17, 0.5)}
    file.write_text(json.dumps({**json.loads(file.read_text()), "played_later": [{"arms": later}]}))

    assert "small | 18/20 | - | - | - | 17/20, 0.50 | 11/20, 0.25 | - | - |" in evidence_table(docs)


def test_the_table_goes_between_the_marks(docs: Path) -> None:
    """What stands around them stays; a README without them is refused."""
    readme = docs.parent / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_evidence(readme, docs)

    assert readme.read_text() == f"before\n{BEGIN}\n\n{evidence_table(docs)}\n{END}\nafter\n"
    readme.write_text("no marks")
    with pytest.raises(ValueError, match="lacks the lines"):
        write_evidence(readme, docs)


def test_the_readme_has_what_was_measured() -> None:
    """`stillframe study evidence` has nothing to write."""
    assert evidence_table(ROOT / "docs") in (ROOT / "README.md").read_text()

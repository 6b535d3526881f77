from __future__ import annotations

from pathlib import Path

import pytest

from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.hub.ids import HubId, hub_id, snapshot_id

COMMIT = "31f090d05236101ebfc381b61c674dd4746d4ce0"


@pytest.mark.parametrize(
    ("text", "repository", "revision"),
    [
        ("openvla/openvla-7b", "openvla/openvla-7b", None),
        ("moojink/openvla-7b-oft-finetuned-libero-10@main", "moojink/openvla-7b-oft-finetuned-libero-10", "main"),
        (f"a/b@{COMMIT}", "a/b", COMMIT),
        ("a/b@refs/pr/4", "a/b", "refs/pr/4"),
        ("CogACT/CogACT_v1.0", "CogACT/CogACT_v1.0", None),
    ],
)  # fmt: skip
def test_an_id_is_a_repository_and_perhaps_a_revision(text: str, repository: str, revision: str | None) -> None:
    """A branch, a tag, a pull request's ref or a commit; it is written again as it was."""
    assert hub_id(Path(text)) == HubId(repository, revision)
    assert str(hub_id(Path(text))) == text


@pytest.mark.parametrize(
    "text",
    [
        "openvla-7b",  # a name alone is a folder here
        "/srv/openvla-7b",
        "../openvla/openvla-7b",
        "a/b/c",
        "a/.b",
        "a/b.",
        "a-/b",
        "a/b--c",
        "a/b..c",
        "a/b.git",
        "a/b@",
        "a/b@../../x",
        "a/b@-x",
        "a b/c",
        "modèle/b",
        f"a/{'b' * 97}",
        "checkpoints/jaco-tiny",  # where this project, and any that follows it, keeps folders of its own
        "models/mine",
        "runs/17@main",
        "",
    ],
)
def test_what_is_no_id(text: str) -> None:
    """By the hub's rules for names, and by ours for folders of one's own."""
    assert hub_id(Path(text)) is None


def test_a_snapshot_says_what_it_is_of(tmp_path: Path) -> None:
    """By its place in the cache, named by hand too; and the checkpoint is called as its repository, not by a hash."""
    snapshot = tmp_path / "models--open-x--vla-7b" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (tmp_path / "linked").symlink_to(snapshot)

    for path in (snapshot, tmp_path / "linked"):
        assert snapshot_id(path) == HubId("open-x/vla-7b", COMMIT)
        assert CheckpointFolder(path).name == "vla-7b"
    for other in (tmp_path, snapshot.parent, snapshot.parent / "main", tmp_path / "snapshots" / COMMIT):
        assert snapshot_id(other) is None
    assert CheckpointFolder(snapshot.parent).name == "snapshots"

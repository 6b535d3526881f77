from __future__ import annotations

from pathlib import Path

import pytest

from stillframe.files.writing import write_whole, write_whole_bytes


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full half-way leaves what was there, or nothing under that name."""
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    write_whole_bytes(old, b"before")
    write = Path.write_bytes

    def half(file: Path, content: bytes) -> int:
        write(file, content[: len(content) // 2])
        raise OSError("no space")

    monkeypatch.setattr(Path, "write_bytes", half)
    for file in (new, old):
        with pytest.raises(OSError, match="no space"):
            write_whole_bytes(file, b"after")

    assert not new.exists()
    assert old.read_bytes() == b"before"
    monkeypatch.undo()
    write_whole_bytes(old, b"after")
    assert old.read_bytes() == b"after"
    assert not old.with_name("old.json.part").exists()


def test_any_writer_may_fill_it(tmp_path: Path) -> None:
    """It is handed the path beside, and only what it finished gets the name; an interrupt too leaves nothing."""
    file, parts = tmp_path / "table.npz", []

    def interrupted(part: Path) -> None:
        part.write_text("half")
        raise KeyboardInterrupt

    write_whole(file, lambda part: parts.append(part) or part.write_text("whole"))
    with pytest.raises(KeyboardInterrupt):
        write_whole(file, interrupted)

    assert parts == [tmp_path / "table.npz.part"]
    assert {found.name: found.read_text() for found in tmp_path.iterdir()} == {"table.npz": "whole"}

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from stillframe.recording.store import BLOCK_BYTES, EPISODE_FILE, EpisodeCard, EpisodeStore

BLOCK = BLOCK_BYTES
LIKE = "20200101T000000.000000Z-0123456789ab-0000"  # as an episode is named


def card(session: str = "arm", epoch: int = 0) -> EpisodeCard:
    """Of some episode."""
    return EpisodeCard("stillframe-episode/1", session, epoch, "scripted")


def files(*sizes: int) -> dict[str, bytes]:
    """Files of so many bytes."""
    return {f"{number}.bin": b"x" * size for number, size in enumerate(sizes)}


def episode(root: Path, name: str = LIKE, blocks: int = 3) -> Path:
    """A folder that is already there."""
    (root / name).mkdir()
    (root / name / "0.bin").write_bytes(b"x" * blocks * BLOCK)
    return root / name


def test_a_file_takes_up_whole_blocks(tmp_path: Path) -> None:
    """As a disk counts them: nothing takes nothing, one byte takes a block, one too many takes another."""
    store = EpisodeStore(tmp_path, 1000 * BLOCK)
    folder = store.begin(card(), 1e9)
    counted = [store.used_bytes]
    for size in (0, 1, BLOCK, BLOCK + 1):
        store.put(folder, files(size))
        counted.append(store.used_bytes)
    again = EpisodeStore(tmp_path, 1000 * BLOCK)

    assert counted == [BLOCK, BLOCK, 2 * BLOCK, 3 * BLOCK, 5 * BLOCK]
    assert again.used_bytes == BLOCK + 2 * BLOCK  # the card, and the last of the files of one name


def test_a_quarter_of_the_budget_is_an_episodes(tmp_path: Path) -> None:
    """To the byte: what just fits is taken, a byte more is not; a frame needs room for a card beside it."""
    store = EpisodeStore(tmp_path, 4 * 8 * BLOCK)
    folder = store.begin(card(), 1e9)
    store.put(folder, files(3 * BLOCK))

    assert [store.takes(folder, files(size)) for size in (4 * BLOCK, 4 * BLOCK + 1)] == [True, False]
    assert [store.fits(files(size)) for size in (7 * BLOCK, 7 * BLOCK + 1)] == [True, False]
    assert not store.takes(tmp_path / "another", files(1))


def test_no_more_goes_than_has_to(tmp_path: Path) -> None:
    """Oldest first, until the files and a card fit: to the block."""
    root, new = tmp_path / "rec", 2 * BLOCK
    names = [f"2020010{day}T000000.000000Z-0123456789ab-0000" for day in (3, 1, 2)]
    for over, left in [(0, names), (1, [names[0], names[2]]), (3, [names[0], names[2]]), (4, [names[0]])]:
        root.mkdir()
        for name in names:
            episode(root, name)
        store = EpisodeStore(root, 9 * BLOCK + new + BLOCK - over * BLOCK)
        store.make_room(files(new))

        assert {folder.name for folder in root.iterdir()} == set(left), over
        assert store.used_bytes == len(left) * 3 * BLOCK
        shutil.rmtree(root)


def test_what_was_added_or_taken_is_seen_as_an_episode_begins(tmp_path: Path) -> None:
    """Copies of older recordings count from then on; what a person removed counts no more."""
    store = EpisodeStore(tmp_path, 1000 * BLOCK)
    old = episode(tmp_path)
    store.begin(card(), 1e9)
    seen = store.used_bytes
    shutil.rmtree(old)
    store.begin(card(epoch=1), 1e9)

    assert (seen, store.used_bytes) == (4 * BLOCK, 2 * BLOCK)


@pytest.mark.parametrize("missing", [LIKE, f"{LIKE}.part"])
def test_what_a_person_took_needs_not_be_removed(tmp_path: Path, missing: str) -> None:
    """The oldest episode is gone already: the next oldest makes room, and recording goes on."""
    gone, next_oldest = episode(tmp_path, missing), episode(tmp_path, LIKE.replace("2020", "2021"))
    store = EpisodeStore(tmp_path, 6 * BLOCK)
    shutil.rmtree(gone)
    store.make_room(files(4 * BLOCK))

    assert not next_oldest.exists()
    assert store.used_bytes == 0


@pytest.mark.parametrize("name", [f"{LIKE}.bak", f"x{LIKE}", f"{LIKE}.part.part", LIKE[:-4], LIKE.replace("Z", "")])
def test_a_folder_that_is_nearly_named_like_an_episode_is_not_ours(tmp_path: Path, name: str) -> None:
    """It is neither counted nor removed."""
    theirs = episode(tmp_path, name)
    store = EpisodeStore(tmp_path, 4 * BLOCK)
    store.make_room(files(4 * BLOCK))

    assert store.used_bytes == 0
    assert (theirs / "0.bin").exists()


def test_what_is_elsewhere_is_not_ours(tmp_path: Path) -> None:
    """A link and a file that are named like episodes are neither counted nor removed, nor is what the link leads to."""
    (tmp_path / "away").mkdir()
    (tmp_path / "rec").mkdir()
    elsewhere, link = episode(tmp_path / "away"), tmp_path / "rec" / LIKE
    link.symlink_to(elsewhere)
    (tmp_path / "rec" / LIKE.replace("2020", "2019")).write_bytes(b"x" * 9 * BLOCK)
    store = EpisodeStore(tmp_path / "rec", 4 * BLOCK)
    store.make_room(files(4 * BLOCK))

    assert store.used_bytes == 0
    assert len(list((tmp_path / "rec").iterdir())) == 2
    assert (link / "0.bin").exists()


def test_an_episode_goes_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name goes before its files; what could not be removed counts, and is tried again, by the next daemon too."""

    def stuck(folder: Path) -> None:
        assert folder.name == f"{LIKE}.part"
        raise OSError("busy")

    episode(tmp_path)
    store = EpisodeStore(tmp_path, 4 * BLOCK)
    with monkeypatch.context() as patched:
        patched.setattr("stillframe.recording.store.shutil.rmtree", stuck)
        for each in (lambda: store, lambda: store, lambda: EpisodeStore(tmp_path, 4 * BLOCK)):
            with pytest.raises(OSError, match="busy"):
                each().make_room(files(1))
            assert each().used_bytes == 3 * BLOCK
    left = [folder.name for folder in tmp_path.iterdir()]
    store.make_room(files(1))

    assert left == [f"{LIKE}.part"]
    assert list(tmp_path.iterdir()) == []


def test_folders_sort_as_they_began(tmp_path: Path) -> None:
    """By name, to the microsecond, whoever's they are; one of one name is never written into."""
    store = EpisodeStore(tmp_path, 1000 * BLOCK)
    began = [1e9, 1e9 + 2e-6, 1e9 + 0.5, 1e9 + 3600]
    folders = [store.begin(card(session), at_s) for session, at_s in zip("zyxw", began, strict=True)]
    with pytest.raises(FileExistsError):
        store.begin(card("z"), 1e9)

    assert folders == sorted(folders)
    assert len({folder.name[-17:] for folder in folders}) == 4  # the session's hash
    assert folders[0].name.startswith("20010909T014640.000000Z-")
    assert all((folder / EPISODE_FILE).is_file() for folder in folders)


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with the first frame; one that is not there is made, with those above it."""
    root = tmp_path / "a" / "b"
    EpisodeStore(root, 1)
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (root, os.W_OK | os.X_OK))

    assert root.is_dir()
    with pytest.raises(PermissionError, match=r"a/b"):
        EpisodeStore(root, 1)

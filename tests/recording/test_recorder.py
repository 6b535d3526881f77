"""What stands on the disk after anything: frames of several robots, outside changes, a full disk, another daemon."""

from __future__ import annotations

import queue
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from stillframe.recording.frame import RecordedFrame, encode
from stillframe.recording.reader import read_episodes
from stillframe.recording.recorder import OPEN_EPISODES, Recorder
from stillframe.recording.store import BLOCK_BYTES, EpisodeCard, EpisodeStore

Shot = Callable[..., RecordedFrame]
BUDGET, QUARTER = 48, 12  # blocks
KEYS = [("left", 0), ("left", 1), ("right", 0)]  # session and epoch


@dataclass(eq=False)
class Folder:
    """One episode's folder, as the model knows it. `counted`: the blocks that the recorder takes it to have."""

    key: tuple[str, int]
    serial: int
    seqs: list[int] = field(default_factory=list)
    stands: bool = True
    blocks: int = 1  # that it has: the card's and the frames', written whole or in part
    counted: int = 1


class Disk(RuleBasedStateMachine):
    """A recorder with a budget, and all that happens to its folder. Its model is a list of folders, oldest first."""

    shot: Shot
    written: Callable[[Recorder, int], None]
    new_recorder: Callable[..., Recorder]
    root: Path
    monkeypatch: pytest.MonkeyPatch

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(dir=self.root))
        self.at_s, self.folders, self.lost_seqs = 1.7e9, list[Folder](), 0
        self.last: dict[tuple[str, int], int] = {}  # the seq that was recorded last
        self.elsewhere = self.place / "elsewhere"
        (self.elsewhere / "deep").mkdir(parents=True)
        (self.elsewhere / "deep" / "big.bin").write_bytes(b"x" * 100 * BLOCK_BYTES)
        self.foreign: list[Path] = []
        self.start()

    def start(self) -> None:
        """Another daemon: it counts what is there and goes on with no episode."""
        self.recorder = self.new_recorder(self.place / "rec", max_bytes=BUDGET * BLOCK_BYTES)
        self.frames, self.kept = 0, 0
        self.open: dict[tuple[str, int], tuple[Folder, int]] = {}  # key -> its folder, its last seq
        self.recount()

    def recount(self) -> None:
        """What the recorder knows of its folders is how they are."""
        self.folders = [folder for folder in self.folders if folder.stands]
        for folder in self.folders:
            folder.counted = folder.blocks

    def expected(self, key: tuple[str, int], serial: int, seq: int, blocks: int, whole: int | None) -> bool:
        """Take a frame into the model; whether it was kept. `whole`: so many blocks of it come to the disk."""
        if blocks + 1 > QUARTER:
            return False
        while self.folders and sum(folder.counted for folder in self.folders) + blocks + 1 > BUDGET:
            self.folders.pop(0).stands = False
        folder, last = self.open.pop(key, (None, -1))
        known = folder is not None and folder in self.folders and folder.stands
        if not (known and folder and folder.serial == serial and seq > last and folder.counted + blocks <= QUARTER):
            self.recount()
            folder = Folder(key, serial)
            self.folders.append(folder)
        self.open[key] = folder, seq
        if whole is not None:
            return False
        folder.counted += blocks
        folder.blocks += blocks
        folder.seqs.append(seq)
        return True

    @rule(key=st.sampled_from(KEYS), ahead=st.sampled_from([1, 1, 1, 7, 0, -1]), serial=st.sampled_from([0, 0, 0, 1]))
    def small(self, key: tuple[str, int], ahead: int, serial: int) -> None:
        """A frame of two blocks."""
        self.record(key, self.last.get(key, -1) + ahead, serial, blocks=2)

    @rule(key=st.sampled_from(KEYS), blocks=st.sampled_from([3, 6, 11, 12, 40]))
    def large(self, key: tuple[str, int], blocks: int) -> None:
        """A frame of more."""
        self.record(key, self.last.get(key, -1) + 1, 0, blocks)

    @rule(key=st.sampled_from(KEYS), files=st.integers(0, 1))
    def disk_full(self, key: tuple[str, int], files: int) -> None:
        """A frame of which some files, and half of the next, come to the disk: nothing of it stays there."""
        write, seq = Path.write_bytes, self.last.get(key, -1) + 1
        left = [files]

        def until_full(file: Path, content: bytes) -> int:
            if file.name.startswith("episode"):
                return write(file, content)
            if not left[0]:
                write(file, content[: len(content) // 2])
                raise OSError("no space")
            left[0] -= 1
            return write(file, content)

        with self.monkeypatch.context() as patched:
            patched.setattr(Path, "write_bytes", until_full)
            self.record(key, seq, 0, blocks=2, whole=files + 1)

    def record(self, key: tuple[str, int], seq: int, serial: int, blocks: int, whole: int | None = None) -> None:
        """One frame, and what has to become of it."""
        seq, self.at_s = max(seq, 0), self.at_s + 1
        frame = self.shot(seq, epoch=key[1], at_s=self.at_s, blocks=blocks)
        self.frames += 1
        self.recorder.keep(key[0], "scripted", frame, serial)
        self.kept += self.expected(key, serial, seq, blocks, whole)
        self.last[key] = seq
        self.written(self.recorder, self.frames)

    @rule()
    def restart(self) -> None:
        """The daemon stops and another one starts."""
        self.recorder.close()
        assert self.recorder.kept == self.kept
        self.start()

    @precondition(lambda self: any(folder.stands for folder in self.folders))
    @rule(which=st.integers(0, 9))
    def taken(self, which: int) -> None:
        """A person removes an episode."""
        there = [folder for folder in self.folders if folder.stands]
        folder = there[which % len(there)]
        shutil.rmtree(self.names()[self.folders.index(folder)])
        folder.stands = False

    @precondition(lambda self: len(self.foreign) < 4)
    @rule(name=st.sampled_from(["{}", "{}.bak", "a-{}", "{}.part.old", "notes"]), link=st.booleans())
    def added(self, name: str, *, link: bool) -> None:
        """A person puts something else there: a link that is named like the oldest episode, a folder that nearly is."""
        like = f"2001010{len(self.foreign)}T000000.000000Z-0123456789ab-0000"
        path = self.place / "rec" / (like if link else name.format(like) if name != "{}" else f"{like}.txt")
        if link:
            path.symlink_to(self.elsewhere / "deep")
        else:
            shutil.copytree(self.elsewhere, path)
        self.foreign.append(path)

    def names(self) -> list[Path]:
        """The folder on the disk of each of the model's; those that do not stand are only named."""
        there = iter(sorted(set((self.place / "rec").iterdir()) - set(self.foreign)))
        return [next(there) if folder.stands else self.place / "none" for folder in self.folders]

    @invariant()
    def the_disk_is_as_it_has_to_be(self) -> None:
        """Each folder with its card and its whole frames; no other; within the budget; what is not ours, untouched."""
        root = self.place / "rec"
        there = sorted(set(root.iterdir()) - set(self.foreign))
        standing = [folder for folder in self.folders if folder.stands]
        assert (self.recorder.kept, self.recorder.dropped) == (self.kept, self.frames - self.kept)
        assert len(there) == len(standing)
        for folder, path in zip(standing, there, strict=True):
            frames = sorted(int(file.stem) for file in path.glob("0*.json"))
            assert frames == sorted(folder.seqs)
            assert all((path / f"{seq:06d}.0.png").is_file() for seq in frames)
            assert sum(-(-file.stat().st_size // BLOCK_BYTES) for file in path.iterdir()) == folder.blocks
        assert sum(folder.blocks for folder in standing) <= BUDGET
        for path in self.foreign:
            assert (path / ("big.bin" if path.is_symlink() else "deep/big.bin")).stat().st_size == 100 * BLOCK_BYTES

    def teardown(self) -> None:
        """In the end a reader finds the same, and is warned of what is not ours alone."""
        self.recorder.close()
        warned: list[str] = []
        standing = [folder for folder in self.folders if folder.stands and folder.seqs]
        if standing:
            episodes = read_episodes(self.place / "rec", warned.append)
            found = [(episode.card.session, episode.card.epoch) for episode in episodes]
            assert found == [folder.key for folder in standing]
            assert [[one.step.report.cache.seq for one in episode.frames(pytest.fail)] for episode in episodes] == [
                folder.seqs for folder in standing
            ]
            assert len(warned) == len(self.foreign)
        shutil.rmtree(self.place)


def test_what_stands_on_the_disk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shot: Shot,
    written: Callable[..., None],
    new_recorder: Callable[..., Recorder],
) -> None:
    """Whatever comes, the folder holds what a plain list of episodes says, never over the budget, nothing half."""
    given: dict[str, Any] = {"shot": staticmethod(shot), "written": staticmethod(written), "root": tmp_path}
    given |= {"new_recorder": staticmethod(new_recorder), "monkeypatch": monkeypatch}

    run_state_machine_as_test(
        type("Walk", (Disk,), given),
        # A failure is told as it was found: to make it smaller would take minutes, on a real disk.
        settings=settings(
            max_examples=settings().max_examples // 5, stateful_step_count=25, derandomize=True, phases=[Phase.generate]
        ),
    )


def test_the_end_is_not_lost_behind_a_full_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shot: Shot, new_recorder: Callable[..., Recorder]
) -> None:
    """A daemon stops while the disk is slow: what waits is written as soon as there is room, and the thread ends."""
    writing, go_on = threading.Event(), threading.Event()

    def slow(one: RecordedFrame, *kept: Any) -> dict[str, bytes]:
        writing.set()
        assert go_on.wait(20)
        return encode(one, *kept)

    monkeypatch.setattr("stillframe.recording.recorder.encode", slow)
    recorder = new_recorder(tmp_path, max_bytes=2**20, pending_frames=2)
    recorder.keep("arm", "scripted", shot(0))
    assert writing.wait(20)
    for seq in (1, 2):
        recorder.keep("arm", "scripted", shot(seq))
    put = recorder._frames.put

    def put_while_the_disk_comes_back(item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002 (a queue's shape)
        if block:
            go_on.set()
        put(item, block, timeout)

    monkeypatch.setattr(recorder._frames, "put", put_while_the_disk_comes_back)
    recorder.close()
    ended = not recorder._thread.is_alive()
    go_on.set()
    recorder._thread.join(60)

    assert ended
    assert (recorder.kept, recorder.dropped) == (3, 0)


def test_a_closed_recorder_loses_what_comes(tmp_path: Path, shot: Shot, new_recorder: Callable[..., Recorder]) -> None:
    """Closing twice is closing once; what comes later does not block, and is not on the disk."""
    recorder = new_recorder(tmp_path, max_bytes=2**20, pending_frames=1)
    recorder.keep("arm", "scripted", shot(0))
    recorder.close()
    recorder.close()
    for seq in (1, 2, 3):
        recorder.keep("arm", "scripted", shot(seq))

    assert recorder.kept == 1
    assert len(list(tmp_path.glob("*/0*.json"))) == 1


def test_open_episodes_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shot: Shot, written: Callable[..., None], new_recorder: Any
) -> None:
    """Of robots that come once and never again nothing stays in memory; the one longest without a frame goes first."""
    monkeypatch.setattr("stillframe.recording.recorder.OPEN_EPISODES", 3)
    recorder = new_recorder(tmp_path, max_bytes=2**20)
    for number, session in enumerate(["a", "b", "c", "a", "d", "a", "b"]):
        recorder.keep(session, "scripted", shot(number, at_s=1e9 + number))
        written(recorder, number + 1)
    sessions = [episode.card.session for episode in read_episodes(tmp_path, pytest.fail)]

    assert OPEN_EPISODES > 64  # sessions, by default
    assert len(recorder._open) == 3
    assert sessions == ["a", "b", "c", "d", "b"]  # b was forgotten for d, and goes on in a new folder


def test_keep_never_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shot: Shot, new_recorder: Any) -> None:
    """A queue that is full drops the newest at once: the caller is a device's thread."""
    monkeypatch.setattr(threading.Thread, "start", lambda _: None)
    recorder = new_recorder(tmp_path, max_bytes=2**20, pending_frames=1)
    put, waits = recorder._frames.put, []

    def noted(item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002 (a queue's shape)
        waits.append(block)
        put(item, block, timeout)

    monkeypatch.setattr(recorder._frames, "put", noted)
    for seq in range(3):
        recorder.keep("arm", "scripted", shot(seq))

    assert waits == [False] * 3
    assert recorder.dropped == 2
    assert recorder._frames.get_nowait()[2].name == "000000"
    with pytest.raises(queue.Empty):
        recorder._frames.get_nowait()


def test_a_folder_begins_when_its_first_frame_was_asked(tmp_path: Path, shot: Shot, new_recorder: Any) -> None:
    """By the client's wait, not by the disk's; its card says whose it is and who answered."""
    recorder = new_recorder(tmp_path, max_bytes=2**20)
    recorder.keep("arm", "scripted", shot(0, epoch=3, at_s=1e9))
    recorder.close()
    (episode,) = read_episodes(tmp_path, pytest.fail)

    assert episode.card == EpisodeCard("stillframe-episode/1", "arm", 3, "scripted")
    assert episode.folder.name.startswith("20010909T014640.000000Z-")
    assert episode.folder.name.endswith("-0003")
    assert EpisodeStore(tmp_path, 2**20).used_bytes == 3 * BLOCK_BYTES

from __future__ import annotations

import base64
import io
import json
import logging
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from stillframe.daemon.config import load_config
from stillframe.daemon.serve import open_recorder, serve
from stillframe.domain import (
    ActionChunk,
    CacheReport,
    KeyframeReason,
    KVUsage,
    Observation,
    PolicyInfo,
    SessionRef,
    Step,
    StepReport,
)
from stillframe.errors import ConfigError
from stillframe.recording.frame import RecordedFrame, encode
from stillframe.recording.policy import RecordingPolicy
from stillframe.recording.reader import RecordedEpisode, read_episodes
from stillframe.recording.recorder import Recorder
from stillframe.recording.store import read_card
from stillframe.testing import policy_info
from stillframe.tools.local_daemon import daemon

WAIT_S = 60  # for what has to happen; no test waits this long unless it fails
MIB = 2**20
LOG = logging.getLogger("recording-test")
LOG.setLevel(logging.INFO)

INFO = policy_info(
    name="scripted",
    parameters=1,
    cameras=("front", "wrist"),
    image_size=(8, 8),
    chunk_horizon=2,
    norm_stats={"jaco": {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 7}},
    default_unnorm_key="jaco",
)


def observation(seed: int, size: tuple[int, int] = (24, 32)) -> Observation:
    """Two cameras of noise, the second one smaller."""
    draw = np.random.default_rng(seed)
    front, wrist = (draw.integers(0, 256, (*shape, 3), np.uint8) for shape in (size, (16, 16)))
    return Observation({"front": front, "wrist": wrist}, f"pick the cube no. {seed} \u2192 \u00e9", "jaco")


def step(number: int, epoch: int = 0) -> Step:
    """A delta frame's answer, or a keyframe's for number 0."""
    draw = np.random.default_rng(1000 + number)
    reason = None if number else KeyframeReason.FIRST_FRAME
    cache = CacheReport("adaptive", reason, 0.5, 100, 288, 4096, 3 if number else 0, epoch, number)
    chunk = ActionChunk(draw.normal(size=(2, 7)), "jaco", draw.integers(0, 256, 14))
    return Step(chunk, StepReport({"queue": 0.25, "prepare": 1 / 3, "decode": 2.0}, passes=2, cache=cache))


def frame(number: int, epoch: int = 0, size: tuple[int, int] = (24, 32)) -> RecordedFrame:
    """The whole of it, one frame each tenth of a second."""
    return RecordedFrame(1_700_000_000 + 1000 * epoch + number / 10, observation(number, size), step(number, epoch))


def same(one: RecordedFrame, other: RecordedFrame) -> bool:
    """Equal to the bit."""
    a, b = one.step.chunk, other.step.chunk
    pictures = zip(one.observation.images.items(), other.observation.images.items(), strict=True)
    return (
        one.submitted_s == other.submitted_s
        and one.step.report == other.step.report
        and (one.observation.instruction, one.observation.unnorm_key, a.unnorm_key)
        == (other.observation.instruction, other.observation.unnorm_key, b.unnorm_key)
        and all(n == m and np.array_equal(p, q) and p.dtype == q.dtype for (n, p), (m, q) in pictures)
        and np.array_equal(a.actions, b.actions)
        and np.array_equal(a.tokens, b.tokens)
        and (a.actions.dtype, a.tokens.dtype) == (b.actions.dtype, b.tokens.dtype)
    )


@dataclass
class Scripted:
    """Answers each frame as its place says; an instruction 'fail' fails, one 'wait' is answered by hand."""

    info: PolicyInfo = INFO
    ready: bool = True
    usage: KVUsage = field(default_factory=lambda: KVUsage(1, 2, 3))
    closed: bool = False
    busy_s: float = 0.0
    forgotten: list[str] = field(default_factory=list)
    waiting: list[Future[Step]] = field(default_factory=list)
    asked: list[tuple[Observation, float, SessionRef | None]] = field(default_factory=list)

    def submit(
        self,
        observation: Observation,
        max_age_ms: float,
        session: SessionRef | None = None,
        *,
        share: str = "",  # noqa: ARG002
    ) -> Future[Step]:
        """Answer at once, or as the instruction says."""
        self.asked.append((observation, max_age_ms, session))
        answer: Future[Step] = Future()
        if observation.instruction == "fail":
            answer.set_exception(RuntimeError("no"))
        elif observation.instruction == "wait":
            self.waiting.append(answer)
        else:
            answer.set_result(step(session.seq, session.epoch) if session else step(0))
        return answer

    def forget(self, session_id: str) -> None:
        """Remember whom."""
        self.forgotten.append(session_id)

    def close(self) -> None:
        """Remember it."""
        self.closed = True


@dataclass
class Room:
    """A recorder of a policy's frames, and where they go."""

    root: Path
    policy: Scripted
    recorder: Recorder
    recorded: RecordingPolicy

    def play(self, session: str, *seqs: int, epoch: int = 0, serial: int = 0) -> None:
        """Submit frames of a session."""
        for seq in seqs:
            self.recorded.submit(observation(seq), 1000.0, SessionRef(session, epoch, seq, serial=serial)).result()

    def read(self) -> list[tuple[RecordedEpisode, list[RecordedFrame]]]:
        """Close, then read all back; a warning fails."""
        self.recorded.close()
        return [(episode, list(episode.frames(pytest.fail))) for episode in read_episodes(self.root, pytest.fail)]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """Open, on a clock that goes a second per look."""
    seconds = iter(range(1_700_000_000, 1_800_000_000))
    recorder = Recorder(tmp_path / "new" / "rec", max_bytes=64 * MIB, log=LOG)
    policy = Scripted()
    yield Room(
        tmp_path / "new" / "rec", policy, recorder, RecordingPolicy(policy, recorder, lambda: float(next(seconds)))
    )
    recorder.close()


def kept(root: Path, frames: list[tuple[str, RecordedFrame]], max_bytes: int = 64 * MIB) -> Recorder:
    """A recorder that was given these and is closed."""
    recorder = Recorder(root, max_bytes=max_bytes, log=LOG, pending_frames=1000)
    for session, one in frames:
        recorder.keep(session, "scripted", one)
    recorder.close()
    return recorder


def stored_bytes(root: Path) -> int:
    """What a recording takes up."""
    return sum(file.stat().st_size for file in root.rglob("*") if file.is_file())


def test_a_frame_comes_back_to_the_bit(tmp_path: Path) -> None:
    """Pictures, words, action, tokens and report of keyframe and delta frame, through the files."""
    frames = [frame(number) for number in range(3)]
    kept(tmp_path, [("arm", one) for one in frames])
    (episode,) = read_episodes(tmp_path, pytest.fail)
    back = list(episode.frames(pytest.fail))

    assert len(back) == 3
    assert all(same(one, other) for one, other in zip(frames, back, strict=True))
    assert not same(back[0], back[1])
    assert back[0].step.report.cache.keyframe_reason is KeyframeReason.FIRST_FRAME


def test_frames_are_grouped_by_session_and_epoch(room: Room) -> None:
    """Two robots interleaved, one of which begins a second episode: three folders, each in its order."""
    for number in range(3):
        room.play("left", number)
        room.play("right", number)
    room.play("left", 0, 1, epoch=1)
    found = [(episode.card.session, episode.card.epoch, len(frames)) for episode, frames in room.read()]

    assert found == [("left", 0, 3), ("right", 0, 3), ("left", 1, 2)]
    assert room.policy.closed


def test_what_has_no_episode_or_no_answer_is_not_kept(room: Room) -> None:
    """Stateless frames, failures and abandoned frames reach the policy as they came, but not the disk."""
    session = SessionRef("arm", mode="paper")
    stateless = room.recorded.submit(observation(0), 5.0)
    failed = room.recorded.submit(Observation({}, "fail"), 6.0, session)
    abandoned = room.recorded.submit(Observation({}, "wait"), 7.0, session)
    assert abandoned.cancel()
    room.play("arm", 0)
    ((_, frames),) = room.read()

    assert stateless.result().chunk.unnorm_key == "jaco"
    assert isinstance(failed.exception(), RuntimeError)
    assert [(max_age_ms, ref) for _, max_age_ms, ref in room.policy.asked[:3]] == [
        (5.0, None),
        (6.0, session),
        (7.0, session),
    ]
    assert len(frames) == 1
    assert (room.recorder.kept, room.recorder.dropped) == (1, 0)


def test_the_policy_shows_through(room: Room) -> None:
    """The web floor sees the same contract, readiness, usage and business; who is forgotten is forgotten below."""
    assert room.recorded.info is room.policy.info
    assert room.recorded.usage is room.policy.usage
    room.policy.ready, room.policy.busy_s = False, 2.5
    room.recorded.forget("arm")

    assert not room.recorded.ready
    assert room.recorded.busy_s == 2.5
    assert room.policy.forgotten == ["arm"]


def test_a_frame_has_the_time_at_which_it_was_asked(room: Room) -> None:
    """Not that of its answer: the clock is looked at once a frame, as it comes in."""
    answer = room.recorded.submit(Observation(observation(0).images, "wait"), 1000.0, SessionRef("arm"))
    room.play("other", 0)
    answer.set_result(step(0))
    found = {episode.card.session: frames[0].submitted_s for episode, frames in room.read()}

    assert found == {"arm": 1_700_000_000, "other": 1_700_000_001}


def test_what_is_answered_as_the_daemon_stops_is_kept(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy closes first, and answers what waits; then what was answered is written."""
    answer = room.recorded.submit(Observation(observation(0).images, "wait"), 1000.0, SessionRef("arm"))
    monkeypatch.setattr(room.policy, "close", lambda: answer.set_result(step(0)))
    ((_, frames),) = room.read()

    assert [one.name for one in frames] == ["000000"]


def test_seqs_may_skip(room: Room) -> None:
    """A client counts as it likes, as long as it counts up: one folder, in the order of the numbers."""
    seqs = [3, 4, 900, 999_999, 1_000_000, 2**63 - 1]
    room.play("arm", *seqs)
    ((_, frames),) = room.read()

    assert [one.step.report.cache.seq for one in frames] == seqs


def test_a_session_that_ended_and_came_back_is_another_episode(room: Room) -> None:
    """Under the same id, in the same epoch, though its client counts on: another serial, another folder."""
    room.play("arm", 0, 1)
    room.play("arm", 2, 3, serial=1)
    found = [[one.step.report.cache.seq for one in frames] for _, frames in room.read()]

    assert found == [[0, 1], [2, 3]]


def test_an_answer_that_is_kept_keeps_no_picture(room: Room) -> None:
    """The web floor keeps answers for a repeat; what they were asked about is gone once it is on disk."""
    seen = Observation(observation(0).images, "wait")
    held = weakref.ref(seen)
    answer = room.recorded.submit(seen, 1000.0, SessionRef("arm"))
    room.policy.asked.clear()
    del seen
    answer.set_result(step(0))
    room.recorded.close()

    assert answer.result().chunk.unnorm_key == "jaco"
    assert held() is None


def test_a_full_queue_drops_frames_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While the disk hangs, keep() returns at once; what did not fit is counted and said once."""
    writing, go_on = threading.Event(), threading.Event()

    def slow(one: RecordedFrame, *kept: Any) -> dict[str, bytes]:
        writing.set()
        assert go_on.wait(WAIT_S)
        return encode(one, *kept)

    monkeypatch.setattr("stillframe.recording.recorder.encode", slow)
    recorder = Recorder(tmp_path, max_bytes=MIB, log=LOG, pending_frames=2)
    recorder.keep("arm", "scripted", frame(0))
    assert writing.wait(WAIT_S)
    for number in range(1, 6):
        recorder.keep("arm", "scripted", frame(number))
    assert recorder.dropped == 3
    go_on.set()
    recorder.close()
    (episode,) = read_episodes(tmp_path, pytest.fail)

    assert [one.name for one in episode.frames(pytest.fail)] == ["000000", "000001", "000002"]
    assert recorder.kept == 3
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "the disk is too slow: frames are not recorded (1 so far)"
    ]


def test_the_oldest_episodes_go_when_it_is_full(tmp_path: Path) -> None:
    """At no time more than the budget; the newest frames are all there; what is kept is whole."""
    recorder = Recorder(tmp_path, max_bytes=MIB, log=LOG)
    most = 0
    for epoch in range(24):
        for number in range(4):
            recorder.keep("arm", "scripted", frame(number, epoch, (100, 100)))
        while recorder.kept < 4 * (epoch + 1):
            threading.Event().wait(0.002)
        most = max(most, stored_bytes(tmp_path))
    recorder.close()
    episodes = read_episodes(tmp_path, pytest.fail)
    lengths = [len(list(episode.frames(pytest.fail))) for episode in episodes]

    assert recorder.dropped == 0
    assert MIB // 2 < most <= MIB
    assert [episode.card.epoch for episode in episodes] == list(range(24 - len(episodes), 24))
    assert lengths == [4] * len(episodes)


def test_an_endless_episode_is_kept_in_parts(tmp_path: Path) -> None:
    """An episode without an end costs its own oldest part, not everything."""
    kept(tmp_path, [("arm", frame(number, 0, (100, 100))) for number in range(60)], MIB)
    episodes = read_episodes(tmp_path, pytest.fail)
    names = [one.name for episode in episodes for one in episode.frames(pytest.fail)]

    assert 2 <= len(episodes) <= 4
    assert names == [f"{number:06d}" for number in range(60 - len(names), 60)]
    assert len(names) >= 10
    assert stored_bytes(tmp_path) <= MIB


def test_a_frame_too_large_is_dropped_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It costs no older episode; the warning names the knob."""
    recorder = kept(tmp_path, [("arm", frame(0)), ("arm", frame(1, 0, (400, 400))), ("arm", frame(2))], MIB)
    (episode,) = read_episodes(tmp_path, pytest.fail)

    assert (recorder.kept, recorder.dropped) == (2, 1)
    assert [one.name for one in episode.frames(pytest.fail)] == ["000000", "000002"]
    assert "record_max_mib" in caplog.text


def test_only_recordings_are_removed(tmp_path: Path) -> None:
    """What else lies in the folder stays and is not counted; what an interrupted removal left behind goes."""
    (tmp_path / "notes.txt").write_bytes(b"x" * 2 * MIB)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "episode.json").write_text("{}")
    left = tmp_path / "20200101T000000.000000Z-0123456789ab-0000.part"
    left.mkdir()
    (left / "000000.0.png").write_bytes(b"x" * MIB)
    kept(tmp_path, [("arm", frame(number, epoch, (100, 100))) for epoch in range(12) for number in range(4)], MIB)

    assert (tmp_path / "notes.txt").stat().st_size == 2 * MIB
    assert (tmp_path / "mine" / "episode.json").read_text() == "{}"
    assert not left.exists()


def test_what_is_there_counts_against_the_budget(tmp_path: Path) -> None:
    """A daemon that starts again goes on with the folder it left, oldest first."""
    kept(tmp_path, [("arm", frame(number, 0, (100, 100))) for number in range(4)], MIB)
    kept(tmp_path, [("arm", frame(number, epoch, (100, 100))) for epoch in range(1, 9) for number in range(4)], MIB)

    assert stored_bytes(tmp_path) <= MIB
    assert read_episodes(tmp_path, pytest.fail)[0].card.epoch > 0


@pytest.mark.parametrize("session", ["../../etc/passwd", "/abs", "a" * 4000, "..", "", "nul\0", "x\n\u202e"])
def test_a_clients_word_is_no_path(tmp_path: Path, session: str) -> None:
    """Whatever a session calls itself, its frames lie in a folder of our naming, and its name is in the card."""
    root = tmp_path / "deep" / "rec"
    recorder = kept(root, [(session, frame(0)), ("other", frame(0))])
    cards = [read_card(folder) for folder in root.iterdir()]

    assert recorder.dropped == 0
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and root not in path.parents] == []
    assert all(re.fullmatch(r"[0-9TZ.]+-[0-9a-f]{12}-\d{4}", folder.name) for folder in root.iterdir())
    assert {card.session for card in cards} == {session, "other"}


def test_a_session_that_begins_anew_overwrites_nothing(tmp_path: Path) -> None:
    """A forgotten session counts from 0 in epoch 0 again: those frames get a folder of their own."""
    again = RecordedFrame(1_700_000_500, observation(7), step(0))
    kept(tmp_path, [("arm", frame(0)), ("arm", frame(1)), ("arm", again)])
    first, second = ([*episode.frames(pytest.fail)] for episode in read_episodes(tmp_path, pytest.fail))

    assert [one.name for one in first] == ["000000", "000001"]
    assert same(first[0], frame(0))
    assert same(second[0], again)


def cut(file: Path) -> None:
    """Half of it is missing."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def swap_a_pixel(file: Path) -> None:
    """A picture that can be read, but is another one."""
    with Image.open(file) as opened:
        pixels = np.array(opened)
    pixels[3, 3] ^= 1
    Image.fromarray(pixels).save(file)


def as_bmp(file: Path) -> None:
    """The same pixels in another format."""
    with Image.open(file) as opened:
        pixels = np.array(opened)
    Image.fromarray(pixels).save(file, "BMP")


def change(key: str, value: object) -> Callable[[Path], None]:
    """Set one key of a JSON."""

    def changed(file: Path) -> None:
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))

    return changed


DAMAGE = {
    "cut json": ("000001.json", cut, "not a frame"),
    "empty json": ("000001.json", lambda file: file.write_bytes(b""), "not a frame"),
    "no text": ("000001.json", lambda file: file.write_bytes(b"\xff\xfe\x00"), "not a frame"),
    "foreign json": ("000001.json", lambda file: file.write_text('{"hello": 1}'), "format"),
    "another version": ("000001.json", change("format", "stillframe-frame/2"), "format"),
    "ragged actions": ("000001.json", change("actions", [[1.0], [1.0, 2.0]]), "inhomogeneous"),
    "no report": ("000001.json", change("report", {"stages_ms": {}}), "report"),
    "cut png": ("000001.1.png", cut, "not a PNG"),
    "no png": ("000001.0.png", lambda file: file.write_text("GIF89a"), "not a PNG"),
    "bmp": ("000001.0.png", as_bmp, "not a PNG"),
    "missing png": ("000001.0.png", Path.unlink, "No such file"),
    "another size": ("000001.0.png", lambda file: Image.new("RGB", (9, 9)).save(file, "PNG"), "32 by 24"),
    "grey": ("000001.0.png", lambda file: Image.new("L", (32, 24)).save(file, "PNG"), "expected RGB"),
    "another picture": ("000001.0.png", swap_a_pixel, "not those that were recorded"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_frame_is_named_and_skipped(tmp_path: Path, damage: str) -> None:
    """One warning, with the file and what is wrong with it; the frames beside it are read."""
    name, spoil, words = DAMAGE[damage]
    kept(tmp_path, [("arm", frame(number)) for number in range(3)])
    (folder,) = tmp_path.iterdir()
    spoil(folder / name)
    (episode,) = read_episodes(tmp_path, pytest.fail)
    warnings: list[str] = []
    back = [one.name for one in episode.frames(warnings.append)]

    assert back == ["000000", "000002"]
    assert len(warnings) == 1
    assert str(folder / name) in warnings[0]
    assert words in warnings[0]


@pytest.mark.parametrize(
    "card", [None, b"", b'{"format": "stillframe-episode/1", "sess', b"[]", b'{"format": "other"}']
)
def test_a_folder_that_is_no_episode_is_named_and_skipped(tmp_path: Path, card: bytes | None) -> None:
    """Its card is missing, cut or foreign: the others are read."""
    kept(tmp_path, [("left", frame(0)), ("right", frame(0, 1))])
    bad, good = sorted(tmp_path.iterdir())
    if card is None:
        (bad / "episode.json").unlink()
    else:
        (bad / "episode.json").write_bytes(card)
    warnings: list[str] = []
    episodes = read_episodes(tmp_path, warnings.append)

    assert [episode.folder for episode in episodes] == [good]
    assert len(warnings) == 1
    assert str(bad) in warnings[0]


def test_what_was_cut_off_while_it_was_written_is_no_frame(tmp_path: Path) -> None:
    """Pictures without their JSON and files with a working name are not read, and nobody is warned of them."""
    kept(tmp_path, [("arm", frame(number)) for number in range(2)])
    (folder,) = tmp_path.iterdir()
    (folder / "000001.json").rename(folder / "000001.json.part")
    (episode,) = read_episodes(tmp_path, pytest.fail)

    assert [one.name for one in episode.frames(pytest.fail)] == ["000000"]


def test_one_episode_can_be_read_alone(tmp_path: Path) -> None:
    """Its own folder may be named instead of the recording's."""
    kept(tmp_path, [("left", frame(0)), ("right", frame(0, 1))])
    folder = max(tmp_path.iterdir())

    assert [episode.card.session for episode in read_episodes(folder, pytest.fail)] == ["right"]


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    """No such folder, a file, an empty folder: which, and how to record."""
    with pytest.raises(ConfigError, match=r"cannot read .*none: No such file"):
        read_episodes(tmp_path / "none", pytest.fail)
    with pytest.raises(ConfigError, match=r"holds no episode; record some: stillframe serve CONFIG --record"):
        read_episodes(tmp_path, pytest.fail)


def test_trouble_with_the_disk_is_counted_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its folder vanishes while it records: the loss is said once; with a folder it goes on."""
    root, away = tmp_path / "rec", tmp_path / "away"
    recorder = Recorder(root, max_bytes=MIB, log=LOG)
    recorder.keep("arm", "scripted", frame(0))
    settle(recorder, 1)
    root.rename(away)
    root.write_text("in the way")
    for number in (1, 2):
        recorder.keep("arm", "scripted", frame(number))
    settle(recorder, 3)
    root.unlink()
    away.rename(root)
    recorder.keep("arm", "scripted", frame(3))
    recorder.close()
    (episode,) = read_episodes(root, pytest.fail)

    assert (recorder.kept, recorder.dropped) == (2, 2)
    assert [one.name for one in episode.frames(pytest.fail)] == ["000000", "000003"]
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert caplog.records[-1].message == f"recorded 2 frames in {root}, dropped 2"


def settle(recorder: Recorder, frames: int) -> None:
    """Until so many have been written or lost."""
    give_up_s = time.monotonic() + WAIT_S
    while recorder.kept + recorder.dropped < frames and time.monotonic() < give_up_s:
        time.sleep(0.002)
    assert recorder.kept + recorder.dropped == frames


def test_a_folder_that_cannot_be_one_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    """The daemon says which, and does not start."""
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "rec"):
        config = load_config(None, {"checkpoint": Path("nowhere"), "port": 0, "record": folder})
        with pytest.raises(ConfigError, match=f"cannot record in {folder}: .*; choose another folder"):
            serve(config, LOG)


@pytest.mark.process
def test_the_daemon_keeps_what_it_answered(
    golden_folder: Path, goldens: Mapping[str, Any], tmp_path: Path, new_port: Callable[[], int]
) -> None:
    """`stillframe serve --record DIR`, as a process: a session's pictures and actions to the bit, nothing stateless."""
    arguments = ["--checkpoint", str(golden_folder), "--device", "cpu", "--dtype", "float32", "--threads", "1"]
    arguments += ["--record", str(tmp_path)]
    with daemon(arguments, new_port()) as url, httpx.Client(base_url=url, timeout=WAIT_S) as http:
        for name in ("f0", "f1"):
            picture, instruction = goldens[name].picture, goldens[name].instruction
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "PNG")
            body = {"image": base64.b64encode(buffer.getvalue()).decode(), "instruction": instruction}
            http.post("/act", json=body).raise_for_status()
            http.post("/act", json=body, headers={"X-Session-Id": "../arm"}).raise_for_status()
    (episode,) = read_episodes(tmp_path, pytest.fail)
    frames = list(episode.frames(pytest.fail))

    assert (episode.card.session, episode.card.epoch, episode.card.model) == ("../arm", 0, golden_folder.name)
    assert len(frames) == 2
    for name, one in zip(("f0", "f1"), frames, strict=True):
        assert np.array_equal(next(iter(one.observation.images.values())), goldens[name].picture)
        assert np.array_equal(one.step.chunk.actions, goldens[name].action[None])
        assert one.observation.instruction == goldens[name].instruction
    assert frames[1].step.report.cache.seq == 1
    assert [one.grid for frame in frames for one in (frame.step.report.cache.patches or {}).values()] == [(16, 16)] * 2
    assert episode.card.action_names[-1] == "gripper"


def test_the_configuration_says_what_is_kept_of_pictures(tmp_path: Path) -> None:
    """And how much in all."""
    keys = {"checkpoint": Path("any"), "record": tmp_path, "record_images": "hash", "record_max_mib": 2.0}
    recorder = open_recorder(load_config(None, keys), LOG)
    assert recorder is not None
    recorder.keep("arm", "scripted", frame(0))
    recorder.close()
    (episode,) = read_episodes(tmp_path, pytest.fail)

    assert recorder.report.budget_bytes == 2 * MIB
    assert [file.suffix for file in episode.folder.iterdir()] == [".json", ".json"]

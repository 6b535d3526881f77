"""Robots, frames of no session, failures, pauses and departures in any order, beside a model of a few lines a session.

The model says who holds a slot, which frame each slot's keys and values came from, why a frame is whole, what a pause
has left to do, and what is known of pictures, actions and older frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillframe.domain import ActionChunk, KeyframeReason, Observation, SessionRef, Step
from stillframe.engine.requests import FrameRequest
from stillframe.engine.step import step
from stillframe.errors import Internal, Unprocessable
from stillframe.history.settings import HistorySettings
from stillframe.models.base import Decoded, Prefilled
from stillframe.reuse.kv import MIB, KVCorrupted

Make = Callable[..., Any]
PATCHES = 16
WORDS = ["reach", "lift it now", "reach for the cube"]  # the second fills a slot, the third is longer by a word
TEXT_TOKENS, EVERY, GAP_S = 3, 4, 2.0
ROBOTS = "abc"
HISTORY = HistorySettings(enabled=True, gate="recency", window_frames=1, budget_mib=3 / 2**10)

Picture = tuple[int, ...]  # of each patch the seed of the noise it shows
PICTURES: list[Picture] = [(0,) * 16, (*(0,) * 4, 9, *(0,) * 11), (1,) * 16]


@dataclass(frozen=True)
class Ask:
    """A frame: of a robot or of no session, whose towers fail or not, with cameras that the policy has or not."""

    robot: str | None
    picture: Picture
    says: str = WORDS[0]
    mode: Any = None
    spoilt: bool = False  # its rows come out of the towers as NaN
    foreign: bool = False  # it names a camera that the policy does not have

    @property
    def fits(self) -> bool:
        """Whether a slot holds it."""
        return len(self.says.split()) <= TEXT_TOKENS


@dataclass
class Known:
    """What one session has, as the model sees it."""

    serial: int
    epoch: int
    cause: KeyframeReason | None = KeyframeReason.FIRST_FRAME
    holds: bool = False
    kept: tuple[Picture | None, str, str] = (None, "", "")  # what its keys and values came from: picture, words, mode
    ages: list[int] = field(default_factory=list)
    since_dense: int = 0
    at_s: float = 0.0
    pending: str | None = None  # "keyframe" or "delta", where a pause has something to do
    seen: tuple[Picture, str] | None = None
    acted: int = 0  # in this episode

    def release(self) -> None:
        """It loses its slot."""
        self.holds, self.pending, self.seen = False, None, None


@dataclass
class Planned:
    """What the model expects of one frame."""

    ask: Ask
    known: Known | None
    mode: str
    reason: KeyframeReason | None
    keeps: bool = False
    same: int = 0  # patches that are reused
    ages: list[int] = field(default_factory=list)


def alike(one: Picture, other: Picture | None, mode: str) -> list[bool]:
    """Which patches mode `mode` takes over from the other picture."""
    same = [other is not None and own == its for own, its in zip(one, other or one, strict=True)]
    return [all(same[: at + 1]) for at in range(PATCHES)] if mode == "exact" else same


class Slots:
    """A session cache of few slots, and the model."""

    def __init__(self, robots: Make, picture: Make, slots: int, mode: str):
        self.known: dict[str, Known] = {}  # in the order in which they were here
        self.refs: dict[str, SessionRef] = {}
        self.frames: list[Any] = []
        self.broken = False  # whether the pass fails, half-way
        self.looked: list[int] = []
        self.lent: set[str] = set()  # sessions that were given a slot in this step
        self.held: dict[str, Tensor] = {}  # what each session's slot held when it was last looked at
        self.keys: dict[tuple[int, int], Tensor] = {}  # (patch, its seed) -> its key in the first layer
        self.pictures = {shown: drawn(shown, picture) for shown in PICTURES}
        knobs = {"slot_text_tokens": TEXT_TOKENS, "keyframe_every": EVERY, "gap_s": GAP_S, "history": HISTORY}
        nbytes = 2 * 4 * 2 * 8 * 4 * (1 + PATCHES + 7 + TEXT_TOKENS)  # keys and values, layers, heads, width, bytes
        self.bench = robots(mode, kv_budget_mib=(slots + 1) * nbytes / MIB, **knobs)
        self.cache, self.slots, self.mode = self.bench.core.cache, slots, mode
        assert (self.cache.usage.slots, self.cache.slots.spare.nbytes) == (slots, nbytes)
        commit, embed, embed_batch = self.cache._commit, self.bench.model.embed, self.cache.embed_batch

        def committed(frame: Any, decoded: Any) -> Any:
            self.frames.append(frame)
            return commit(frame, decoded)

        def looked(prepared: Sequence[Any], *parts: Any) -> Any:
            self.looked.append(len(prepared))
            return embed(prepared, *parts)

        def spoilt(*parts: Any) -> list[Tensor]:
            rows = embed_batch(*parts)
            return [own * torch.nan if bad else own for own, bad in zip(rows, self.spoilt, strict=True)]

        self.cache._commit, self.bench.model.embed, self.cache.embed_batch = committed, looked, spoilt
        self.bench.model.act = self._act

    def see(self, asks: list[Ask], fails: str | None) -> None:
        """Frames side by side; nothing fails that is foreseen, or the towers do, or the pass does half-way."""
        self.bench.clock.now_s += 0.1
        able = [ask for ask in asks if not ask.foreign]
        self.spoilt = [ask.spoilt for ask in able]
        batch = [self._asked(ask) for ask in asks]
        self.frames.clear()
        self.looked.clear()
        if fails and able:
            self._fail(batch, able, fails)
            return
        answers = step(self.bench.core, batch)
        unseen = self._come(able)
        assert sum(self.looked) == unseen
        plans = iter(self._plan(able))
        frames = iter(self.frames)
        for ask, answer in zip(asks, answers, strict=True):
            if ask.foreign:
                assert isinstance(answer, Unprocessable)
                continue
            planned = next(plans)
            if ask.spoilt:
                assert isinstance(answer, Internal)
                continue
            assert isinstance(answer, Step)
            self._check(planned, answer, next(frames), len(able))
            self._keep(planned)
        places = [frame.kv.keys(0, 1).data_ptr() for frame in self.frames]
        assert len({*places}) == len(places)

    def refresh(self, disturbed: int | None = None, *, damaged: bool = False) -> None:
        """A pause, undisturbed or not; before it memory is damaged, or not, that the pause looks through."""
        robot = next((robot for robot, known in self.known.items() if known.pending), None)
        session = self.cache.sessions.pending()
        assert (None if session is None else session.ref.id) == robot
        if robot is None:
            return
        known, asked = self.known[robot], []
        damaged = damaged and known.pending == "keyframe" and disturbed is None
        if damaged:
            session.reuse.kv.keys(2, 4)[1, 3, 0] = torch.nan
            with pytest.raises(KVCorrupted):
                self.bench.refresh()
            known.release()
            known.cause = KeyframeReason.INTEGRITY
            return
        report = self.bench.refresh(lambda: bool(asked.append(1)) or len(asked) == disturbed)
        if disturbed == 1 or (disturbed == 2 and known.pending == "delta"):
            assert report.drift is None
        elif known.pending == "delta":
            assert report.drift is not None
            known.pending, known.ages, known.since_dense = None, [0] * PATCHES, 0
            self.held.pop(robot)  # another slot
        else:
            assert report is None
            known.pending = None

    def end(self, robot: str, how: str) -> None:
        """An episode ends, a session begins anew under its name or is over, or something failed that it was in."""
        ref, known = self._ref(robot), self.known.get(robot)
        if how == "reset":
            self.refs[robot] = replace(ref, epoch=ref.epoch + 1, seq=0)
        elif how == "again":
            self.refs[robot] = SessionRef(robot, serial=ref.serial + 1)
        elif how == "forget":
            self.cache.end(robot)
            self.known.pop(robot, None)
        else:
            self.cache.invalidate(ref if how == "doubt" else replace(ref, serial=ref.serial + 7))
            if known and how == "doubt" and known.serial == ref.serial:
                known.cause = known.cause or KeyframeReason.INTEGRITY

    def check(self) -> None:
        """Slots, pauses and what is left of sessions are as the model has them; the spare slot is no session's."""
        sessions, storage, usage = self.cache.sessions, self.cache.slots, self.cache.usage
        holding = {robot for robot, known in self.known.items() if known.holds}
        assert len(sessions) == len(self.known)
        assert (usage.sessions, usage.in_use_bytes) == (len(holding), len(holding) * storage.spare.nbytes)
        assert storage.pool.free == self.slots - len(holding)
        assert usage.history_chunks == sum(min(known.acted, 3) for known in self.known.values())
        places = [storage.spare.keys(0, 1).data_ptr()]
        for robot, known in self.known.items():
            session = sessions.known(robot)
            assert session is not None
            assert (session.reuse is not None) is known.holds
            assert (session.pending is not None) is (known.pending is not None)
            assert session.cause == known.cause
            if session.reuse is not None:
                places.append(session.reuse.kv.keys(0, 1).data_ptr())
                self._lies_there(robot, session.reuse.kv)
        assert len({*places}) == len(places)
        for robot in self.held.keys() - holding:
            self.held.pop(robot)

    def _lies_there(self, robot: str, kv: Any) -> None:
        """Keys in the first layer are those of the picture that its frame showed; between frames nothing moves."""
        picture, says, _ = self.known[robot].kept
        if picture is None:
            return
        now = torch.stack(kv.rows(0, 1 + PATCHES + len(says.split())))
        if robot in self.held:
            assert torch.equal(self.held[robot], now)
            return
        self.held[robot] = now
        own = now[0, 0, 0, 1 : 1 + PATCHES]  # keys of the first layer
        expected = [self.keys.setdefault(patch, key) for patch, key in zip(enumerate(picture), own, strict=True)]
        torch.testing.assert_close(own, torch.stack(expected), rtol=0, atol=1e-4)

    def _act(self, prefilled: Sequence[Prefilled], _: Any) -> list[Decoded]:
        """Says what is guessed: which action it is makes no difference here, and passes take time."""
        if self.broken:
            raise RuntimeError("no")
        said = [one.draft.ids for one in prefilled]
        return [Decoded(ActionChunk(ids[None] / 63, "toy", ids), ids[None] / 63, 0, len(ids)) for ids in said]

    def _ref(self, robot: str) -> SessionRef:
        return self.refs.setdefault(robot, SessionRef(robot))

    def _asked(self, ask: Ask) -> FrameRequest:
        image = self.pictures[ask.picture]
        observation = Observation({"rear" if ask.foreign else "front": image}, ask.says)
        if ask.robot is None:
            return FrameRequest(observation)
        ref = replace(self._ref(ask.robot), mode=ask.mode)
        self.refs[ask.robot] = replace(ref, seq=ref.seq + 1)
        return FrameRequest(observation, ref)

    def _fail(self, batch: list[FrameRequest], able: list[Ask], where: str) -> None:
        """Every session that was planned is to be whole; of what the towers took no session keeps anything."""
        embed_batch = self.cache.embed_batch

        def failing(*parts: Any) -> Any:
            embed_batch(*parts)
            raise RuntimeError("no")

        if where == "towers":
            self.cache.embed_batch = failing
        else:
            self.broken = True
        with pytest.raises(RuntimeError, match="no"):
            step(self.bench.core, batch)
        self.cache.embed_batch, self.broken = embed_batch, False
        self._come(able)
        if where == "pass":
            self._plan(able)

    def _come(self, asks: list[Ask]) -> int:
        """Sessions find themselves where their frames are; how many frames the towers have to look at."""
        unseen = 0
        for ask in asks:
            if ask.robot is None:
                unseen += 1
                continue
            ref, known = self.refs[ask.robot], self.known.pop(ask.robot, None)
            if known is None or known.serial != ref.serial:
                known = Known(ref.serial, ref.epoch)
            elif known.epoch != ref.epoch:
                known.epoch, known.cause, known.acted = ref.epoch, KeyframeReason.RESET, 0
            self.known[ask.robot] = known
            self.held.pop(ask.robot, None)
            unseen += known.seen != (ask.picture, ask.says)
            known.seen = None
        return unseen

    def _plan(self, asks: list[Ask]) -> list[Planned]:
        """What becomes of each frame, and of the slots."""
        self.lent.clear()
        return [self._planned(ask, {ask.robot for ask in asks}) for ask in asks]

    def _planned(self, ask: Ask, busy: set[str | None]) -> Planned:
        if ask.robot is None:
            return Planned(ask, None, "off", KeyframeReason.STATELESS)
        known, mode = self.known[ask.robot], ask.mode or self.mode
        if mode == "off" or not ask.fits:
            known.release()
            known.cause = KeyframeReason.MODE if mode == "off" else KeyframeReason.INSTRUCTION
            return Planned(ask, known, mode, KeyframeReason.OFF if mode == "off" else KeyframeReason.TOO_LONG)
        same = alike(ask.picture, known.kept[0], mode)
        reason = known.cause or self._why(ask, known, mode, sum(same))
        planned = Planned(ask, known, mode, reason, keeps=True)
        if reason is None:
            planned.same = sum(same)
            planned.ages = [age + 1 if still else 0 for age, still in zip(known.ages, same, strict=True)]
        if not known.holds and not self._slot(busy):
            known.cause = KeyframeReason.EVICTED
            return replace(planned, keeps=False)
        known.pending, known.cause = None, KeyframeReason.INTEGRITY
        known.kept = (None, "", "")  # half of this frame, half of that
        if not known.holds:
            self.lent.add(ask.robot)
        return planned

    def _why(self, ask: Ask, known: Known, mode: str, same: int) -> KeyframeReason | None:
        _, says, its = known.kept
        if its != mode:
            return KeyframeReason.MODE
        if says != ask.says:
            return KeyframeReason.INSTRUCTION
        if self.bench.clock.now_s - known.at_s > GAP_S:
            return KeyframeReason.GAP
        if mode == "adaptive":
            if known.since_dense + 1 >= EVERY:
                return KeyframeReason.AGE
            if same < 2:  # a tenth
                return KeyframeReason.SCENE_CUT
        return None

    def _slot(self, busy: set[str | None]) -> bool:
        """Whether there is one, or a session that is not in the batch gives up its own: the longest idle."""
        if sum(known.holds for known in self.known.values()) + len(self.lent) < self.slots:
            return True
        idle = next((known for robot, known in self.known.items() if known.holds and robot not in busy), None)
        if idle is not None:
            idle.release()
            idle.cause = KeyframeReason.EVICTED
        return idle is not None

    def _check(self, planned: Planned, answer: Step, frame: Any, batch: int) -> None:
        """The report says what the model expects."""
        ask, known, cache = planned.ask, planned.known, answer.report.cache
        assert (cache.keyframe_reason, cache.mode) == (planned.reason, planned.mode)
        assert cache.kv_bytes == (self.cache.slots.spare.nbytes if planned.keeps else 0)
        assert cache.age_max == max(planned.ages, default=0)
        assert cache.reused_tokens == (1 + planned.same if planned.reason is None else 0)
        assert cache.total_tokens == 1 + PATCHES + len(ask.says.split())
        assert (answer.report.batch, frame.probe) == (batch, None)
        ref = self.refs[ask.robot] if ask.robot else SessionRef("", seq=1)
        assert (cache.epoch, cache.seq) == (ref.epoch, ref.seq - 1)
        assert (answer.report.draft.way == "still") is (known is None or known.acted == 0)
        came = None if answer.report.history is None else answer.report.history.came
        assert came == (None if known is None else known.acted + 1)

    def _keep(self, planned: Planned) -> None:
        """What the frame leaves."""
        ask, known = planned.ask, planned.known
        if known is None:
            return
        known.acted += 1
        known.seen = (ask.picture, ask.says)
        if planned.keeps:
            delta = planned.reason is None
            known.holds, known.cause, known.at_s = True, None, self.bench.clock.now_s
            known.kept = (ask.picture, ask.says, planned.mode)
            known.ages = planned.ages if delta else [0] * PATCHES
            known.since_dense = known.since_dense + 1 if delta else 0
            known.pending = None if planned.mode == "exact" else "delta" if delta else "keyframe"


def drawn(shown: Picture, noise: Make) -> Any:
    """The picture itself."""
    image = noise(shown[0])
    for at, seed in enumerate(shown):
        y, x = at // 4 * 4, at % 4 * 4
        image[y : y + 4, x : x + 4] = noise(seed)[y : y + 4, x : x + 4]
    return image


def frames(robot: str | None) -> list[Ask]:
    """What a robot may send; most often what it sent before."""
    still, patch, cut = PICTURES
    usual = [Ask(robot, still)] * 9 + [Ask(robot, patch)] * 4 + [Ask(robot, cut)]
    words = [Ask(robot, still, WORDS[1]), Ask(robot, still, WORDS[2])]
    modes = [Ask(robot, still, mode=mode) for mode in ("off", "exact", "exact")]
    return [*usual, *words, *modes, Ask(robot, patch, spoilt=True), Ask(robot, cut, foreign=True)]


@dataclass(frozen=True)
class Event:
    """What happens between two steps."""

    what: str
    robot: str = ""
    disturbed: int | None = None  # a pause, when it asks for the so manieth time whether a frame waits

    def befall(self, slots: Slots) -> None:
        """Make it happen."""
        if self.what in {"refresh", "damage"}:
            slots.refresh(self.disturbed, damaged=self.what == "damage")
        elif self.what == "wait":
            slots.bench.clock.now_s += GAP_S
        else:
            slots.end(self.robot, self.what)


PAUSES = [Event("refresh"), Event("rest"), Event("rest", disturbed=1), Event("rest", disturbed=2), Event("damage")]
ENDS = [Event(what, robot) for what in ("reset", "again", "forget", "doubt", "stranger") for robot in ROBOTS[:2]]
rounds = st.tuples(
    st.lists(
        st.sampled_from([ask for robot in (None, *ROBOTS) for ask in frames(robot)]),
        min_size=1,
        max_size=5,
        unique_by=lambda ask: ask.robot or object(),
    ),
    st.sampled_from([None] * 12 + ["towers", "pass"]),
    st.lists(st.sampled_from([*PAUSES * 3, *ENDS, Event("wait")]), max_size=2),
)


@settings(
    max_examples=settings().max_examples // 6,
    phases=[Phase.generate],
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    walk=st.lists(rounds, min_size=10, max_size=20),
    slots=st.integers(1, 2),
    mode=st.sampled_from(["adaptive", "adaptive", "exact"]),
)
def test_sessions_hold_what_they_should(robots: Make, picture: Make, walk: Any, slots: int, mode: str) -> None:
    """Whatever comes: each answer and its report, each slot and what lies in it, are what the model says."""
    run = Slots(robots, picture, slots, mode)
    for asks, fails, events in walk:
        run.see(asks, fails)
        run.check()
        for event in events:
            event.befall(run)
            run.check()

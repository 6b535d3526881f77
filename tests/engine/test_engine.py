from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from stillframe.domain import ActionChunk, Observation, PolicyInfo, ReuseMode, SessionRef, SlackReport, Step
from stillframe.engine.engine import WARM_UP_STEPS, Engine
from stillframe.engine.settings import BatchingSettings
from stillframe.errors import DeadlineExceeded, Internal, NotReady, Overloaded, RequestError, Unprocessable
from stillframe.models.base import Decoded, ImageEncoder, Prefilled, Prepared
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.reuse.settings import ReuseSettings
from stillframe.testing import ManualClock, policy_info

WAIT_S = 60  # for what has to happen; no test waits this long unless it fails
AGE_MS = 1000.0
STATS = {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 7}
INFO = policy_info(
    name="gated", family="openvla", image_size=(8, 12), norm_stats={"jaco": STATS}, default_unnorm_key="jaco"
)
ONE_LAYER = DecoderConfig(
    vocab_size=8,
    hidden_size=4,
    intermediate_size=4,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
)


@dataclass
class GatedModel:
    """Lets a frame through when the gate is open, and answers it with its own instruction as the unnorm_key."""

    info: PolicyInfo = INFO
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    decoder: Decoder = field(default_factory=lambda: Decoder(ONE_LAYER))
    failures: dict[str, Exception] = field(default_factory=dict)  # instruction -> what computing it raises
    came: list[Observation] = field(default_factory=list)  # what was prepared
    seen: list[Observation] = field(default_factory=list)  # what was computed
    batches: list[list[str]] = field(default_factory=list)  # the instructions that were computed side by side
    threads: set[int] = field(default_factory=set)
    fixed_rows: int = 3  # BOS, a patch, an action token
    mask: Mask = Mask.CAUSAL
    has_expert: bool = False
    answer_rows: int = 2  # of tokens, for which guesses are made
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    gate: threading.Event = field(default_factory=threading.Event)

    def prepare(self, observation: Observation) -> Prepared:
        """Any thread. Fail where the frame is one that cannot be served."""
        failure = self.failures.get(observation.instruction)
        if isinstance(failure, RequestError):
            raise failure
        layout = TokenLayout({"front": range(1, 2)}, (1, 1), text=range(2, 3), action=range(3, 4))
        number = len(self.came)
        self.came.append(observation)
        views = {"front": np.full((1, 1, 3), number % 256, np.uint8)}
        ids = torch.tensor([number])
        return Prepared(views, torch.empty(0), ids, layout, observation.instruction, np.zeros(1, np.int64))

    def embed(self, prepared: Sequence[Prepared], _: ImageEncoder | None = None) -> list[Tensor]:
        """Wait at the gate, then fail or go on: BOS, a patch, a word each."""
        self.batches.append([one.unnorm_key for one in prepared])
        self.seen += [self.came[int(one.ids)] for one in prepared]
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.gate.wait(WAIT_S)
        for one in prepared:
            failure = self.failures.get(self.came[int(one.ids)].instruction)
            if failure is not None:
                raise failure
        return [torch.zeros(one.layout.prompt_rows, ONE_LAYER.hidden_size) for one in prepared]

    def act(self, prefilled: Sequence[Prefilled], _: DecoderRunner) -> list[Decoded]:
        """The instructions again."""
        return [
            Decoded(ActionChunk(np.zeros((1, 7)), one.prepared.unnorm_key), np.zeros((1, 7)), passes=0)
            for one in prefilled
        ]

    @property
    def instructions(self) -> list[str]:
        """What was computed since the warm-up, in order."""
        return [observation.instruction for observation in self.seen[WARM_UP_STEPS:]]


@dataclass
class Bench:
    """An engine, what it drives and what drives it."""

    engine: Engine
    model: GatedModel
    clock: ManualClock
    pauses: list[SlackReport]

    def submit(
        self, instruction: str, max_age_ms: float = AGE_MS, robot: str | None = None, slack_ms: float = 0.0
    ) -> Future[Step]:
        """Queue one frame, of no session unless a robot is named."""
        session = SessionRef(robot, slack_ms=slack_ms) if robot else None
        return self.engine.submit(Observation({}, instruction), max_age_ms, session)

    def occupy(self) -> Future[Step]:
        """Shut the gate and have one frame wait before it, so that the next ones queue."""
        self.model.gate.clear()
        while self.model.entered.acquire(blocking=False):
            pass
        future = self.submit("occupier")
        assert self.model.entered.acquire(timeout=WAIT_S)
        return future


@pytest.fixture
def cold() -> Iterator[Callable[..., Bench]]:
    """Make engines that are not warm: `cold(queue_frames=2)`; the gate is open."""
    made: list[Bench] = []

    def make(queue_frames: int = 8, mode: ReuseMode = "off", most: int = 1, hold_ms: float = 10_000) -> Bench:
        model, clock, pauses = GatedModel(), ManualClock(100.0), []
        model.gate.set()
        log, reuse = logging.getLogger("engine-test"), ReuseSettings(mode)
        batching = BatchingSettings(most, hold_ms)
        engine = Engine(
            model,
            reuse=reuse,
            queue_frames=queue_frames,
            clock=clock,
            log=log,
            on_refresh=pauses.append,
            batching=batching,
        )
        made.append(Bench(engine, model, clock, pauses))
        return made[-1]

    yield make
    for bench in made:
        bench.model.gate.set()
        bench.engine.close()


@pytest.fixture
def warm(cold: Callable[..., Bench]) -> Callable[..., Bench]:
    """Make engines that take frames."""

    def make(queue_frames: int = 8, mode: ReuseMode = "off", most: int = 1, hold_ms: float = 10_000) -> Bench:
        bench = cold(queue_frames, mode, most, hold_ms)
        bench.engine.warm_up()
        return bench

    return make


def answered(future: Future[Step]) -> str:
    """Which instruction the answer belongs to."""
    return future.result(WAIT_S).chunk.unnorm_key


def refused(future: Future[Step]) -> RequestError:
    """The error in the answer."""
    error = future.exception(WAIT_S)
    assert isinstance(error, RequestError)
    return error


def test_frames_are_answered_in_the_order_they_came(warm: Callable[..., Bench]) -> None:
    """Those of one robot: first come, first served, and every frame gets its own action."""
    bench = warm()
    bench.occupy()
    order: list[str] = []
    futures = {name: bench.submit(name) for name in "edcba"}
    for future in futures.values():
        future.add_done_callback(lambda done: order.append(answered(done)))
    bench.model.gate.set()

    assert {name: answered(future) for name, future in futures.items()} == {name: name for name in "edcba"}
    bench.engine.close()  # whose thread calls back
    assert order == list("edcba")
    assert bench.model.instructions == ["occupier", *"edcba"]


def test_an_expired_frame_is_never_computed(warm: Callable[..., Bench]) -> None:
    """A frame past its age is told how long it waited; the model never sees it, and the next is served."""
    bench = warm()
    first = bench.occupy()
    late, patient = bench.submit("late", max_age_ms=100), bench.submit("patient", max_age_ms=102)
    bench.clock.now_s += 0.101
    bench.model.gate.set()
    error = refused(late)

    assert isinstance(error, DeadlineExceeded)
    assert error.code == "deadline-exceeded"
    assert "101 ms" in error.detail
    assert (answered(first), answered(patient)) == ("occupier", "patient")
    assert bench.model.instructions == ["occupier", "patient"]


def test_a_frame_is_young_to_the_end_of_its_age(warm: Callable[..., Bench]) -> None:
    """As old as it may be, it is computed."""
    bench = warm()
    bench.occupy()
    frame = bench.submit("frame", max_age_ms=125)
    bench.clock.now_s += 0.125
    bench.model.gate.set()

    assert answered(frame) == "frame"


def test_a_full_queue_refuses_at_once(warm: Callable[..., Bench]) -> None:
    """The frame after the last that may wait is answered Overloaded before the device is free; others are served."""
    bench = warm(queue_frames=2)
    bench.occupy()
    waiting = [bench.submit("one"), bench.submit("two")]
    surplus = bench.submit("three")

    assert surplus.done()
    error = refused(surplus)
    assert isinstance(error, Overloaded)
    assert error.code == "overloaded"
    assert error.retry_after_s is not None
    assert error.detail.startswith("2 frames wait already")
    bench.model.gate.set()
    assert [answered(future) for future in waiting] == ["one", "two"]
    assert "three" not in bench.model.instructions


def test_room_in_the_queue_is_used_again(warm: Callable[..., Bench]) -> None:
    """An overload passes: once the queue is served, frames are taken."""
    bench = warm(queue_frames=1)
    bench.occupy()
    waiting, surplus = bench.submit("waiting"), bench.submit("surplus")
    bench.model.gate.set()

    assert isinstance(refused(surplus), Overloaded)
    assert answered(waiting) == "waiting"
    assert answered(bench.submit("later")) == "later"


def test_sessions_take_turns(warm: Callable[..., Bench]) -> None:
    """However many one of them, or all stateless frames, have in the queue: the next robot's comes next but one."""
    bench = warm(queue_frames=16)
    bench.occupy()
    flood = [bench.submit(f"flood {number}", robot="flood") for number in range(3)]
    stateless = [bench.submit(f"stateless {number}") for number in range(3)]
    robots = [bench.submit(f"{robot} {number}", robot=robot) for number in range(2) for robot in "ab"]
    bench.model.gate.set()
    for future in [*flood, *stateless, *robots]:
        future.result(WAIT_S)

    rounds = [("flood", "a", "b", "stateless"), ("flood", "a", "b", "stateless"), ("flood", "stateless")]
    expected = [f"{robot} {number}" for number, turns in enumerate(rounds) for robot in turns]
    assert bench.model.instructions == ["occupier", *expected]


def test_robots_with_actions_left_let_others_go_first(warm: Callable[..., Bench]) -> None:
    """Least slack first, none before all; a frame whose age ends before its slack is as patient as it is young."""
    bench = warm()
    bench.occupy()
    slacks_ms = {"long": 400.0, "young": 800.0, "short": 100.0, "none": 0.0}
    ages_ms = {name: 300.0 if name == "young" else AGE_MS for name in slacks_ms}
    futures = [bench.submit(name, ages_ms[name], name, slack_ms) for name, slack_ms in slacks_ms.items()]
    bench.model.gate.set()
    for future in futures:
        future.result(WAIT_S)

    assert bench.model.instructions == ["occupier", "none", "short", "young", "long"]


@pytest.mark.parametrize(("slack_ms", "order"), [(600.0, ["patient", "other"]), (700.0, ["other", "patient"])])
def test_slack_ends_in_time_for_the_frame(warm: Callable[..., Bench], slack_ms: float, order: list[str]) -> None:
    """Patience is over two frames' time before half of the slack is: 0.16 s each, as measured."""
    bench = warm()
    first = bench.occupy()
    bench.clock.now_s += 1.0  # after two that took none, and before one: 0.16 s, as the newest counts for a fifth
    bench.model.gate.set()
    first.result(WAIT_S)
    bench.occupy()
    futures = [bench.submit("patient", robot="a", slack_ms=slack_ms), bench.submit("other", robot="b")]
    bench.model.gate.set()
    for future in futures:
        future.result(WAIT_S)

    assert bench.model.instructions[2:] == order


def test_slack_that_is_over_is_none(warm: Callable[..., Bench]) -> None:
    """Then turns go round as ever: the robot that came first is next."""
    bench = warm()
    bench.occupy()
    futures = [bench.submit("patient", robot="a", slack_ms=100.0), bench.submit("other", robot="b")]
    bench.clock.now_s += 0.2
    bench.model.gate.set()
    for future in futures:
        future.result(WAIT_S)

    assert bench.model.instructions == ["occupier", "patient", "other"]


@pytest.mark.parametrize("sessions", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_short_sessions_leave_nothing(warm: Callable[..., Bench], sessions: int) -> None:
    """One frame each, and ended before or after it is answered: no slot, no name, nothing in the queue."""
    bench, batch = warm(queue_frames=64, mode="exact"), 50
    for begin in range(0, sessions, batch):
        robots = [f"robot {number}" for number in range(begin, begin + batch)]
        answers = [bench.submit(robot, robot=robot) for robot in robots]
        if begin % (2 * batch):
            wait(answers, WAIT_S)
        for robot in robots:
            bench.engine.forget(robot)
        reports = [future.result(WAIT_S).report.cache for future in answers]
        assert all(report.keyframe_reason == "first-frame" and report.kv_bytes for report in reports)
    bench.submit("behind all errands").result(WAIT_S)

    assert (bench.engine.usage.in_use_bytes, bench.engine.usage.sessions) == (0, 0)
    assert len(bench.engine._core.cache.sessions) == 0
    assert bench.engine._queue.keys == 1  # that of frames without a session


def test_one_that_floods_does_not_keep_others_out(warm: Callable[..., Bench]) -> None:
    """In a full queue its last frame makes room for a robot that has none, and is told that the queue is full."""
    bench = warm(queue_frames=3)
    bench.occupy()
    flood = [bench.submit(f"flood {number}") for number in range(3)]
    robot = bench.submit("robot", robot="a")

    assert [future.done() for future in flood] == [False, False, True]
    assert refused(flood[2]).code == "overloaded"
    assert not flood[2].cancel()
    bench.model.gate.set()
    assert [answered(future) for future in (*flood[:2], robot)] == ["flood 0", "flood 1", "robot"]


def test_a_frame_given_up_leaves_its_place_at_once(warm: Callable[..., Bench]) -> None:
    """While the device is still at another's."""
    bench = warm(queue_frames=1)
    bench.occupy()
    waiting = bench.submit("waiting")
    assert isinstance(refused(bench.submit("too many")), Overloaded)
    assert waiting.cancel()
    assert wait([waiting], WAIT_S).done == {waiting}
    later = bench.submit("later")
    bench.model.gate.set()

    assert answered(later) == "later"
    assert bench.model.instructions == ["occupier", "later"]


def test_the_device_tells_how_long_it_has_been_busy(warm: Callable[..., Bench]) -> None:
    """With the frame that it computes, however long others wait; with nothing before, between and after."""
    bench, between = warm(), []
    assert bench.engine.busy_s == 0
    first = bench.occupy()
    first.add_done_callback(lambda _: between.append(bench.engine.busy_s))
    bench.clock.now_s += 2
    second = bench.submit("second", max_age_ms=1e6)
    bench.clock.now_s += 5
    assert bench.engine.busy_s == pytest.approx(7)
    bench.model.gate.set()
    assert answered(second) == "second"
    bench.clock.now_s += 3

    assert (between, bench.engine.busy_s) == ([0], 0)


def test_one_frames_failure_is_not_anothers(warm: Callable[..., Bench], caplog: pytest.LogCaptureFixture) -> None:
    """A frame that raises is answered Internal, without the cause's words; these are in the log; the next is served."""
    bench = warm()
    bench.model.failures["broken"] = RuntimeError("secret of /home/robot")
    bench.occupy()
    broken, whole = bench.submit("broken"), bench.submit("whole")
    with caplog.at_level(logging.ERROR, "engine-test"):
        bench.model.gate.set()
        error = refused(broken)

    assert isinstance(error, Internal)
    assert error.code == "internal"
    assert "secret" not in str(error)
    assert error.__cause__ is bench.model.failures["broken"]
    assert "secret of /home/robot" in caplog.text
    assert answered(whole) == "whole"


def test_a_request_error_passes_through(warm: Callable[..., Bench], caplog: pytest.LogCaptureFixture) -> None:
    """What the model says that the client has to mend reaches the client as it is, and is no failure of ours."""
    bench = warm()
    mine = bench.model.failures["other"] = Unprocessable("unknown-camera", "no such camera", pointer="/images")

    assert refused(bench.submit("other")) is mine
    assert caplog.records == []
    assert answered(bench.submit("next")) == "next"


def test_a_cancelled_frame_is_not_computed(warm: Callable[..., Bench]) -> None:
    """A frame whose caller has given up takes no time from the device."""
    bench = warm()
    bench.occupy()
    given_up, kept = bench.submit("given up"), bench.submit("kept")

    assert given_up.cancel()
    bench.model.gate.set()
    assert answered(kept) == "kept"
    assert bench.model.instructions == ["occupier", "kept"]


def test_a_frame_on_the_device_cannot_be_cancelled(warm: Callable[..., Bench]) -> None:
    """What is being computed is answered."""
    bench = warm()
    running = bench.occupy()

    assert not running.cancel()
    bench.model.gate.set()
    assert answered(running) == "occupier"


def test_no_frame_is_taken_before_the_warm_up(cold: Callable[..., Bench]) -> None:
    """A frame that comes too early is told so at once, with a time to wait, and not computed."""
    bench = cold()
    early = bench.submit("early")

    assert early.done()
    error = refused(early)
    assert isinstance(error, NotReady)
    assert error.code == "not-ready"
    assert error.retry_after_s is not None
    assert bench.model.seen == []


def test_the_warm_up_computes_blank_frames_as_the_policy_wants_them(warm: Callable[..., Bench]) -> None:
    """Every camera, the policy's own picture size, statistics that exist; on the thread that computes frames later."""
    bench = warm()
    blanks = list(bench.model.seen)
    bench.submit("first").result(WAIT_S)

    assert len(blanks) == WARM_UP_STEPS
    assert {camera: picture.shape for camera, picture in blanks[0].images.items()} == {"front": (8, 12, 3)}
    assert {blank.unnorm_key for blank in blanks} == {"jaco"}
    assert len(bench.model.threads) == 1
    assert threading.get_ident() not in bench.model.threads


@pytest.mark.parametrize(
    ("cause", "raised"), [(Unprocessable("unknown-camera", "no"), Unprocessable), (KeyError("no room"), Internal)]
)
def test_a_failed_warm_up_leaves_the_engine_cold(
    cold: Callable[..., Bench], cause: Exception, raised: type[RequestError]
) -> None:
    """What the blank frame raises, the warm-up raises; frames are still refused."""
    bench = cold()
    bench.model.failures["stay where you are"] = cause

    with pytest.raises(raised):
        bench.engine.warm_up()
    assert not bench.engine.ready
    assert isinstance(refused(bench.submit("early")), NotReady)


def test_ready_means_warm_and_not_stopping(cold: Callable[..., Bench]) -> None:
    """Not ready, ready after the warm-up, never ready again once closed."""
    bench = cold()
    states = [bench.engine.ready]
    bench.engine.warm_up()
    states.append(bench.engine.ready)
    bench.engine.close()
    states.append(bench.engine.ready)

    assert states == [False, True, False]


def test_the_report_says_how_long_the_frame_queued(warm: Callable[..., Bench]) -> None:
    """Queue time is the first stage, in milliseconds, and part of the total."""
    bench = warm()
    first = bench.occupy()
    second = bench.submit("second")
    bench.clock.now_s += 0.25
    bench.model.gate.set()
    stages_ms = second.result(WAIT_S).report.stages_ms

    assert next(iter(stages_ms)) == "queue"
    assert stages_ms["queue"] == pytest.approx(250)
    assert second.result().report.total_ms == pytest.approx(250)
    assert first.result(WAIT_S).report.stages_ms["queue"] == 0


def test_closing_answers_what_is_queued_and_refuses_what_comes_later(warm: Callable[..., Bench]) -> None:
    """Frames that were taken are answered with actions, and closing waits for them; later ones with `draining`."""
    bench = warm()
    taken = [bench.occupy(), bench.submit("a"), bench.submit("b")]
    closer = threading.Thread(target=bench.engine.close)
    closer.start()
    while bench.engine.ready and closer.is_alive():
        time.sleep(0.001)
    later = bench.submit("later")

    assert later.done()
    assert isinstance(refused(later), NotReady)
    assert refused(later).code == "draining"
    assert not any(future.done() for future in taken)
    closer.join(0.1)
    assert closer.is_alive()
    bench.model.gate.set()
    closer.join(WAIT_S)
    assert not closer.is_alive()
    assert [answered(future) for future in taken] == ["occupier", "a", "b"]


def test_closing_a_full_queue_does_not_lose_the_stop(warm: Callable[..., Bench]) -> None:
    """Where no place is left for the stop, closing waits for one."""
    bench = warm(queue_frames=1)
    taken = [bench.occupy(), bench.submit("a")]
    closer = threading.Thread(target=bench.engine.close)
    closer.start()
    bench.model.gate.set()
    closer.join(WAIT_S)

    assert not closer.is_alive()
    assert [answered(future) for future in taken] == ["occupier", "a"]


def test_closing_ends_the_thread_however_often_and_from_wherever(warm: Callable[..., Bench]) -> None:
    """Four times at once are as good as once, and so is one more; no thread of the engine is left."""
    before = set(threading.enumerate())
    bench = warm(queue_frames=1)
    engines_own = set(threading.enumerate()) - before
    assert engines_own
    closers = [threading.Thread(target=bench.engine.close, daemon=True) for _ in range(4)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(WAIT_S)

    assert not any(closer.is_alive() for closer in closers)
    bench.engine.close()
    assert not any(own.is_alive() for own in engines_own)


def test_an_engine_that_never_warmed_can_be_closed(cold: Callable[..., Bench]) -> None:
    """Loading may fail before the first frame; whoever asks then is told that it stops, not that it warms up."""
    bench = cold()
    bench.engine.close()

    assert not bench.engine.ready
    assert refused(bench.submit("later")).code == "draining"
    with pytest.raises(NotReady):
        bench.engine.warm_up()


def test_threads_that_submit_at_once_get_their_own_answers(warm: Callable[..., Bench]) -> None:
    """Four robots on four threads, each told its own."""
    bench = warm(queue_frames=4)

    def robot(name: str) -> list[str]:
        return [answered(bench.submit(f"{name}{number}")) for number in range(25)]

    with ThreadPoolExecutor(4) as robots:
        answers = dict(zip("abcd", robots.map(robot, "abcd"), strict=True))

    assert answers == {name: [f"{name}{number}" for number in range(25)] for name in "abcd"}


def test_closing_under_fire_leaves_no_frame_unanswered(warm: Callable[..., Bench]) -> None:
    """Whenever the stop comes, every frame ends: as an action, computed once, or, never computed, as a refusal."""
    for stop_after in (1, 2, 5, 10, 20, 40):
        bench = warm(queue_frames=4)
        with ThreadPoolExecutor(4) as robots:
            fires = [robots.submit(fire, bench, name) for name in "abcd"]
            for _ in range(stop_after):
                assert bench.model.entered.acquire(timeout=WAIT_S)
            bench.engine.close()
            shots = {name: future for done in fires for name, future in done.result(WAIT_S).items()}
        undone = [name for name, future in shots.items() if not future.done()]
        errors = {type(future.exception(0)).__name__ for future in shots.values()}
        computed = sorted(name for name, future in shots.items() if future.exception(0) is None)

        assert undone == []
        assert errors <= {"NoneType", "Overloaded", "NotReady"}
        assert sorted(bench.model.instructions) == computed


def fire(bench: Bench, name: str) -> dict[str, Future[Step]]:
    """Submit frame after frame until the engine says that it stops; after a refusal wait for the last frame taken."""
    shots: dict[str, Future[Step]] = {}
    taken: Future[Step] | None = None
    for number in range(2000):
        future = shots[f"{name}{number}"] = bench.submit(f"{name}{number}")
        error = future.exception(0) if future.done() else None
        if isinstance(error, NotReady):
            break
        if isinstance(error, Overloaded):
            wait([taken] if taken else [], WAIT_S)
        else:
            taken = future
    return shots


def batches(bench: Bench) -> list[list[str]]:
    """What was computed side by side behind the occupier."""
    return bench.model.batches[WARM_UP_STEPS + 1 :]


def test_frames_that_wait_together_are_computed_together(warm: Callable[..., Bench]) -> None:
    """As many as are allowed, in the order of their turns; each gets its own answer, which says how many they were."""
    bench = warm(most=3)
    bench.occupy()
    answers = [bench.submit(robot, robot=robot) for robot in "abcd"]
    bench.model.gate.set()

    assert [answered(future) for future in answers] == [*"abcd"]
    assert batches(bench) == [["a", "b", "c"], ["d"]]
    assert [future.result().report.batch for future in answers] == [3, 3, 3, 1]


def test_a_batch_has_one_frame_of_a_session_and_any_number_of_nobodys(warm: Callable[..., Bench]) -> None:
    """A robot's second frame needs what its first leaves; robots' frames come before nobody's second."""
    bench = warm(queue_frames=16, most=8)
    bench.occupy()
    names = ["-0", "-1", "-2", "a0", "a1", "b0", "a2"]
    answers = [bench.submit(name, robot=None if name[0] == "-" else name[0]) for name in names]
    bench.model.gate.set()

    assert [answered(future) for future in answers] == names
    assert batches(bench) == [["a0", "b0", "-0", "-1", "-2"], ["a1"], ["a2"]]


def test_who_floods_is_one_of_a_batch(warm: Callable[..., Bench]) -> None:
    """Those who came after all of its frames go with the next."""
    bench = warm(queue_frames=16, most=3)
    bench.occupy()
    flood = [bench.submit(f"f{number}", robot="f") for number in range(5)]
    robots = [bench.submit(robot, robot=robot) for robot in "abc"]
    bench.model.gate.set()
    wait([*flood, *robots], WAIT_S)

    assert batches(bench) == [["f0", "a", "b"], ["c", "f1"], ["f2"], ["f3"], ["f4"]]


def test_a_session_that_ends_behind_its_batch(warm: Callable[..., Bench]) -> None:
    """Its frame is answered with the others, then it is forgotten; what comes under its name later is a stranger's."""
    bench = warm(queue_frames=16, mode="exact", most=8)
    bench.occupy()
    answers = [bench.submit(robot, robot=robot) for robot in "abc"]
    bench.engine.forget("b")
    later = bench.engine.submit(Observation({}, "b"), AGE_MS, SessionRef("b", serial=1))
    bench.model.gate.set()

    assert [answered(future) for future in (*answers, later)] == [*"abcb"]
    assert later.result().report.cache.keyframe_reason == "first-frame"
    assert batches(bench) == [["a", "b", "c"], ["b"]]
    assert bench.engine.usage.sessions == 3


def test_given_up_and_expired_frames_are_in_no_batch(warm: Callable[..., Bench]) -> None:
    """Neither computed nor counted."""
    bench = warm(queue_frames=16, most=8)
    bench.occupy()
    given_up, late, *kept = (
        bench.submit(robot, max_age_ms=100 if robot == "late" else 1e6, robot=robot)
        for robot in ("given up", "late", "a", "b")
    )
    assert given_up.cancel()
    bench.clock.now_s += 1
    bench.model.gate.set()

    assert [answered(future) for future in kept] == ["a", "b"]
    assert isinstance(refused(late), DeadlineExceeded)
    assert batches(bench) == [["a", "b"]]
    assert {future.result().report.batch for future in kept} == {2}


def timed(bench: Bench, takes_s: dict[int, float]) -> None:
    """From now on a batch of so many frames takes so long; one batch of each size has been measured."""
    embed = bench.model.embed

    def slow(prepared: Sequence[Prepared], *parts: ImageEncoder | None) -> list[Tensor]:
        rows = embed(prepared, *parts)
        bench.clock.now_s += takes_s[len(prepared)]
        return rows

    bench.model.embed = slow  # type: ignore[method-assign]  # for good
    bench.engine._batches._times_s = dict(takes_s)


@pytest.mark.parametrize(
    ("two_s", "hold_ms", "expected"),
    [
        (1.0, 0, [["a", "b"]]),
        (1.1, 0, [["a"], ["b"]]),
        (1.1, 101, [["a", "b"]]),
        (1.9, 950, [["a", "b"]]),
        (2.1, 5000, [["a"], ["b"]]),
    ],
)
def test_frames_go_together_where_that_pays(
    warm: Callable[..., Bench], two_s: float, hold_ms: float, expected: list[list[str]]
) -> None:
    """As measured: sooner done than in turn, and none later than alone by more than it may be held up."""
    bench = warm(most=2, hold_ms=hold_ms)
    timed(bench, {1: 1.0, 2: two_s})
    bench.occupy()
    answers = [bench.submit(robot, max_age_ms=1e6, robot=robot) for robot in "ab"]
    bench.model.gate.set()
    wait(answers, WAIT_S)

    assert batches(bench) == expected


def test_what_batches_take_is_learnt(warm: Callable[..., Bench]) -> None:
    """Two are tried together, as that was never measured; it took longer than in turn, so the next are not."""
    bench = warm(queue_frames=16, most=2)
    timed(bench, {1: 1.0, 2: 4.0})
    bench.engine._batches._times_s.clear()
    for _ in range(2):
        bench.occupy()
        answers = [bench.submit(robot, max_age_ms=1e6, robot=robot) for robot in "ab"]
        bench.model.gate.set()
        wait(answers, WAIT_S)

    assert batches(bench) == [["a", "b"], ["occupier"], ["a"], ["b"]]


def test_a_frame_that_would_be_too_old_joins(warm: Callable[..., Bench]) -> None:
    """Two are slower together than in turn; but in turn the second would never be computed."""
    bench = warm(most=2)
    timed(bench, {1: 1.0, 2: 2.5})
    bench.occupy()
    answers = [bench.submit("a", 1e6, "a"), bench.submit("b", 1500, "b")]  # the occupier takes a second
    bench.model.gate.set()

    assert [answered(future) for future in answers] == ["a", "b"]
    assert batches(bench) == [["a", "b"]]


def test_one_of_a_batch_fails_in_a_way_that_nobody_foresaw(
    warm: Callable[..., Bench], caplog: pytest.LogCaptureFixture
) -> None:
    """Every frame is computed again, alone: only the culprit is told of a failure. The log says both."""
    bench = warm(mode="exact", most=4)
    bench.model.failures["b"] = RuntimeError("secret of /home/robot")
    bench.occupy()
    answers = {robot: bench.submit(robot, robot=robot) for robot in "abc"}
    nobodys = bench.submit("-")
    with caplog.at_level(logging.WARNING, "engine-test"):
        bench.model.gate.set()
        error = refused(answers["b"])

    assert isinstance(error, Internal)
    assert "secret" not in str(error)
    assert [answered(answers["a"]), answered(answers["c"]), answered(nobodys)] == ["a", "c", "-"]
    assert [answers[robot].result().report.batch for robot in "ac"] == [1, 1]
    assert batches(bench) == [["a", "b", "c", "-"], ["a"], ["b"], ["c"], ["-"]]
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert bench.engine.usage.sessions == 2


def test_a_frame_is_made_ready_while_the_device_is_at_anothers(warm: Callable[..., Bench]) -> None:
    """By a thread that is not the device's; a frame that cannot be served is told so in its turn."""
    bench = warm(most=2)
    ready, threads = threading.Event(), set()
    prepare = bench.model.prepare

    def watched(observation: Observation) -> Prepared:
        threads.add(threading.get_ident())
        prepared = prepare(observation)
        ready.set()
        return prepared

    bench.occupy()
    bench.engine._core.model.prepare = watched  # type: ignore[method-assign]  # for good
    following = bench.submit("following")
    assert ready.wait(WAIT_S)
    assert not following.done()
    bench.model.gate.set()

    assert answered(following) == "following"
    assert len(threads) == 1
    assert threads.isdisjoint(bench.model.threads)


def test_a_refusal_that_is_kept_keeps_no_frame(warm: Callable[..., Bench]) -> None:
    """Nor does an answer, once the device is at the next: pictures are gone, whoever keeps what was said of them."""
    bench = warm(most=4)
    bench.model.failures["unservable"] = Unprocessable("unknown-camera", "no such camera")
    bench.occupy()
    observations = [Observation({}, "unservable"), Observation({}, "whole")]
    seen = [weakref.ref(observation) for observation in observations]
    answers = [bench.engine.submit(observation, AGE_MS) for observation in observations]
    del observations
    bench.model.gate.set()
    assert isinstance(refused(answers[0]), Unprocessable)
    assert answered(answers[1]) == "whole"
    bench.model.seen.clear()
    bench.model.came.clear()
    assert answered(bench.submit("next")) == "next"
    assert answered(bench.submit("next but one")) == "next but one"
    bench.engine._pool.submit(int).result(WAIT_S)  # the thread that prepares has none of them at hand any more

    assert [observation() for observation in seen] == [None, None]

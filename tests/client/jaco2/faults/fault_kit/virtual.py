"""Both halves of the bridge in one process, on a clock that costs nothing: a real Episode, a real Streamer, a sim arm.

Of the cameras, the policy and the two processes there are stand-ins that can be made to fail. Knows no test. A tick is
10 ms of the loop's time, and always comes on time, so what follows a fault is counted in ticks, the same each time.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stillframe.testing import policy_info
from stillframe.web.service.model_card import model_card
from stillframe_client.errors import PolicyError, TimedOut
from stillframe_client.jaco2 import link
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.arms.sim import SimArm
from stillframe_client.jaco2.bridge import episode as episodes
from stillframe_client.jaco2.bridge.ends import Outcome
from stillframe_client.jaco2.bridge.episode import Episode
from stillframe_client.jaco2.bridge.frame_log import FrameLog
from stillframe_client.jaco2.bridge.streamer_process import StreamerProcess
from stillframe_client.jaco2.cameras.base import CameraError, Frame
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.controller import Controller, Tick
from stillframe_client.jaco2.core.messages import Inbox
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.domain import ArmState, Step, ToolPose, Twist
from stillframe_client.jaco2.settings import BridgeSettings
from stillframe_client.jaco2.streamer.loop import Streamer
from stillframe_client.replies import ActionReply, ModelInfo, model_info

BEGAN_S = 1000.0
LONGEST_S = 120.0  # of a run: what is waited for beyond it will not come
LATENCY_S = 0.03  # of an answer
PASS_S = (
    1e-6  # that passes at least: timers may fire a nanosecond early, and what looks at the time would look for ever
)
STEP_M = 0.004  # of an action: 4 cm a second at 10 Hz


def card(horizon: int = 1) -> ModelInfo:
    """What the daemon says of a policy of this arm."""
    stats = {"q01": [-0.01] * 6 + [0.0], "q99": [0.01] * 6 + [1.0], "mask": [True] * 6 + [False]}
    info = policy_info(name="mover", chunk_horizon=horizon, norm_stats={"robot": stats})
    return model_info(model_card(info).model_dump(mode="json"))


class Leap(selectors.SelectSelector):
    """Waits for nothing: the time until the next thing that is due has passed at once."""

    now_s = BEGAN_S

    def select(self, timeout: float | None = None) -> Any:
        """Let the time pass."""
        self.now_s += math.inf if timeout is None else max(PASS_S, timeout)
        assert self.now_s < BEGAN_S + LONGEST_S, "what is waited for will not come"
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only while everything waits, and then at once."""

    def __init__(self) -> None:
        self.leap = Leap()
        super().__init__(self.leap)

    def time(self) -> float:
        """Say what time it is."""
        return self.leap.now_s


def virtual_s() -> float:
    """The time of the loop that runs."""
    return asyncio.get_running_loop().time()


@dataclass(frozen=True)
class Ticked:
    """One tick of the streamer."""

    number: int
    now_s: float
    tick: Tick
    step: bool  # one came

    @property
    def at_rest(self) -> bool:
        """Whether the arm was told to rest, or nothing."""
        command = self.tick.command
        return command is None or not (command.linear_m_s.any() or command.angular_rad_s.any())


@dataclass
class FaultyPolicy:
    """A stream that answers `LATENCY_S` after a frame, until it is told otherwise."""

    horizon: int = 1
    delay_s: float = 0.0  # beyond LATENCY_S
    error: Callable[[], PolicyError] | None = None  # raised in place of an answer
    action: tuple[float, ...] = (STEP_M, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    timeout_s: float = 2.0
    asked_s: list[float] = field(default_factory=list)  # when each frame came

    async def act_with_report(self, image: Any, instruction: str, **options: Any) -> ActionReply:
        """Answer, after a while."""
        del image, instruction, options
        self.asked_s.append(virtual_s())
        wait_s = LATENCY_S + self.delay_s
        await asyncio.sleep(min(wait_s, self.timeout_s))
        if wait_s > self.timeout_s:
            raise TimedOut(f"No answer within {self.timeout_s:g} s.")
        if self.error is not None:
            raise self.error()
        return ActionReply(np.tile(np.array(self.action), (self.horizon, 1)), {}, late=False, request_id=None)

    def send(self, image: Any, instruction: str, **options: Any) -> asyncio.Task[ActionReply]:
        """Likewise, without waiting."""
        return asyncio.ensure_future(self.act_with_report(image, instruction, **options))


@dataclass
class FaultyEyes:
    """A camera of 30 pictures a second, until it is told otherwise."""

    error: Callable[[], CameraError] | None = None

    def latest(self) -> dict[str, Frame]:
        """The newest picture, black."""
        if self.error is not None:
            raise self.error()
        seq = math.floor(virtual_s() * 30)
        return {"front": Frame(np.zeros((8, 8, 3), np.uint8), seq, seq / 30)}


class FaultyArm(SimArm):
    """The sim arm, which can fail."""

    dead = ""  # why it cannot be commanded
    mute = False  # it reports nothing new
    blocked = False  # it does not move
    spoil: Callable[[ToolPose], ToolPose] | None = None  # what it reports in place of its pose
    _seq = -1

    def state(self) -> ArmState:
        """The newest report, or the last before it fell mute."""
        if self.blocked:
            self.driver.body.move = lambda twist: None  # type: ignore[method-assign] # noqa: ARG005
        newest = super().state()
        if not (self.mute or newest.seq == self._seq):
            self._seq = newest.seq
            self._last = newest if self.spoil is None else replace(newest, pose=self.spoil(newest.pose))
        return self._last

    def send(self, twist: Twist) -> None:
        """Command it."""
        if self.dead:
            raise ArmError(self.dead)
        super().send(twist)


class MutedEnd(link.BridgeEnd):
    """The bridge's end of the link; muted, it is a bridge that is stopped."""

    muted = False

    def _send(self, packet: bytes) -> None:
        if not self.muted:
            super()._send(packet)


@dataclass
class Kept:
    """Keeps each tick in place of a log."""

    ticks: list[Ticked] = field(default_factory=list)

    def tick(self, now_s: float, late_s: float, inbox: Inbox, arm: Any, error: str, tick: Tick) -> None:
        """Keep one."""
        del late_s, arm, error
        step = any(isinstance(message, Step) for message in inbox.messages)
        self.ticks.append(Ticked(len(self.ticks), now_s, tick, step))


class VirtualStreamer:
    """A streamer without a process, as the bridge sees it."""

    def __init__(self, settings: BridgeSettings):
        ours, theirs = link.pair()
        self.link = MutedEnd(ours)
        self.theirs = link.StreamerEnd(theirs)
        self.status: link.Status | None = None
        self.reasons: list[str] = []
        self._errors = Path("none.txt")
        self.arm = FaultyArm("sim", loss=0.0, under_travel=settings.arm.under_travel, clock=virtual_s)
        self.kept = Kept()
        self.controller = Controller(settings)
        self._loop = Streamer(self.controller, self.arm, self.theirs, self.kept, dry=False)  # type: ignore[arg-type]
        self.signal = ""  # that this process got
        self.stopped = False  # by SIGSTOP
        self.dead = False

    poll = StreamerProcess.poll

    async def run(self) -> None:
        """Tick each 10 ms until the bridge is gone and the arm is at rest, or it is dead."""
        gone, began_s, number = False, virtual_s(), 0
        while not (self.dead or (gone and self.controller.is_at_rest)):
            if not self.stopped:
                inbox = self.theirs.receive()
                gone |= inbox.gone or bool(self.signal)
                self._loop.tick(replace(inbox, stop=self.signal), virtual_s(), 0.0)
            number = max(number + 1, math.ceil((virtual_s() - began_s) / TICK_S - 1e-6))
            await asyncio.sleep(began_s + number * TICK_S - virtual_s())
        self.theirs.close()

    def _last_words(self) -> str:
        return "so it is"


@dataclass
class World:
    """All of it, for a fault to act on."""

    policy: FaultyPolicy
    eyes: FaultyEyes
    streamer: VirtualStreamer
    over: str | None = None  # why the operator ends it
    playing: asyncio.Task[Outcome] | None = None

    @property
    def ticks(self) -> list[Ticked]:
        """All ticks so far."""
        return self.streamer.kept.ticks

    @property
    def state(self) -> State:
        """The streamer's."""
        return self.streamer.controller.state

    async def until(self, true: Callable[[], bool]) -> None:
        """Let time pass until it holds."""
        while not true():
            await asyncio.sleep(TICK_S)


@asynccontextmanager
async def opened(settings: BridgeSettings, folder: Path, policy: FaultyPolicy) -> AsyncIterator[World]:
    """A world whose arm moves."""
    world = World(policy, FaultyEyes(), VirtualStreamer(settings))
    streamer = world.streamer
    ticking = asyncio.ensure_future(streamer.run())
    await asyncio.sleep(0.1)
    streamer.link.heartbeat()
    streamer.link.order("arm")
    log = FrameLog(folder, "none")
    episode = Episode(settings, policy, card(policy.horizon), world.eyes, streamer, log)  # type: ignore[arg-type]

    async def play() -> Outcome:
        try:
            return await episode.play("move", lambda: world.over)
        finally:
            streamer.link.order("disarm")
            log.close()

    world.playing = asyncio.ensure_future(play())
    try:
        await world.until(lambda: world.state is State.RUNNING)
        await asyncio.sleep(1.0)
        yield world
    finally:
        for task in (world.playing, ticking):
            task.cancel()
        await asyncio.wait([world.playing, ticking])
        streamer.link.close()
        streamer.theirs.close()


def patched_clock(monkeypatch: Any) -> None:
    """Let the bridge go by the virtual time."""
    monkeypatch.setattr(episodes, "now_s", virtual_s)

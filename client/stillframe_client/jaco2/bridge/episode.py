"""One episode: frames go to the policy, its actions to the streamer, until something ends it.

Knows no camera device and no arm. `lockstep` asks, waits, moves and looks again; `realtime` sends a frame each control
step and plays the newest answer. Whatever goes wrong here, steps stop coming, and the streamer holds by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Callable, Dict, Optional, Tuple

from stillframe_client.chunks import MAY_PASS
from stillframe_client.errors import StaleAnswer, Superseded
from stillframe_client.jaco2.bridge.arm_state import NoState, StateReader
from stillframe_client.jaco2.bridge.contract import pictures_named
from stillframe_client.jaco2.bridge.ends import Ended, Outcome, first_end
from stillframe_client.jaco2.bridge.eyes import observed_s
from stillframe_client.jaco2.bridge.player import Player
from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable
from stillframe_client.jaco2.ceilings import SETPOINT_S
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.link import now_s

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from stillframe_client import AsyncPolicyStream
    from stillframe_client.jaco2.bridge.eyes import Eyes
    from stillframe_client.jaco2.bridge.frame_log import FrameLog
    from stillframe_client.jaco2.bridge.streamer_process import StreamerProcess
    from stillframe_client.jaco2.cameras.base import Frame
    from stillframe_client.jaco2.settings import BridgeSettings
    from stillframe_client.replies import ActionReply, ModelInfo

    Frames = Dict[str, Frame]
    Arrival = Tuple[float, "asyncio.Task[ActionReply]"]

HEARTBEAT_S = 0.03
STREAMER_SILENT_S = 1.0  # it speaks fifty times a second
LOOK_S = 0.005  # between looks for a frame that is not there yet
MOST_UNDER_WAY = 8  # frames in realtime


class Episode:
    """Plays one episode; made anew for each."""

    def __init__(
        self,
        settings: BridgeSettings,
        stream: AsyncPolicyStream,
        info: ModelInfo,
        eyes: Eyes,
        streamer: StreamerProcess,
        log: FrameLog,
    ):
        self._policy, self._stream, self._info = settings.policy, stream, info
        self._eyes, self._streamer, self._log = eyes, streamer, log
        self._state = StateReader(info.state, settings.motion.base_yaw_deg)
        self.step_s = step_s(settings)
        self._instruction = ""
        self.answers = 0
        self.latency_ms = 0.0  # of the newest answer, from frame to here
        self.trouble = ""  # why there is no newer answer
        self._waits_since_s = 0.0  # for an action to hand on
        self._paused = False

    async def play(self, instruction: str, over: Callable[[], Optional[str]]) -> Outcome:
        """Play until `over` gives a reason, the streamer faults, or the policy fails for good."""
        began_s = self._waits_since_s = now_s()
        self._instruction = instruction
        loop = self._lockstep() if self._policy.mode == "lockstep" else self._realtime()
        end = await first_end(asyncio.ensure_future(self._watch(over)), asyncio.ensure_future(loop))
        return Outcome(str(end), end.fault, self.answers, now_s() - began_s)

    async def _watch(self, over: Callable[[], Optional[str]]) -> None:
        """Tell the streamer that the bridge is well, and end the episode where it is over."""
        while True:
            self._streamer.link.heartbeat()
            status, reason = self._streamer.poll(), over()
            if reason is not None:
                raise Ended(reason, fault=False)
            if status is not None and status.state is State.FAULT:
                raise Ended(status.reason or "fault", fault=True)
            if status is not None and now_s() - status.time_s > STREAMER_SILENT_S:
                raise Ended(f"the streamer has said nothing for {STREAMER_SILENT_S:g} s", fault=True)
            self._look_at_the_clock()
            await asyncio.sleep(HEARTBEAT_S)

    def _look_at_the_clock(self) -> None:
        waited_s = now_s() - self._waits_since_s
        if waited_s > self._policy.give_up_s:
            raise Ended(f"no answer for {self._policy.give_up_s:g} s: {self.trouble or 'none came'}", fault=True)
        if waited_s > self._policy.answer_s and not self._paused:
            self._paused = True
            self._log.event(now_s(), "paused", self.trouble or "no answer")

    async def _lockstep(self) -> None:
        free_s = now_s()
        while True:
            reply = await self._answer(free_s)
            for action in reply.actions[: self._execute(len(reply.actions))]:
                self._hand_on(action, self.step_s + self._policy.answer_s)
                free_s = now_s() + self.step_s
                await asyncio.sleep(self.step_s)

    async def _frames_since(self, time_s: float) -> Frames:
        """Wait for pictures that were all taken after that."""
        while True:
            frames = self._newest_frames()
            if frames is not None and observed_s(frames) >= time_s:
                return frames
            await asyncio.sleep(LOOK_S)

    def _newest_frames(self) -> Optional[Frames]:
        """The newest pictures; None, and why, while there are none of now."""
        try:
            return self._eyes.latest()
        except CameraUnusable:
            raise
        except CameraError as error:
            self._note(str(error))
            return None

    async def _answer(self, free_s: float) -> ActionReply:
        """Ask until there is an answer to pictures taken after that; what may pass is asked again, with new ones."""
        while True:
            frames = await self._frames_since(free_s)
            try:
                reply = await self._ask(frames)
            except NoState as error:
                self._note(str(error))
                await asyncio.sleep(LOOK_S)
            except MAY_PASS as error:
                self._note(str(error))
                await asyncio.sleep(self.step_s)
            else:
                self._note_answer(frames, reply, played=True)
                return reply

    async def _realtime(self) -> None:
        player, arrived = Player(self.step_s, self._policy.blend), asyncio.Event()
        arrivals: deque[Arrival] = deque()
        frame_s, under_way = now_s(), 0
        while True:
            if now_s() >= frame_s:
                frame_s = max(frame_s + self.step_s, now_s())
                under_way += self._send(player, under_way, arrivals, arrived)
            while arrivals:
                under_way -= 1
                self._arrive(player, *arrivals.popleft())
            action = player.next(now_s())
            if action is not None:
                self._hand_on(action, 2 * self.step_s)
            arrived.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(arrived.wait(), max(min(frame_s, player.due_s) - now_s(), 0.0))

    def _send(self, player: Player, under_way: int, arrivals: deque[Arrival], arrived: asyncio.Event) -> int:
        """Send a frame, if one is wanted now; return how many were sent."""
        chunked = self._info.chunk_horizon > 1
        enough = player.left > self._info.chunk_horizon - self._execute(self._info.chunk_horizon)
        if under_way >= MOST_UNDER_WAY or (chunked and (under_way or enough)):
            return 0
        frames = self._newest_frames()
        if frames is None:
            return 0
        try:
            options = self._options(frames)
        except NoState as error:
            self._note(str(error))
            return 0
        options["slack_ms"] = 1e3 * player.left * self.step_s if chunked else None  # others' frames may go first
        task = self._stream.send(self._pictures(frames), self._instruction, **options)
        task.add_done_callback(partial(_arrived, arrivals, arrived, observed_s(frames)))
        return 1

    def _arrive(self, player: Player, taken_s: float, task: asyncio.Task[ActionReply]) -> None:
        """Play an answer, if it is one and not too old."""
        try:
            reply = task.result()
        except (Superseded, StaleAnswer):
            return
        except MAY_PASS as error:
            self._note(str(error))
            return
        fresh = now_s() - taken_s <= self._policy.answer_age_s
        if not fresh:
            self._note(f"an answer came {now_s() - taken_s:.2f} s after its frame")
        played = fresh and player.take(reply.actions, taken_s, now_s())
        self._log.answered(taken_s, now_s(), reply, played=played)
        if fresh:
            self._count(taken_s)
        if played and not player.left:
            self._note("the answers come after the time of all their actions")

    async def _ask(self, frames: Frames) -> ActionReply:
        options = self._options(frames)
        return await self._stream.act_with_report(self._pictures(frames), self._instruction, **options)

    def _pictures(self, frames: Frames) -> Any:
        return pictures_named({name: frame.picture for name, frame in frames.items()}, self._info.cameras)

    def _options(self, frames: Frames) -> Dict[str, Any]:
        """What is sent beside the pictures; the log keeps it. Raises NoState."""
        state, observed = self._state.read(self._streamer.poll()), observed_s(frames)
        self._log.sent(frames, observed, state)
        said = {} if state is None else {"state": state}
        return {"unnorm_key": self._policy.unnorm_key, "t_obs_ns": round(observed * 1e9), **said}

    def _hand_on(self, action: NDArray[np.float64], good_for_s: float) -> None:
        self._waits_since_s, self._paused = now_s(), False
        deadline_s = now_s() + min(good_for_s, SETPOINT_S)
        self._streamer.link.step(action[:6].tolist(), float(action[6]), self.step_s, deadline_s)

    def _execute(self, horizon: int) -> int:
        return min(self._policy.execute or self._info.execute, horizon)

    def _note_answer(self, frames: Frames, reply: ActionReply, *, played: bool) -> None:
        self._log.answered(observed_s(frames), now_s(), reply, played=played)
        self._count(observed_s(frames))

    def _count(self, taken_s: float) -> None:
        self.answers, self.trouble = self.answers + 1, ""
        self.latency_ms = 1e3 * (now_s() - taken_s)

    def _note(self, trouble: str) -> None:
        """Keep why there is no answer; each cause is logged once in a row."""
        if trouble != self.trouble:
            self.trouble = trouble
            self._log.event(now_s(), "no answer", trouble)


def step_s(settings: BridgeSettings) -> float:
    """How long one action takes: at a lower speed all of time goes slower, so actions stay as large as they were."""
    return 1.0 / (settings.policy.hz * settings.limits.speed)


def _arrived(arrivals: deque[Arrival], event: asyncio.Event, taken_s: float, task: asyncio.Task[ActionReply]) -> None:
    if not task.cancelled():
        task.exception()  # looked at here, also where the episode is over by then
    arrivals.append((taken_s, task))
    event.set()

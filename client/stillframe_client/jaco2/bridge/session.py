"""A bridge that is open: cameras, streamer and policy; episodes are played one after the other.

Knows no terminal. Everything is checked before the arm is armed: cameras, the policy's contract, a first answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, List, Optional

from stillframe_client import AsyncPolicyStream
from stillframe_client.chunks import MAY_PASS
from stillframe_client.jaco2.bridge.arm_state import resting_state
from stillframe_client.jaco2.bridge.contract import contract_faults, pictures_named, warnings
from stillframe_client.jaco2.bridge.ends import Outcome
from stillframe_client.jaco2.bridge.episode import HEARTBEAT_S, Episode, step_s
from stillframe_client.jaco2.bridge.eyes import Eyes
from stillframe_client.jaco2.bridge.frame_log import FrameLog
from stillframe_client.jaco2.bridge.secret import read_token
from stillframe_client.jaco2.bridge.streamer_process import START_S, StreamerFailed, StreamerProcess
from stillframe_client.jaco2.ceilings import SETPOINT_S
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.link import now_s

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from stillframe_client.jaco2.settings import BridgeSettings
    from stillframe_client.replies import ModelInfo

READY_S = 60.0  # for a daemon that is loading
WARM_UP_S = 30.0  # for its first answer
ARM_S = 3.0
REST_S = 3.0
RETRY_S = 0.2


class Refusal(Exception):
    """The bridge does not go on; nothing has moved. The text says why, and what to do."""


class Bridge:
    """Use as an async context manager."""

    def __init__(self, settings: BridgeSettings, folder: Path, *, dry: bool = False):
        """`folder` is there, and gets the run's logs. `dry`: computes and logs, and sends the arm nothing."""
        self.settings, self.folder, self._dry = settings, folder, dry
        self.log = FrameLog(folder, settings.record.pictures)
        self.warnings: List[str] = []
        self.episode: Optional[Episode] = None  # the one that is played
        self._eyes = Eyes(settings)
        self._streamer: Optional[StreamerProcess] = None
        self._stream: Optional[AsyncPolicyStream] = None
        self._info: Optional[ModelInfo] = None

    @property
    def streamer(self) -> StreamerProcess:
        """The arm's side. Raises RuntimeError before the bridge is open."""
        if self._streamer is None:
            raise RuntimeError("the bridge is not open; expected `async with`")
        return self._streamer

    @property
    def is_open(self) -> bool:
        """Whether there is a streamer to speak to."""
        return self._streamer is not None

    async def open(self) -> None:
        """Open and check everything; nothing moves. Raises Refusal, CameraError, StreamerFailed and PolicyError."""
        if step_s(self.settings) > SETPOINT_S / 2:
            raise Refusal(
                f"an action would last {step_s(self.settings):.2f} s at policy.hz {self.settings.policy.hz:g} and "
                f"limits.speed {self.settings.limits.speed:g}; expected at most {SETPOINT_S / 2:g} s: raise one of them"
            )
        await asyncio.get_running_loop().run_in_executor(None, self._eyes.start)
        frames = self._eyes.latest()
        self.log.first(frames)
        self._streamer = StreamerProcess(self.settings, self.folder, dry=self._dry)
        await self._until(lambda: self.streamer.status is not None, START_S, "the streamer did not report")
        await self._meet_policy()

    async def play(self, instruction: str, over: Callable[[], Optional[str]]) -> Outcome:
        """Play one episode: arm, act, disarm, come to rest. Raises Refusal where the arm cannot be armed."""
        assert self._stream is not None and self._info is not None, "open() comes first"  # noqa: S101, PT018
        await self._stream.reset()
        reason = over()
        if reason is not None:
            return Outcome(reason, fault=False, answers=0, seconds=0.0)
        await self._arm()
        self.episode = Episode(self.settings, self._stream, self._info, self._eyes, self.streamer, self.log)
        self.log.event(now_s(), "begin", instruction)
        try:
            outcome = await self.episode.play(instruction, over)
        finally:
            self.streamer.link.order("disarm")
        outcome = await self._come_to_rest(outcome)
        self.log.event(now_s(), "end", outcome.reason)
        return outcome

    async def close(self) -> None:
        """Let go of all: the streamer stops the arm by itself, whatever else fails."""
        if self._streamer is not None:
            self._streamer.close()
        self._eyes.close()
        if self._stream is not None:
            await self._stream.close()
        self.log.close()

    async def __aenter__(self) -> Bridge:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: Optional[type], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        await self.close()

    async def _meet_policy(self) -> None:
        """Ask what is served, compare, and have one frame answered, so that no episode begins with a cold policy."""
        policy = self.settings.policy
        self._stream = AsyncPolicyStream(
            policy.url,
            service=policy.mode,
            reuse=policy.reuse,
            token=read_token(policy.token),
            ca_file=policy.ca_file,
            timeout_s=policy.answer_s,
            encoding=policy.encoding,
        )
        await self._alive(self._stream.wait_ready(READY_S))
        self._info = await self._stream.info()
        faults = contract_faults(self._info, self.settings)
        if faults:
            raise Refusal("this policy does not fit:\n" + "\n".join(f"  - {fault}" for fault in faults))
        self.warnings = warnings(self._info, self.settings)
        frames = {name: frame.picture for name, frame in self._eyes.latest().items()}
        pictures = pictures_named(frames, self._info.cameras)
        state = resting_state(self._info.state)
        await self._alive(self._warm_up(self._stream, pictures, state))

    async def _warm_up(self, stream: AsyncPolicyStream, pictures: Any, state: Optional[List[float]]) -> None:
        """Have one frame answered; the first one may take longer than the rest. Raises Refusal and PolicyError."""
        until_s = now_s() + WARM_UP_S
        while True:
            try:
                await stream.act(pictures, "warm up", unnorm_key=self.settings.policy.unnorm_key, state=state)
            except MAY_PASS as error:
                if now_s() > until_s:
                    raise Refusal(
                        f"no first answer within {WARM_UP_S:g} s: {error} (policy.answer_s is "
                        f"{self.settings.policy.answer_s:g}; a slower policy needs more)"
                    ) from error
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _arm(self) -> None:
        self.streamer.reasons.clear()
        self.streamer.link.order("arm")
        refused = "the arm was not armed"
        await self._until(lambda: self._state() is State.READY or self._was_refused(), ARM_S, refused)
        if self._state() is not State.READY:
            raise Refusal("; ".join(self.streamer.reasons) or refused)

    async def _come_to_rest(self, outcome: Outcome) -> Outcome:
        """Wait for it. A streamer that a signal has ended too is no fault, if it said that the arm is at rest."""
        try:
            await self._until(self._is_at_rest, REST_S, "the arm was not at rest")
        except (Refusal, StreamerFailed) as error:
            if not self._is_at_rest():
                return replace(outcome, reason=f"{outcome.reason}; {error}", fault=True)
        return outcome

    def _was_refused(self) -> bool:
        return any("not armed" in reason for reason in self.streamer.reasons)

    def _state(self) -> Optional[State]:
        return None if self.streamer.status is None else self.streamer.status.state

    def _is_at_rest(self) -> bool:
        return self.streamer.status is not None and self.streamer.status.at_rest

    async def _until(self, true: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        """Wait for it, with heartbeats. Raises Refusal where it takes too long."""
        until_s = now_s() + timeout_s
        while now_s() < until_s:
            self.streamer.link.heartbeat()
            self.streamer.poll()
            if true():
                return
            await asyncio.sleep(HEARTBEAT_S / 3)
        raise Refusal(
            f"{otherwise} within {timeout_s:g} s: {'; '.join(self.streamer.reasons[-3:]) or 'it said nothing'}"
        )

    async def _alive(self, call: object) -> None:
        """Await a call of the policy with heartbeats. Raises what it raises."""
        task = asyncio.ensure_future(call)  # type: ignore[call-overload]
        while not task.done():
            self.streamer.link.heartbeat()
            self.streamer.poll()
            await asyncio.wait([task], timeout=HEARTBEAT_S)
        task.result()

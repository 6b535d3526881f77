from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fault_kit.policy import STATS, MovingPolicy
from fault_kit.robot import FaultySource
from fault_kit.switches import Switches

from stillframe.testing import policy_info, running, state_info
from stillframe_client.errors import PolicyError
from stillframe_client.jaco2.bridge import session, streamer_process
from stillframe_client.jaco2.bridge.session import Bridge, Refusal
from stillframe_client.jaco2.bridge.streamer_process import TICKS, StreamerFailed
from stillframe_client.jaco2.cameras import replay
from stillframe_client.jaco2.cameras.base import CameraError
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings

pytestmark = pytest.mark.process
Chosen = Callable[..., BridgeSettings]


@pytest.fixture
def switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Switches:
    """A camera, and an arm, that can fail."""
    (tmp_path / "switches").mkdir()
    made = Switches(tmp_path / "switches")
    monkeypatch.setattr(replay, "make", lambda settings, bridge: FaultySource(made))  # noqa: ARG005
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "faults"), prepend=":")
    monkeypatch.setattr(streamer_process, "PROGRAM", ("-m", "fault_kit.streamer", str(tmp_path / "switches")))
    return made


@pytest.fixture
def policy() -> MovingPolicy:
    """What the daemon serves."""
    return MovingPolicy()


@pytest.fixture
def settings(policy: MovingPolicy, chosen: Chosen) -> Iterator[BridgeSettings]:
    """A bridge to a daemon of this process."""
    with running(policy) as url:
        yield chosen(
            policy={"url": url}, limits={"speed": 1.0}, cameras={"front": CameraSettings(kind="replay", resize=0)}
        )


def opened(settings: BridgeSettings, folder: Path) -> None:
    """Open a bridge, and close it."""

    async def open_it() -> None:
        async with Bridge(settings, folder):
            pass

    asyncio.run(open_it())


def nothing_moved(folder: Path) -> bool:
    """Whether the arm was never armed, and nothing was sent."""
    lines = [json.loads(line) for line in (folder / TICKS).read_text().splitlines()[1:]]
    return all(line["state"] == "DISARMED" and "sent" not in line for line in lines)


def test_two_episodes_one_after_the_other(settings: BridgeSettings, switches: Switches, tmp_path: Path) -> None:
    """Each is armed, moves, and comes to rest; the bridge stays open between them."""
    del switches

    async def play() -> None:
        async with Bridge(settings, tmp_path) as bridge:
            for number in range(2):
                outcome = await bridge.play(
                    "move", lambda: "enough" if bridge.episode and bridge.episode.answers > 3 else None
                )
                assert outcome.reason == "enough", number
                assert not outcome.fault
                assert bridge.streamer.status is not None
                assert bridge.streamer.status.at_rest
                bridge.episode = None

    asyncio.run(play())
    lines = [json.loads(line) for line in (tmp_path / TICKS).read_text().splitlines()[1:]]
    assert sum("stop" in line.get("calls", ()) for line in lines) == 2


def test_an_operator_who_stopped_before_arms_nothing(
    settings: BridgeSettings, switches: Switches, tmp_path: Path
) -> None:
    """An episode that is over before it begins does not arm."""
    del switches

    async def play() -> None:
        async with Bridge(settings, tmp_path) as bridge:
            assert (await bridge.play("move", lambda: "stopped by a key")).reason == "stopped by a key"
            assert bridge.streamer.status is not None
            assert bridge.streamer.status.state is State.DISARMED

    asyncio.run(play())
    assert nothing_moved(tmp_path)


def test_a_policy_that_does_not_fit_is_refused(
    policy: MovingPolicy, settings: BridgeSettings, switches: Switches, tmp_path: Path
) -> None:
    """With all that is wrong, before the arm is armed."""
    del switches
    policy.info = policy_info(name="other", gripper="1 = closed", cameras=("left", "right"))

    with pytest.raises(Refusal, match=r"(?s)this policy does not fit:.*left, right.*1 = closed"):
        opened(settings, tmp_path)
    assert nothing_moved(tmp_path)


def test_a_daemon_that_is_not_there_is_refused(
    settings: BridgeSettings, switches: Switches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while in which it could have been starting."""
    del switches
    monkeypatch.setattr(session, "READY_S", 0.3)

    with pytest.raises(PolicyError, match=r"No answer within 0\.3 s"):
        opened(replace(settings, policy=replace(settings.policy, url="http://127.0.0.1:9")), tmp_path)
    assert nothing_moved(tmp_path)


def test_a_first_answer_that_fails_is_refused(
    policy: MovingPolicy, settings: BridgeSettings, switches: Switches, tmp_path: Path
) -> None:
    """A policy that answers NaN drives nothing."""
    del switches
    policy.actions = policy.echo(None) * float("nan")  # type: ignore[arg-type]

    with pytest.raises(PolicyError, match="non-finite-action"):
        opened(settings, tmp_path)
    assert nothing_moved(tmp_path)


def test_the_first_frame_has_a_state_where_one_is_read(chosen: Chosen, switches: Switches, tmp_path: Path) -> None:
    """That of an arm at home, in the policy's order: without one it would be refused, and nothing would begin."""
    del switches
    info = policy_info(name="mover", norm_stats={"robot": STATS}, state=state_info("opening", "tool_y", unit=""))
    policy = MovingPolicy(info)
    with running(policy) as url:
        cameras = {"front": CameraSettings(kind="replay", resize=0)}
        opened(chosen(policy={"url": url}, limits={"speed": 1.0}, cameras=cameras), tmp_path)

    assert [None if one.state is None else one.state.tolist() for one in policy.seen] == [[1.0, 0.0]]


def test_a_slow_first_answer_is_waited_for(
    policy: MovingPolicy, settings: BridgeSettings, switches: Switches, tmp_path: Path
) -> None:
    """The first may take longer than policy.answer_s, as a cold policy's does."""
    del switches
    policy.delay_s = 0.8

    async def open_it() -> None:
        quick = replace(settings, policy=replace(settings.policy, answer_s=0.5))
        bridge = Bridge(quick, tmp_path)
        asyncio.get_running_loop().call_later(2.0, setattr, policy, "delay_s", 0.0)
        async with bridge:
            assert bridge.is_open

    asyncio.run(open_it())


def test_a_policy_that_is_always_too_slow_is_refused(
    policy: MovingPolicy,
    settings: BridgeSettings,
    switches: Switches,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the setting that would let it in."""
    del switches
    policy.delay_s = 0.8
    monkeypatch.setattr(session, "WARM_UP_S", 0.2)

    with pytest.raises(Refusal, match=r"no first answer within 0\.2 s: .* \(policy\.answer_s is 0\.5; a slower policy"):
        opened(replace(settings, policy=replace(settings.policy, answer_s=0.5)), tmp_path)
    assert nothing_moved(tmp_path)


def test_actions_that_last_too_long_are_refused(settings: BridgeSettings, tmp_path: Path) -> None:
    """A rate and a speed at which one action lasts longer than a step may: before anything is started."""
    slow = replace(
        settings,
        policy=replace(settings.policy, hz=1.0),
        limits=replace(settings.limits, speed=0.25),
    )

    with pytest.raises(Refusal, match=r"an action would last 4\.00 s at policy\.hz 1 and limits\.speed 0\.25"):
        opened(slow, tmp_path)
    assert not (tmp_path / TICKS).exists()


def test_a_camera_that_is_gone_is_refused(settings: BridgeSettings, switches: Switches, tmp_path: Path) -> None:
    """Before the streamer is started."""
    switches.on("camera unusable")

    with pytest.raises(CameraError, match=r"cameras\.front: a picture of another size"):
        opened(settings, tmp_path)
    assert not (tmp_path / TICKS).exists()


def test_an_arm_that_cannot_be_reached_is_refused(
    settings: BridgeSettings, switches: Switches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the streamer's last words."""
    del switches
    program = "import sys; sys.stderr.write('nothing listens at ws://127.0.0.1:9090\\n'); sys.exit(3)"
    monkeypatch.setattr(streamer_process, "PROGRAM", ("-c", program))

    with pytest.raises(StreamerFailed, match="the streamer has ended: nothing listens at ws"):
        opened(settings, tmp_path)


def test_an_arm_whose_pose_is_old_is_not_armed(settings: BridgeSettings, switches: Switches, tmp_path: Path) -> None:
    """The refusal says why, and nothing has moved."""

    async def play() -> None:
        async with Bridge(settings, tmp_path) as bridge:
            switches.on("arm mute")
            await asyncio.sleep(0.8)
            with pytest.raises(Refusal, match="not armed: the arm's pose is old"):
                await bridge.play("move", lambda: None)

    asyncio.run(play())
    assert nothing_moved(tmp_path)

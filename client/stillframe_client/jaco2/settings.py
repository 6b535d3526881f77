"""What can be set of the bridge, section by section. One schema: the file, --print-config and the docs are made of it.

Knows no file format (config.py) and does nothing. No range of a limit goes beyond ceilings.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from stillframe_client.jaco2 import ceilings
from stillframe_client.jaco2.settings_fields import RangeChecked, setting

ARMS = ("sim", "mujoco", "rosbridge", "rospy", "kinova_sdk")
SIMULATED = ("sim", "mujoco")
BLENDS = ("none", "linear", "adaptive")  # of chunk_plan.py, which the streamer does not import
CAMERAS = ("opencv", "realsense", "ros", "replay", "mujoco")
FAR_M = ceilings.REACH_M


@dataclass(frozen=True)
class PolicySettings(RangeChecked):
    """Where the actions come from, and what they mean."""

    url: str = setting("http://127.0.0.1:8000", "the daemon's address")
    instruction: str = setting("", "what the robot is to do; may be given as --instruction")
    token: Optional[str] = setting(None, "a file that holds the token shown to the daemon; none: no token")
    ca_file: Optional[str] = setting(None, "PEM file with the certificates to trust on https")
    unnorm_key: Optional[str] = setting(None, "statistics that scale the actions; none: the daemon's default")
    reuse: Optional[str] = setting(
        None, "off, exact, adaptive, paper, static-only, fastv, sparsevlm or tome; none: as the daemon is set"
    )
    mode: str = setting("lockstep", "one frame at a time, or a stream of the newest", choices=("lockstep", "realtime"))
    hz: float = setting(10.0, "rate of the data that the policy learned from: an action is a movement of 1/hz s", 1, 30)
    execute: int = setting(0, "of a chunk: actions played before the next one; 0: as the daemon advises", 0, 1024)
    blend: str = setting("none", "realtime: steps of which older chunks spoke too", choices=BLENDS)
    encoding: str = setting("jpeg", "how pictures travel", choices=("raw", "png", "jpeg"))
    answer_s: float = setting(2.0, "after so long without an answer the episode pauses", 0.05, 10)
    give_up_s: float = setting(10.0, "after so long without one it ends", 0.5, 60)
    answer_age_s: float = setting(0.5, "an answer to an older frame is not played", 0.05, ceilings.SETPOINT_S)


@dataclass(frozen=True)
class CameraSettings(RangeChecked):
    """One camera, and how its pictures become what the policy was trained on."""

    kind: str = setting("opencv", "where the pictures come from", choices=CAMERAS)
    source: str = setting("0", "device number or path, serial number, topic, folder or file, or the camera's name")
    width: int = setting(640, "as asked of the device; a picture of another size is refused", 16, 8192)
    height: int = setting(480, "likewise", 16, 8192)
    fps: float = setting(30.0, "likewise", 1, 240)
    fourcc: str = setting("", "pixel format of an opencv camera, such as MJPG; empty: the device's choice")
    rotate: int = setting(0, "degrees clockwise, before cropping", choices=(0, 90, 180, 270))
    crop: Tuple[float, ...] = setting((0.0, 0.0, 1.0, 1.0), "left, top, right, bottom as shares of the picture", 0, 1)
    resize: int = setting(224, "pixels of a side, as sent; 0: as it is after cropping", 0, 2048)
    age_s: float = setting(0.3, "an older picture is not sent, and the arm holds", 0.02, 2)
    frozen_s: float = setting(1.0, "the same bytes for so long: frozen; 0: not looked at (replay, simulation)", 0, 60)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.crop) != 4 or self.crop[0] >= self.crop[2] or self.crop[1] >= self.crop[3]:
            raise ValueError(f"crop is {self.crop}; expected left, top, right, bottom with left < right, top < bottom")


@dataclass(frozen=True)
class ArmSettings(RangeChecked):
    """Which arm, and how to reach it."""

    kind: str = setting("sim", "how the arm is commanded", choices=ARMS)
    name: str = setting("j2n6s300", "robot name, as in the driver's topics; the first run's record is kept by it")
    url: str = setting("ws://127.0.0.1:9090", "of rosbridge_server")
    prefix: str = setting("", "before the driver's name in every topic, such as /left")
    ros: int = setting(1, "1 or 2: how message types are written", choices=(1, 2))
    command: str = setting(
        "with_fingers", "message: PoseVelocityWithFingers or PoseVelocity", choices=("with_fingers", "arm_only")
    )
    angular_frame: str = setting(
        "tool", "in which the driver takes rotations: frame-check shows which it is", choices=("tool", "base")
    )
    finger_turns: float = setting(6800.0, "reading of a closed finger", 1000, 7500)
    library: str = setting("", "path of the vendor's USB or Ethernet command library (kinova_sdk)")
    socket: str = setting("", "of a simulated world that runs already; empty: one is started (mujoco)")
    loss: float = setting(0.0, "of sim: share of commands that get lost", 0, 1)
    under_travel: float = setting(0.17, "of sim: share of a commanded movement that is not made", 0, 0.9)


@dataclass(frozen=True)
class MotionSettings(RangeChecked):
    """How an action becomes motion."""

    base_yaw_deg: float = setting(0.0, "turns the policy's frame into the arm's base frame, about z", -180, 180)
    rotation_frame: str = setting("base", "of the policy's rotations", choices=("base", "tool"))
    rotation: str = setting(
        "rotation_vector", "how three numbers are a rotation", choices=("rotation_vector", "euler_xyz")
    )
    feedback_1_s: float = setting(1.5, "pull towards where the tool should be; 0: open loop", 0, 4)
    windup_m: float = setting(0.03, "the tool's lag is made up for up to here", 0.005, 0.10)
    windup_rad: float = setting(0.2, "likewise", 0.02, 0.6)
    gripper: str = setting("binary", "with hysteresis, or as it comes", choices=("binary", "continuous"))
    close_below: float = setting(0.4, "the hand closes when the policy's gripper falls below", 0.05, 0.95)
    open_above: float = setting(0.6, "and opens when it rises above", 0.05, 0.95)
    votes: int = setting(1, "after so many actions in a row that say so", 1, 10)
    open_percent: float = setting(0.0, "closure of an open hand", 0, 100)
    closed_percent: float = setting(100.0, "closure of a closed hand", 0, 100)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.close_below > self.open_above:
            raise ValueError(
                f"close_below is {self.close_below} and open_above {self.open_above}; expected them the other way round"
            )


@dataclass(frozen=True)
class LimitSettings(RangeChecked):
    """What the arm never exceeds, whatever it is asked. In the base frame."""

    speed: float = setting(0.25, "share of all speeds, the policy's rate included; the first run is at 0.25", 0.05, 1)
    linear_m_s: float = setting(0.10, "of the tool", 0.01, ceilings.LINEAR_M_S)
    angular_rad_s: float = setting(0.5, "of the tool", 0.05, ceilings.ANGULAR_RAD_S)
    linear_m_s2: float = setting(0.4, "acceleration", 0.05, ceilings.LINEAR_M_S2)
    angular_rad_s2: float = setting(2.0, "acceleration", 0.2, ceilings.ANGULAR_RAD_S2)
    linear_m_s3: float = setting(0.0, "jerk; 0: not limited, else from five times linear_m_s2", 0, 100)
    low_m: Tuple[float, ...] = setting((-0.5, -0.7, 0.03), "corner of the box that the tool stays in", -FAR_M, FAR_M)
    high_m: Tuple[float, ...] = setting((0.5, -0.15, 0.6), "the other corner", -FAR_M, FAR_M)
    floor_m: float = setting(0.03, "the table: the tool stays above", -FAR_M, FAR_M)
    column_m: float = setting(0.15, "the tool stays so far from the base's axis; 0: not limited", 0, 0.5)
    latency_s: float = setting(0.1, "a command takes so long to reach the arm", 0.02, 0.5)
    step_m: float = setting(0.05, "an action that moves further is refused", 0.005, ceilings.STEP_M)
    step_rad: float = setting(0.3, "an action that turns further is refused", 0.02, ceilings.STEP_RAD)

    def __post_init__(self) -> None:
        super().__post_init__()
        corners = (self.low_m, self.high_m)
        if any(len(corner) != 3 for corner in corners) or any(a >= b for a, b in zip(*corners)):  # noqa: B905
            raise ValueError(f"low_m is {self.low_m} and high_m {self.high_m}; expected three numbers each, low < high")
        least = 2 * self.linear_m_s2 / ceilings.SMOOTHED_S
        if 0 < self.linear_m_s3 < least:
            raise ValueError(
                f"linear_m_s3 is {self.linear_m_s3} with linear_m_s2 {self.linear_m_s2}; expected 0, or {least:g} "
                f"or more: less would keep commands back for over {ceilings.SMOOTHED_S:g} s"
            )
        if self.floor_m >= self.high_m[2]:
            raise ValueError(f"floor_m is {self.floor_m} and the box ends at {self.high_m[2]}; expected it to be lower")


@dataclass(frozen=True)
class WatchSettings(RangeChecked):
    """When the arm comes to rest by itself. Seconds."""

    heartbeat_hold_s: float = setting(0.15, "the bridge is silent: hold", 0.05, 0.5)
    heartbeat_fault_s: float = setting(1.0, "and then fault", 0.1, ceilings.HEARTBEAT_AGE_S)
    pose_hold_s: float = setting(0.5, "the arm's pose is so old: hold", 0.1, 1)
    pose_fault_s: float = setting(1.5, "and then fault", 0.2, ceilings.POSE_AGE_S)
    hold_fault_s: float = setting(15.0, "a hold that lasts so long is a fault", 0.5, 120)
    stall_s: float = setting(1.0, "over so long, commanded to move and not moving is a fault", 0.3, 5)
    stall_m: float = setting(0.03, "commanded movement that has to show", 0.01, 0.2)
    stall_rad: float = setting(0.3, "commanded rotation that has to show", 0.1, 2)
    stall_share: float = setting(0.2, "of which at least so much is seen", 0.02, 0.9)
    jump_m: float = setting(
        0.05, "between two reports the pose may be so much further off than the speed allows", 0.01, 0.2
    )
    jump_rad: float = setting(0.5, "likewise", 0.1, 2)


@dataclass(frozen=True)
class RecordSettings(RangeChecked):
    """What is written of a run."""

    folder: str = setting("runs/jaco2", "a folder is made in it for each run")
    pictures: str = setting("first", "which pictures are kept, as JPEG", choices=("none", "first", "all"))


@dataclass(frozen=True)
class BridgeSettings:
    """Everything."""

    policy: PolicySettings = field(default_factory=PolicySettings)
    cameras: Mapping[str, CameraSettings] = field(default_factory=lambda: {"front": CameraSettings()})  # policy's names
    arm: ArmSettings = field(default_factory=ArmSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)
    record: RecordSettings = field(default_factory=RecordSettings)


SECTIONS: Mapping[str, Any] = {
    "policy": PolicySettings,
    "arm": ArmSettings,
    "motion": MotionSettings,
    "limits": LimitSettings,
    "watch": WatchSettings,
    "record": RecordSettings,
}  # and cameras: name -> CameraSettings

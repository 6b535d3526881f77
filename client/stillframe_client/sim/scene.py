"""Builds the world: a Jaco2 on a wooden table, three cubes, a front and a wrist camera.

Knows no control and no task; the numbers are those that made grasps hold and a cube 21 pixels wide.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe_client.sim.engine import mujoco
from stillframe_client.sim.state import COLOURS, CUBE_HALF_M

TIMESTEP_S = 0.004
ARM_JOINTS = tuple(f"arm_joint_{i}" for i in range(1, 7))
FINGER_JOINTS = tuple(f"arm_hand_finger_{i}" for i in range(1, 4))
TOOL_SITE = "arm_hand_tool"
TOOL_IN_HAND_M = (0.0, 0.0024, -0.185)
WRIST_EYE_M = (-0.11, 0.0, -0.06)
FRONT_EYE_M = (1.02, 0.0, 0.74)
CAMERAS = {"front": "front", "wrist": "arm_hand_wrist"}  # our name -> the model's
CUBE_RGB = {"red": (0.80, 0.08, 0.08), "green": (0.08, 0.62, 0.12), "blue": (0.08, 0.18, 0.82)}
FINGERTIP_RGB = (0.98, 0.82, 0.05)


def build(jaco: Path) -> Any:
    """Compile the MjModel from the Jaco's folder."""
    spec = arm_at_table(jaco)
    for index, colour in enumerate(COLOURS):
        _add_cube(spec, colour, x_m=0.42, y_m=0.16 * (index - 1))
    return spec.compile()


def arm_at_table(jaco: Path) -> Any:
    """The MjSpec of arm, empty table and cameras, for scenes to put things on."""
    spec = mujoco.MjSpec()
    spec.modelname = "jaco2_table"
    _set_physics(spec)
    _set_look(spec)
    _add_furniture(spec)
    _add_robot(spec, jaco)
    return spec


def _set_physics(spec: Any) -> None:
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    spec.compiler.degree = False


def _set_look(spec: Any) -> None:
    spec.visual.quality.offsamples = 4
    spec.visual.headlight.ambient = (0.45, 0.45, 0.45)
    spec.visual.headlight.diffuse = (0.25, 0.25, 0.25)
    spec.visual.headlight.specular = (0, 0, 0)
    spec.visual.map.znear = 0.02
    wood = wood_grain(np.random.default_rng(7))
    height_px, width_px, channels = wood.shape
    texture = spec.add_texture(name="wood", type=mujoco.mjtTexture.mjTEXTURE_2D, nchannel=channels)
    texture.width, texture.height, texture.data = width_px, height_px, wood.tobytes()
    textures = [""] * int(mujoco.mjtTextureRole.mjNTEXROLE)
    textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = "wood"
    spec.add_material(name="wood", textures=textures, texrepeat=(1, 1), specular=0, reflectance=0)


def wood_grain(rng: np.random.Generator, size_px: int = 512, planks: int = 10) -> NDArray[np.uint8]:
    """Draw the table's planks: [size, size, 3] in muted brown-grey, uneven enough that no two patches are equal."""
    u, v = np.meshgrid(np.arange(size_px) / size_px, np.arange(size_px) / size_px)
    plank = np.minimum((v * planks).astype(int), planks - 1)
    tone = rng.uniform(-0.045, 0.045, planks)[plank]
    bend = 0.01 * np.sin(2 * np.pi * (u * 2 + rng.uniform(0, 1, planks)[plank]))
    grain = 0.028 * np.sin(2 * np.pi * (v + bend) * planks * 4 + rng.uniform(0, 6, planks)[plank])
    seam = np.where((v * planks) % 1 < 0.04, -0.10, 0.0)
    knots = rng.normal(0, 0.012, (size_px // 8, size_px // 8)).repeat(8, 0).repeat(8, 1)
    light = 1 + tone + grain + seam + knots  # [size, size]
    colour = 255 * light[..., None] * np.array([0.63, 0.57, 0.50])
    return np.asarray(np.clip(colour, 0, 255), np.uint8)


def _add_furniture(spec: Any) -> None:
    world = spec.worldbody
    world.add_light(pos=(0.6, 0.3, 1.6), dir=(-0.15, -0.2, -1), diffuse=(0.45, 0.45, 0.45), castshadow=False)
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, pos=(0, 0, -0.75), size=(3, 3, 0.1), rgba=(0.32, 0.34, 0.37, 1)
    )
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, pos=(0.35, 0, -0.02), size=(0.55, 0.6, 0.02), material="wood",
        friction=(1, 0.005, 0.0001),
    )  # fmt: skip
    world.add_camera(name="front", pos=FRONT_EYE_M, quat=_looking_at(FRONT_EYE_M, (0.40, 0, 0.085)), fovy=40)


def _looking_at(eye_m: tuple[float, float, float], target_m: tuple[float, float, float]) -> NDArray[np.float64]:
    """Quaternion [4] of a camera, which looks along its own -z with y up, without roll."""
    back = np.subtract(eye_m, target_m) / np.linalg.norm(np.subtract(eye_m, target_m))
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(back, right), back], axis=1)  # [3, 3], columns
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, axes.ravel())
    return quat


def _add_robot(spec: Any, jaco: Path) -> None:
    arm = mujoco.MjSpec.from_file(str(jaco / "jaco_arm.xml"))
    hand = mujoco.MjSpec.from_file(str(jaco / "jaco_hand.xml"))
    palm = hand.body("hand")
    palm.add_site(name="tool", pos=TOOL_IN_HAND_M, quat=(0, 1, 0, 0), group=4)
    # On the hand's base side, outside its shell, looking past the fingers at what they will grasp.
    palm.add_camera(name="wrist", pos=WRIST_EYE_M, quat=_looking_at(WRIST_EYE_M, TOOL_IN_HAND_M), fovy=75)
    _paint(arm, hand)
    arm.attach(hand, site=arm.site("wristsite"), prefix="hand_")
    spec.attach(arm, frame=spec.worldbody.add_frame(), prefix="arm_")
    for body in spec.bodies:
        body.gravcomp = 1
    for joint in ARM_JOINTS:
        _add_motor(spec, joint, kp=2000, kv=250, force=None)
    for joint in FINGER_JOINTS:
        _add_motor(spec, joint, kp=12, kv=0.6, force=4)


def _paint(arm: Any, hand: Any) -> None:
    """Dark arm, bright fingertips: a policy has to read height and opening off the picture."""
    arm.material("light_gray").rgba = (0.28, 0.28, 0.30, 1)
    hand.material("light_gray").rgba = (0.28, 0.28, 0.30, 1)
    for finger in (1, 2, 3):
        tip = hand.geom(f"finger_tip_{finger}")
        tip.material = ""
        tip.rgba = (*FINGERTIP_RGB, 1)


def _add_motor(spec: Any, joint: str, kp: float, kv: float, force: float | None) -> None:
    """Add a position servo: N m per rad, N m s per rad, N m (None: without limit)."""
    motor = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    motor.set_to_position(kp=kp, kv=kv)
    if force is not None:
        motor.forcelimited, motor.forcerange = True, (-force, force)


def _add_cube(spec: Any, colour: str, x_m: float, y_m: float) -> None:
    body = spec.worldbody.add_body(name=colour, pos=(x_m, y_m, CUBE_HALF_M))
    body.add_freejoint(name=colour)
    body.add_geom(
        name=colour, type=mujoco.mjtGeom.mjGEOM_BOX, size=(CUBE_HALF_M,) * 3, mass=0.06, condim=4,
        friction=(1.2, 0.01, 0.001), rgba=(*CUBE_RGB[colour], 1),
    )  # fmt: skip
